"""A client's connection: one request after another, each with a fresh parser state.

The connection reads heads and hands each to an exchange (see `exchange`). What arrives behind one
request stays in `_buffer` for the next, so requests that come at once are kept apart. Heads are
read under an absolute deadline, not one per read: a byte every few seconds buys nobody time.

It ends in one of three ways. Politely, when the client closes between requests, waits too long, or
the server drains. With a lingering close, when an answer was sent while more of the request was
under way: closing at once would make the kernel reset the connection and could take the answer
away from the client (RFC 9112 section 9.6). With a reset, when an answer has been cut short.
"""

import socket

import httpcore
import trio

from swproxy.proxy.exchange import Exchange
from swproxy.proxy.failure import DownstreamGone
from swproxy.proxy.pump import Endpoint
from swproxy.proxy.stream import SocketStream
from swproxy.proxy.syntax import RequestHead, check_beginning, parse_head
from swproxy.proxy.worker import Worker
from swproxy.sw1.refusal import Refusal

__all__ = ["Connection"]

_LINGER_SECONDS = 5.0
_LINGER_BYTES = 1 << 20
"""How long, and for how many bytes, a client may go on sending after its answer (nginx: 5 s)."""


class Connection:
    """One client's connection, from the first byte to the last."""

    def __init__(self, worker: Worker, stream: SocketStream, client: str) -> None:
        self.worker = worker
        self.stream = stream
        self.client = client
        self.endpoint: Endpoint
        self._buffer = b""
        self._idle: trio.CancelScope | None = None
        self._draining = False
        self._cut = False

    async def serve(self) -> None:
        """Serve until the connection is over, and close it."""
        self.endpoint = self.worker.pump.attach(self.stream.socket)
        self.worker.connections.add(self)
        try:
            if await self._serve_requests():
                await self._linger()
        except (httpcore.ReadError, httpcore.WriteError, httpcore.WriteTimeout):
            self._cut = True
        except BaseException:
            self._cut = True
            raise
        finally:
            self.worker.connections.discard(self)
            self.worker.pump.detach(self.endpoint)
            if self._cut:
                self.stream.abort()
            else:
                self.stream.close()

    async def _serve_requests(self) -> bool:
        """Serve requests; return whether the client may still be sending one."""
        first = True
        while True:
            try:
                head = await self._read_head(first=first)
            except Refusal as refusal:
                await Exchange(self, None).refuse(refusal)
                return True
            if head is None:
                return False
            exchange = Exchange(self, head)
            try:
                await exchange.run()
            except DownstreamGone:
                self._cut = True
                return False
            if exchange.cut:
                self._cut = True
                return False
            if not exchange.keep_alive:
                return not exchange.request_ended
            first = False

    async def _read_head(self, *, first: bool) -> RequestHead | None:
        """Return the next head, or None when no further request comes.

        Raises Refusal for a head that is malformed, too large, or late.
        """
        limits = self.worker.config.limits
        if not self._buffer:
            if self._draining:
                return None
            wait = limits.head_seconds if first else limits.keepalive_seconds
            with trio.move_on_after(wait) as self._idle:
                self._buffer = await self.stream.read()
            self._idle = None
            if not self._buffer:
                return None
        if (head := self._take_head(0)) is not None:
            return head
        with trio.move_on_after(limits.head_seconds):
            while True:
                seen = len(self._buffer)
                data = await self.stream.read()
                if not data:
                    return None
                self._buffer += data
                if (head := self._take_head(seen)) is not None:
                    return head
        raise Refusal("request-timeout", "The request head did not arrive in time.")

    def _take_head(self, seen: int) -> RequestHead | None:
        """Cut a complete head off the buffer; its first `seen` bytes have been looked at before."""
        limits = self.worker.config.limits
        # RFC 9112 section 2.2: an empty line before the request line is to be ignored.
        if self._buffer.startswith(b"\r\n"):
            self._buffer = self._buffer[2:]
            seen = 0
        end = self._buffer.find(b"\r\n\r\n", max(0, seen - 3)) + 4
        if end > 3 and end <= limits.head_bytes:
            head, self._buffer = self._buffer[:end], self._buffer[end:]
            return parse_head(head, header_count=limits.header_count)
        check_beginning(self._buffer[: limits.head_bytes], seen)
        if len(self._buffer) >= limits.head_bytes:
            if b"\r\n" not in self._buffer[: limits.head_bytes]:
                raise Refusal("target-too-long", "The URL is too long.")
            raise Refusal(
                "head-too-large", f"The request head is larger than {limits.head_bytes} bytes."
            )
        return None

    async def receive(self) -> bytes:
        """Return the next bytes of the request body, b"" at the end of the stream."""
        if self._buffer:
            data, self._buffer = self._buffer, b""
            return data
        try:
            return await self.stream.read()
        except httpcore.ReadError as error:
            raise DownstreamGone from error

    def receive_now(self) -> bytes:
        """Return what has arrived already, which may be nothing."""
        data, self._buffer = self._buffer, b""
        return data or self.stream.read_now()

    async def invite(self) -> None:
        """Tell a client that waits for a 100 to send its body."""
        limits = self.worker.config.limits
        await self.stream.write(b"HTTP/1.1 100 Continue\r\n\r\n", limits.write_seconds)

    def put_back(self, data: bytes) -> None:
        """Keep bytes that belong to the next request."""
        self._buffer = data

    def drain(self) -> None:
        """Close the connection as soon as no request is under way."""
        self._draining = True
        if self._idle is not None:
            self._idle.cancel()

    @property
    def idle(self) -> bool:
        """Tell whether the connection waits between requests."""
        return self._idle is not None

    @property
    def draining(self) -> bool:
        """Tell whether this connection is to end with the present request."""
        return self._draining

    async def _linger(self) -> None:
        """Let the client finish sending, within limits, so that it can read its answer."""
        self.stream.end_tls()
        try:
            self.stream.socket.shutdown(socket.SHUT_WR)
            with trio.move_on_after(_LINGER_SECONDS):
                discarded = 0
                while discarded < _LINGER_BYTES and (data := await self.stream.read()):
                    discarded += len(data)
        except (OSError, httpcore.ReadError):
            pass  # it is gone, and with it the reason to wait
