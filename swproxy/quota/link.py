"""A connection to a Redis or Valkey server that many tasks share.

Commands are written in the order in which they are asked, without waiting for each other's answers,
and answers come in the same order. So whoever is asking needs no connection of its own, and may be
cancelled at any moment: its answer is dropped when it comes. One task writes and one reads; both
belong to the link, and no request's cancellation touches them.

How long a server may take is measured by what it does, not by when this process comes to look: with
a thousand requests arriving at once the loop comes late to write a question, and to read an answer
that has long been there. To take that for the server's fault would refuse calls for nothing.

A connection that fails fails all who wait for it; whoever serves the link makes the next. hiredis
reads the protocol; what is here is only who waits for what.
"""

import math
import select
import ssl
from collections import deque
from typing import Any

import hiredis
import trio

__all__ = ["Answer", "Link", "LinkBroken", "LinkSlow", "ServerError", "connect"]

_READ_BYTES = 65536

_MOST_DUE = 20_000
"""Answers that may be due at once; with more, the server hangs and nobody has noticed yet."""

_CLOSE_SECONDS = 1.0

_LATE_SECONDS = 0.01
_MOST_LATE_SECONDS = 1.0
"""How long at a time, and altogether, it is waited for this process to catch up."""


class LinkBroken(Exception):  # noqa: N818 - a state, as LedgerDown is
    """The connection could not be made, or was lost. `str` is for the log."""


class LinkSlow(LinkBroken):
    """The server did not answer in time; it may do so yet."""


class ServerError(Exception):
    """The server answered that it can't; `code` is the first word of what it said."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code, _, self.rest = text.partition(" ")


class Answer:
    """What a server will have said to a command."""

    __slots__ = ("_came", "_value", "sent")

    def __init__(self) -> None:
        self.sent = math.inf
        """when the command was handed to the socket (trio's clock)"""
        self._came = trio.Event()
        self._value: Any = None

    @property
    def came(self) -> bool:
        """Whether it is there."""
        return self._came.is_set()

    def come(self, value: object) -> None:
        """Take the answer, or why there will be none."""
        self._value = value
        self._came.set()

    async def wait(self) -> Any:
        """Return the answer. Raises LinkBroken, ServerError."""
        await self._came.wait()
        if isinstance(self._value, hiredis.ReplyError):
            raise ServerError(str(self._value))
        if isinstance(self._value, Exception):
            raise LinkBroken(str(self._value))
        return self._value


class Link:
    """One connection, over a stream that is its own. `serve` it as long as it is used."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._reader = hiredis.Reader()
        self._due: deque[Answer] = deque()
        self._unsent: list[tuple[Answer, bytes]] = []
        self._writing_since = math.inf
        self._readable = select.poll()
        self._readable.register(_socket(stream), select.POLLIN)
        self._wake = trio.Event()
        self.ended = trio.Event()
        """set when nothing can be asked any more"""
        self.why = ""
        """why that is"""

    def send(self, *command: str | bytes) -> Answer:
        """Send a command as soon as the socket takes it. Raises LinkBroken."""
        if self.why or len(self._due) >= _MOST_DUE:
            raise LinkBroken(self.why or "the server does not answer")
        answer = Answer()
        self._due.append(answer)
        # hiredis's stub says a tuple of one; any length is meant.
        self._unsent.append((answer, hiredis.pack_command(command)))  # type: ignore[arg-type]
        self._wake.set()
        return answer

    async def ask(self, *command: str | bytes, seconds: float) -> Any:
        """Send a command and return its answer. Raises LinkBroken, LinkSlow, ServerError."""
        answer = self.send(*command)
        wait, last = seconds, trio.current_time() + seconds + _MOST_LATE_SECONDS
        while True:
            with trio.move_on_after(wait):
                return await answer.wait()
            if not self._is_late(answer, seconds) or trio.current_time() > last:
                raise LinkSlow("the store did not answer in time")
            wait = _LATE_SECONDS

    def _is_late(self, answer: Answer, seconds: float) -> bool:
        """Tell whether it is this process that has something to write, or to read."""
        # Behind a command that the server does not take, it is the server's fault.
        asked = min(answer.sent, self._writing_since)
        asked_just_now = trio.current_time() < asked + seconds
        return asked_just_now or answer.came or bool(self._readable.poll(0))

    def end(self, why: str) -> None:
        """Have nothing asked any more, and fail all who wait for an answer."""
        self.why = self.why or why
        self.ended.set()
        while self._due:
            self._due.popleft().come(LinkBroken(self.why))

    async def serve(self) -> None:
        """Write and read until the connection ends or `end` is called; close it."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._read)
                await self.ended.wait()
                nursery.cancel_scope.cancel()
        finally:
            self.end("the connection was closed")
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_SECONDS):
                await trio.aclose_forcefully(self._stream)

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                unsent, self._unsent = self._unsent, []
                self._writing_since = trio.current_time()
                for answer, _ in unsent:
                    answer.sent = self._writing_since
                await self._stream.send_all(b"".join([data for _, data in unsent]))
                self._writing_since = math.inf
        except trio.BrokenResourceError:
            self.end("the connection was lost")

    async def _read(self) -> None:
        try:
            while data := await self._stream.receive_some(_READ_BYTES):
                self._reader.feed(bytes(data))
                while (value := self._reader.gets()) is not False:
                    self._due.popleft().come(value)
            self.end("the server closed the connection")
        except trio.BrokenResourceError:
            self.end("the connection was lost")
        except (hiredis.ProtocolError, IndexError):
            self.end("the server does not speak the protocol of Redis")


def _socket(stream: trio.abc.Stream) -> int:
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    assert isinstance(stream, trio.SocketStream)
    return stream.socket.fileno()


async def connect(node: tuple[str, int] | str, tls: ssl.SSLContext | None) -> trio.abc.Stream:
    """Connect to a host and port, or to the path of a Unix socket. Raises LinkBroken.

    Takes as long as the system lets it: set a deadline around it.
    """
    try:
        if isinstance(node, str):
            return await trio.open_unix_socket(node)
        stream: trio.abc.Stream = await trio.open_tcp_stream(*node)
    except OSError as error:
        raise LinkBroken(error.strerror or "can't be connected to") from error
    if tls is None:
        return stream
    secured = trio.SSLStream(stream, tls, server_hostname=node[0])
    try:
        await secured.do_handshake()
    except BaseException as error:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_SECONDS):
            await trio.aclose_forcefully(secured)
        if isinstance(error, trio.BrokenResourceError):
            raise LinkBroken(getattr(error.__cause__, "verify_message", "TLS failed")) from error
        raise
    return secured
