"""How far a call under way has come, for whoever looks.

Nothing is counted here: sockets and flows count what they send anyway, and are asked when somebody
wants to know. So a call pays for it with a few references, and its record is made of the same
numbers when it ends.
"""

from swproxy.net.flow import Flow
from swproxy.net.stream import SocketStream
from swproxy.proxy.metering import Metering

__all__ = ["Progress"]


class Progress:
    """The bytes of a call's bodies so far, as they were on the wire, and what they are worth."""

    __slots__ = ("_down", "_down_from", "_metering", "_up", "_up_from", "_up_tunnel")

    def __init__(self, metering: Metering | None) -> None:
        self._metering = metering
        self._up: SocketStream | None = None
        self._up_from = 0
        self._up_tunnel: Flow | None = None
        self._down: Flow | None = None
        self._down_from = 0

    def send(self, upstream: SocketStream, head: int) -> None:
        """Count what goes to `upstream` from now on, behind a head of so many bytes."""
        self._up, self._up_from = upstream, upstream.sent + head

    def relay(self, down: Flow, head: int, up: Flow | None = None) -> None:
        """Count what `down` sends behind a head of so many bytes, and `up` of a tunnel."""
        self._down, self._down_from, self._up_tunnel = down, head, up

    @property
    def up(self) -> int:
        """Bytes that went to the API."""
        up, tunnel = self._up, self._up_tunnel
        sent = up.sent - self._up_from if up is not None and up.sent > self._up_from else 0
        return sent if tunnel is None else sent + tunnel.sent

    @property
    def down(self) -> int:
        """Bytes that went to the client."""
        down = self._down
        return down.sent - self._down_from if down and down.sent > self._down_from else 0

    def moved(self) -> tuple[int, int, int | None]:
        """Return bytes up and down, and about how many tokens the model has written.

        None stands for tokens that nobody can tell. Thousands of calls are asked at once, so this
        is quick.
        """
        return self.up, self.down, self._metering.seen if self._metering is not None else None
