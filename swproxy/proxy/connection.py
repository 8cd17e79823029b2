"""A client's connection: one request after another, each with a fresh parser state.

The connection reads heads and hands each to an exchange (see `exchange`). What arrives behind one
request stays in `_buffer` for the next, so requests that come at once are kept apart. Heads are
read under an absolute deadline, not one per read: a byte every few seconds buys nobody time.

It ends in one of three ways. Politely, when the client closes between requests, waits too long, or
the server drains. With a lingering close, when an answer was sent while more of the request was
under way: closing at once would make the kernel reset the connection and could take the answer
away from the client (RFC 9112 section 9.6). With a reset, when an answer has been cut short.
"""

import math

import httpcore
import trio

from swproxy.http.request import RequestHead, skip_empty_lines, take_head
from swproxy.net.failure import DownstreamGone
from swproxy.net.flow import Endpoint
from swproxy.net.stream import SocketStream
from swproxy.proxy.exchange import Exchange
from swproxy.proxy.slots import Slot, Standing
from swproxy.proxy.worker import Worker
from swproxy.sw1.refusal import Refusal

__all__ = ["Connection"]

_TOO_MANY = "Too many connections are open at once."

_FRESH_SECONDS = 2.0
"""How long a new connection is still waited for in a drain: its request may be under way, and a
client that is refused its first one does not try again, as it would on an old connection."""

_LINGER_SECONDS = 30.0
_LINGER_PAUSE_SECONDS = 5.0
"""How long a client may go on sending after its answer, and pause in it; nginx's values. What it
sends is dropped as it comes, so a client that reads only when it has sent all sees its answer."""


class Connection:
    """One client's connection, from the first byte to the last."""

    def __init__(self, worker: Worker, stream: SocketStream, client: str, slot: Slot) -> None:
        self.worker = worker
        self.stream = stream
        self.client = client
        self.slot = slot
        self.endpoint: Endpoint
        self._buffer = b""
        self._fresh = True
        self._waits_until = math.inf
        self._draining = False
        self._cut = False

    def __repr__(self) -> str:
        state = "idle" if self in self.worker.idle else "busy"
        return f"<Connection of {self.client}: {state}, {len(self._buffer)} bytes unread>"

    async def serve(self) -> None:
        """Serve until the connection is over, and close it."""
        self.endpoint = self.worker.pump.attach(self.stream.socket)
        self.worker.connections.add(self)
        try:
            if await self._serve_requests():
                self.worker.slots.linger(self.slot)
                await self._linger()
        except (httpcore.ReadError, httpcore.WriteError, httpcore.WriteTimeout):
            self._cut = True
        except Exception as error:  # noqa: BLE001 - a fault here must not take other clients down
            self._cut = True
            self.worker.observer.crashed(error)
        except BaseException:
            self._cut = True
            raise
        finally:
            self.worker.connections.discard(self)
            self.worker.idle.pop(self, None)
            self.worker.pump.detach(self.endpoint)
            if self._cut and self.slot.standing is not Standing.LINGERING:
                self.stream.abort()
            else:
                self.stream.close()

    async def _serve_requests(self) -> bool:
        """Serve requests; return whether the client may still be sending one."""
        wait = self.worker.config.limits.head_seconds
        while True:
            try:
                head = await self._read_head(wait)
            except Refusal as refusal:
                await Exchange(self.worker, self).refuse(refusal)
                return True
            if head is None:
                return False
            exchange = Exchange(self.worker, self, head)
            if not self.worker.slots.begin(self.slot, exchange.share_of):
                await exchange.refuse(Refusal("overloaded", _TOO_MANY))
                return True
            try:
                await exchange.run()
            except DownstreamGone:
                self._cut = True
                return False
            if exchange.cut:
                self._cut = True
                return False
            if not exchange.keep_alive:
                # What is unread makes the kernel reset the connection as it is closed.
                return not exchange.request_ended or bool(self.receive_now())
            self.worker.slots.end(self.slot)
            wait = self.worker.config.limits.keepalive_seconds

    async def _read_head(self, wait: float) -> RequestHead | None:
        """Return the next head, or None when none begins within `wait` seconds.

        Raises Refusal for a head that is malformed, too large, or late.
        """
        self._buffer = skip_empty_lines(self._buffer)
        if not self._buffer and not await self._wait_for_bytes(wait):
            return None
        await self.worker.turns.take()
        limits = self.worker.config.limits
        head, self._buffer = take_head(self._buffer, 0, limits)
        if head is not None:
            return head
        with trio.move_on_after(limits.head_seconds):
            while head is None:
                seen = len(self._buffer)
                data = await self.stream.read()
                if not data:
                    return None
                await self.worker.turns.take()
                head, self._buffer = take_head(self._buffer + data, seen, limits)
            return head
        raise Refusal("request-timeout", "The request head did not arrive in time.")

    async def _wait_for_bytes(self, seconds: float) -> bool:
        """Wait between requests; tell whether another one has begun."""
        if self._fresh:
            # A request comes together with its connection, or right behind it.
            self._buffer = skip_empty_lines(self.stream.read_now())
        if self._draining:
            seconds = min(seconds, _FRESH_SECONDS) if self._fresh else 0
        if not self._buffer:
            self._waits_until = trio.current_time() + seconds
            with trio.CancelScope() as self.worker.idle[self]:
                if not seconds:
                    self.worker.idle[self].cancel()
                while not self._buffer and (data := await self.stream.read()):
                    self._buffer = skip_empty_lines(data)
            self.worker.idle.pop(self, None)
        self._fresh = False
        if not self._buffer and self._draining:
            # What came just as the wait was called off is answered all the same.
            self._buffer = skip_empty_lines(self.stream.read_now())
        return bool(self._buffer)

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
        try:
            await self.stream.write(b"HTTP/1.1 100 Continue\r\n\r\n", limits.write_seconds)
        except (httpcore.WriteError, httpcore.WriteTimeout) as error:
            raise DownstreamGone from error

    def put_back(self, data: bytes) -> None:
        """Keep bytes that belong to the next request."""
        self._buffer = data

    def drain(self) -> None:
        """Close the connection as soon as no request is under way, nor about to come."""
        self._draining = True
        wait = self.worker.idle.get(self)
        if wait is not None and self._fresh:
            self._waits_until = min(self._waits_until, trio.current_time() + _FRESH_SECONDS)
        elif wait is not None:
            wait.cancel()

    def sweep(self, now: float) -> None:
        """See Drainable."""
        if now >= self._waits_until:
            self.worker.idle[self].cancel()

    def give_way(self, scope: trio.CancelScope) -> None:
        """Make room for another: politely where there is no request, else by cancelling `scope`."""
        wait = self.worker.idle.pop(self, None)
        self._draining = True
        (wait or scope).cancel()

    def prove(self) -> None:
        """Take note that the request is verified. Raises Refusal where this has to make room."""
        if not self.worker.slots.prove(self.slot):
            raise Refusal("overloaded", _TOO_MANY)

    @property
    def draining(self) -> bool:
        """Tell whether this connection is to end with the present request."""
        return self._draining

    async def _linger(self) -> None:
        """Let the client finish sending, within limits, so that it can read its answer."""
        await self.stream.linger(_LINGER_SECONDS, _LINGER_PAUSE_SECONDS)
