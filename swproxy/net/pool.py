"""Idle upstream connections: one stack an origin.

Taking and giving back are O(1), whatever the number of connections: the last one given back is
taken first, so the rest grow old and are closed. A connection is given back only by whoever has
read a whole answer off it and nothing more; `take` tests again that it is open and silent, so bytes
that nobody asked for never reach the next request.

Those beyond the number that is kept are closed when they have not been needed for a second, not at
once: with more requests under way than that, nearly every connection lies idle for a moment and is
needed in the next, and to dial each of them anew costs more than the request.

The stacks hold idle connections only. One in use belongs to the request that uses it, which closes
it or gives it back; there are no slots that could leak, only a count of them for the metrics.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ssl import SSLContext, SSLSocket

import httpcore
import trio

from swproxy.net.dial import DescriptorsExhausted
from swproxy.net.failure import UpstreamFailure
from swproxy.net.names import NameNotResolved
from swproxy.net.sessions import Sessions
from swproxy.net.stream import SocketStream
from swproxy.policy.destination import Destination
from swproxy.sw1.refusal import Refusal

__all__ = ["Pool", "UpstreamConnection"]

SWEEP_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class UpstreamConnection:
    """A connection to `origin`; `reused` when it has carried an answer before."""

    stream: SocketStream
    origin: str
    reused: bool = False
    idle_since: float = 0.0

    def close(self) -> None:
        """Close it; harmless when closed already."""
        self.stream.close()


class Pool:
    """Dials upstream connections, and keeps `idle_connections` idle ones an origin."""

    def __init__(
        self,
        backend: httpcore.AsyncNetworkBackend,
        ssl_context: SSLContext,
        *,
        connect_seconds: float,
        idle_connections: int,
        idle_connection_seconds: float,
        turn: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> None:
        """Keep what the numbers say; `turn` is awaited before each step of a TLS handshake."""
        self._turn = turn
        self._backend = backend
        self._ssl_context = ssl_context
        self._connect_seconds = connect_seconds
        self._idle_connections = idle_connections
        self._idle_connection_seconds = idle_connection_seconds
        self._idle: dict[str, deque[UpstreamConnection]] = {}
        self._sessions = Sessions()
        self._closed = False
        self.active = 0
        """connections that carry a request now"""

    @property
    def idle(self) -> int:
        """The number of idle connections, over all origins."""
        return sum(len(stack) for stack in self._idle.values())

    def take(self, destination: Destination) -> UpstreamConnection | None:
        """Return an idle connection to the destination's origin, or None."""
        stack = self._idle.get(destination.origin)
        oldest = trio.current_time() - self._idle_connection_seconds
        while stack:
            connection = stack.pop()
            if connection.idle_since > oldest and connection.stream.is_clean():
                connection.reused = True
                self.active += 1
                return connection
            connection.close()
        return None

    def remember_session(self, connection: UpstreamConnection) -> None:
        """Let later connections to the origin resume this one's TLS session."""
        sock = connection.stream.socket
        if not connection.reused and isinstance(sock, SSLSocket):
            self._sessions.remember(connection.origin, sock, trio.current_time())

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose answer has been read to its last byte."""
        self.active -= 1
        if self._closed or self._idle_connections == 0:
            connection.close()
            return
        connection.idle_since = trio.current_time()
        self._idle.setdefault(connection.origin, deque()).append(connection)

    def discard(self, connection: UpstreamConnection) -> None:
        """Close a connection that was taken or dialled and can't be used again."""
        self.active -= 1
        connection.close()

    async def dial(self, destination: Destination) -> UpstreamConnection:
        """Open a new connection.

        Idle ones make room for it where descriptors have run out. Raises UpstreamFailure, or
        Refusal for an address that is not allowed or when there is no room.
        """
        for _ in range(2):
            try:
                return await self._dial(destination)
            except DescriptorsExhausted:
                self.drop_idle()
        raise Refusal("overloaded", "The proxy has no file descriptors left; come again.")

    async def _dial(self, destination: Destination) -> UpstreamConnection:
        try:
            with trio.fail_after(self._connect_seconds):
                stream = await self._backend.connect_tcp(destination.host, destination.port)
                assert isinstance(stream, SocketStream)
                if destination.tls:
                    stream = await self._start_tls(stream, destination)
        except NameNotResolved as error:
            raise UpstreamFailure(
                "name-not-resolved", "The destination's name does not resolve."
            ) from error
        except (httpcore.ConnectTimeout, trio.TooSlowError) as error:
            raise UpstreamFailure(
                "upstream-timeout", "The upstream did not accept a connection in time."
            ) from error
        except DescriptorsExhausted:
            raise
        except httpcore.ConnectError as error:
            raise UpstreamFailure("upstream-unreachable", _explain(error)) from error
        self.active += 1
        return UpstreamConnection(stream, destination.origin)

    async def _start_tls(self, stream: SocketStream, destination: Destination) -> SocketStream:
        try:
            return await stream.handshake(
                self._ssl_context,
                destination.host,
                session=self._sessions.resume(destination.origin, trio.current_time()),
                turn=self._turn,
            )
        except httpcore.ConnectError as error:
            stream.close()
            detail = f"TLS with the upstream failed: {error}."
            raise UpstreamFailure("upstream-tls", detail) from error
        except BaseException:
            stream.close()
            raise

    def drop_idle(self) -> None:
        """Close every idle connection: after a reload, or when descriptors run out."""
        for stack in self._idle.values():
            while stack:
                stack.pop().close()

    def close(self) -> None:
        """Close what is idle, and from now on whatever is given back."""
        self._closed = True
        self.drop_idle()

    async def run(self) -> None:
        """Close connections that have been idle for too long, until cancelled; then all of them."""
        try:
            while True:
                await trio.sleep(SWEEP_SECONDS)
                now = trio.current_time()
                for name, stack in list(self._idle.items()):
                    while stack and self._is_spare(stack, now):
                        stack.popleft().close()
                    if not stack:
                        del self._idle[name]
                self._sessions.sweep(now)
        finally:
            self.close()

    def _is_spare(self, idle: deque[UpstreamConnection], now: float) -> bool:
        """Tell whether the oldest of a stack is to be closed."""
        most = self._idle_connection_seconds
        if len(idle) > self._idle_connections:
            most = min(most, SWEEP_SECONDS)
        return now - idle[0].idle_since >= most


def _explain(error: httpcore.ConnectError) -> str:
    return f"The upstream could not be reached ({error})."
