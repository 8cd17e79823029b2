"""A small HTTP/1.1 server for the parties around swproxy in the demo: the model and the backend.

It knows what those two need and no more: whole requests in, whole or growing answers out, one
connection after another request; and it can hand a connection over to another server. It is no
example of how to face the internet; that is what swproxy itself is for.
"""

import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import h11
import trio

__all__ = ["Exchange", "Handler", "Request", "converse"]

BODY_BYTES = 1 << 20
IDLE_SECONDS = 75.0


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request; header names are lower-case, a repeated header's last value counts.

    `head` is its beginning as it came, for whoever passes it on.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    head: bytes = b""


class Exchange:
    """One request and the means to answer it.

    Either `answer`, or `start`, `send`..., `finish`; or `switch` for a request that asks for that.
    """

    def __init__(self, connection: h11.Connection, stream: trio.abc.Stream, request: Request):
        self.request = request
        self._connection = connection
        self._stream = stream

    async def answer(
        self,
        status: int,
        content_type: str,
        body: bytes,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Send a whole answer."""
        await self.start(
            status, content_type, [("Content-Length", str(len(body))), *headers], whole=body
        )
        await self.finish()

    async def answer_json(self, status: int, value: object) -> None:
        """Send `value` as JSON, not to be cached."""
        body = json.dumps(value).encode()
        await self.answer(status, "application/json", body, [("Cache-Control", "no-store")])

    async def start(
        self,
        status: int,
        content_type: str,
        headers: Sequence[tuple[str, str]] = (),
        *,
        whole: bytes = b"",
    ) -> None:
        """Send an answer's head, and with it the body if there is one yet.

        Raises trio.BrokenResourceError, as do `send` and `finish`, when the caller has gone.
        """
        head = h11.Response(status_code=status, headers=[("Content-Type", content_type), *headers])
        data = self._connection.send(head)
        if whole and self.request.method != "HEAD":
            data += self._connection.send(h11.Data(data=whole))
        await self._stream.send_all(data)

    async def send(self, data: bytes) -> None:
        """Send a piece of a growing body at once."""
        await self._stream.send_all(self._connection.send(h11.Data(data=data)))

    async def switch(
        self, protocol: str, headers: Sequence[tuple[str, str]]
    ) -> tuple[trio.abc.Stream, bytes]:
        """Go over to another protocol; return the stream and what has arrived of it already."""
        fields = [("Upgrade", protocol), ("Connection", "Upgrade"), *headers]
        head = h11.InformationalResponse(status_code=101, headers=fields)
        await self._stream.send_all(self._connection.send(head))
        return self._stream, bytes(self._connection.trailing_data[0])

    async def hand_over(self, other: trio.abc.Stream) -> None:
        """Send the request to another server, and be a pipe to it until one side ends.

        The other server has to end its connection with its answer: the request that follows may
        not be for it.
        """
        body = self.request.body
        if "transfer-encoding" in self.request.headers:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"0\r\n\r\n"
        async with other, trio.open_nursery() as nursery:
            early = bytes(self._connection.trailing_data[0])
            await other.send_all(self.request.head + body + early)
            nursery.start_soon(_pipe, self._stream, other, nursery.cancel_scope)
            nursery.start_soon(_pipe, other, self._stream, nursery.cancel_scope)

    async def finish(self) -> None:
        """End the body."""
        await self._stream.send_all(self._connection.send(h11.EndOfMessage()))


Handler = Callable[[Exchange], Awaitable[None]]


async def _pipe(source: trio.abc.Stream, sink: trio.abc.Stream, both: trio.CancelScope) -> None:
    """Pass bytes on until there are no more; then end `both` directions."""
    with contextlib.suppress(trio.BrokenResourceError):
        async for data in source:
            await sink.send_all(data)
    both.cancel()


async def converse(stream: trio.abc.Stream, handle: Handler) -> None:
    """Serve one connection until either side ends it or it has been idle for long."""
    async with stream:
        connection = h11.Connection(h11.SERVER)
        try:
            while (request := await _receive(connection, stream)) is not None:
                await handle(Exchange(connection, stream, request))
                if connection.our_state is not h11.DONE:
                    break
                connection.start_next_cycle()
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            pass  # the caller spoke something else than HTTP, or has gone: nobody is left to tell


async def _receive(connection: h11.Connection, stream: trio.abc.Stream) -> Request | None:
    """Read one request; None when no more will come. Raises h11.RemoteProtocolError."""
    head: h11.Request | None = None
    body = bytearray()
    with trio.move_on_after(IDLE_SECONDS):
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if connection.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    await stream.send_all(connection.send(go_on))
                connection.receive_data(bytes(await stream.receive_some()))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > BODY_BYTES:
                    return None
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return Request(
                    method=head.method.decode("ascii"),
                    path=head.target.decode("ascii").partition("?")[0],
                    headers={k.decode("ascii"): v.decode("latin-1") for k, v in head.headers},
                    body=bytes(body),
                    head=_written(head),
                )
            else:
                return None
    return None


def _written(request: h11.Request) -> bytes:
    """Return a request's head as it came."""
    fields = b"".join([b"%b: %b\r\n" % field for field in request.headers.raw_items()])
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (request.method, request.target, fields)
