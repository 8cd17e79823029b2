"""Answers that are read to their end although nobody waits for them any more.

Some APIs go on when their client leaves, and bill what they go on with. Reading on costs little and
tells what it was; but whoever leaves on purpose must not keep a worker busy, so there is a bound to
how many are read so, and for how long.
"""

import httpcore
import trio

from swproxy.http.framing import FramingError, PayloadBody
from swproxy.net.stream import SocketStream

__all__ = ["Drains"]

_AT_ONCE = 64
"""Answers of a worker. Those of further clients that leave are cut, as without any of this."""

_SECONDS = 300.0


class Drains:
    """The answers that one worker drains."""

    def __init__(self) -> None:
        self._count = 0

    async def drain(
        self, stream: SocketStream, body: PayloadBody, idle_seconds: float, *, by: float
    ) -> None:
        """Read `body` on from `stream`, until it has ended or is broken, or there is no more time.

        `by` is the moment at which the call would have been ended anyhow.
        """
        if self._count >= _AT_ONCE:
            return
        self._count += 1
        try:
            with trio.move_on_at(min(by, trio.current_time() + _SECONDS)):
                while not body.ended:
                    data = await stream.read(timeout=idle_seconds)
                    if not data:
                        body.eof()
                        return
                    body.feed(data)
        except (httpcore.ReadError, httpcore.ReadTimeout, FramingError):
            return  # cut after all
        finally:
            self._count -= 1
