"""A recording upstream.

It is scripted: a test gives it a function that is called with each connection that the proxy opens,
and everything that arrives is recorded, so a test can assert what went upstream, byte for byte.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from tests.support.wire import PATIENCE, End, server_context

Handler = Callable[[End], Awaitable[None]]


@dataclass
class Upstream:
    """A recording upstream: what every connection received, in the order they came."""

    host: str
    port: int
    tls: bool
    connections: list[End] = field(default_factory=list)
    open: int = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def received(self) -> bytes:
        return b"".join(bytes(end.received) for end in self.connections)

    async def wait_for_connections(self, count: int) -> None:
        with trio.fail_after(PATIENCE):
            while len(self.connections) < count:
                await trio.sleep(0.002)

    async def wait_all_closed(self) -> None:
        """Wait until the proxy has no connection open to this upstream."""
        with trio.fail_after(PATIENCE):
            while self.open:
                await trio.sleep(0.002)


UPSTREAMS: list[Upstream] = []
"""Those that run; a proxy that ends before them is searched with what they saw."""


async def answer_ok(end: End) -> None:
    """Serve `ok` to every request without a body, until the proxy closes."""
    while True:
        try:
            await end.read_head()
        except EOFError:
            return
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def take_and_answer(end: End) -> None:
    """Serve `ok` to every request once its body has come, until the proxy closes."""
    while True:
        try:
            await end.read_request()
        except EOFError:
            return
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class PausingApi:
    """An upstream whose /stream says one word and waits to be told to go on; else it answers."""

    def __init__(self) -> None:
        self.go_on = trio.Event()

    async def __call__(self, end: End) -> None:
        while True:
            head = await end.read_head()
            if b" /stream" not in head.split(b"\r\n", 1)[0]:
                await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                continue
            await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst")
            await self.go_on.wait()
            await end.send(b"last")


@asynccontextmanager
async def upstream(
    handler: Handler = answer_ok, *, tls: bool = False, context: ssl.SSLContext | None = None
) -> AsyncIterator[Upstream]:
    """Run an upstream whose every connection is served by `handler`, over TLS with `context`."""
    tls = tls or context is not None
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        found = Upstream("localhost" if tls else "127.0.0.1", port, tls)
        UPSTREAMS.append(found)

        async def serve_one(stream: trio.abc.Stream) -> None:
            if tls:
                stream = trio.SSLStream(stream, context or server_context(), server_side=True)
            end = End(stream)
            found.connections.append(end)
            found.open += 1
            try:
                await handler(end)
                with trio.fail_after(PATIENCE):
                    await end.stream.aclose()
            except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
                pass
            finally:
                found.open -= 1
                await end.aclose()

        nursery.start_soon(trio.serve_listeners, serve_one, [listener])
        try:
            yield found
        finally:
            UPSTREAMS.remove(found)
        nursery.cancel_scope.cancel()


"""Those that run; a proxy that ends before them is searched with what they saw."""
