"""A way to a server that takes as long as a test says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

__all__ = ["SlowRelay", "slow_relay"]


class SlowRelay:
    """Hands on what a server says `seconds` late, over a Unix socket of its own."""

    def __init__(self, path: Path, server: Path) -> None:
        self.path = path
        self.seconds = 0.0
        self._server = server

    def delay(self, seconds: float) -> None:
        """Be as slow from now on."""
        self.seconds = seconds

    async def serve(self, client: trio.SocketStream) -> None:
        """Serve one connection, as long as both sides want it."""
        async with client:
            try:
                server = await trio.open_unix_socket(str(self._server))
            except OSError:
                return
            async with server, trio.open_nursery() as nursery:
                nursery.start_soon(self._move, client, server, nursery.cancel_scope, False)
                nursery.start_soon(self._move, server, client, nursery.cancel_scope, True)

    async def _move(
        self,
        source: trio.SocketStream,
        target: trio.SocketStream,
        scope: trio.CancelScope,
        late: bool,
    ) -> None:
        with suppress(trio.BrokenResourceError):
            async for data in source:
                if late and self.seconds:
                    await trio.sleep(self.seconds)
                await target.send_all(data)
        scope.cancel()


@asynccontextmanager
async def slow_relay(path: Path, server: Path) -> AsyncIterator[SlowRelay]:
    """Run a relay at `path` to the Unix socket `server`."""
    relay = SlowRelay(path, server)
    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        await sock.bind(str(path))
        sock.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, relay.serve, [trio.SocketListener(sock)])
            yield relay
            nursery.cancel_scope.cancel()
