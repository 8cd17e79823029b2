"""Answers that are read to their end although nobody waits for them any more.

Some APIs go on when their client leaves, and bill what they go on with. Reading on costs little and
tells what it was; but whoever leaves on purpose must not keep a worker busy, so there is a bound to
how many are read so, and for how long.
"""

import httpcore
import trio

from swproxy.http.framing import FramingError, PayloadBody
from swproxy.net.stream import SocketStream

__all__ = ["Drains", "drain"]

_AT_ONCE = 64
"""Answers of a worker. Those of further clients that leave are cut, as without any of this."""

_SECONDS = 300.0


class Drains:
    """The calls of one worker that go on without their clients."""

    def __init__(self) -> None:
        self._calls: set[object] = set()

    def enter(self, call: object) -> float | None:
        """Let `call` go on, until it leaves; return until when at most, or None if it can't."""
        if call not in self._calls and len(self._calls) >= _AT_ONCE:
            return None
        self._calls.add(call)
        return trio.current_time() + _SECONDS

    def leave(self, call: object) -> None:
        """Take note that a call has ended, whether it had entered or not."""
        self._calls.discard(call)


async def drain(stream: SocketStream, body: PayloadBody, idle_seconds: float, until: float) -> None:
    """Read `body` on from `stream`, until it has ended or is broken, or the clock is at `until`."""
    try:
        with trio.move_on_at(until):
            while not body.ended:
                data = await stream.read(timeout=idle_seconds)
                if not data:
                    body.eof()
                    return
                body.feed(data)
    except (httpcore.ReadError, httpcore.ReadTimeout, FramingError):
        return  # cut after all
