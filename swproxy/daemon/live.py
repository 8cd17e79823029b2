"""The live feed: one frame a second for everybody who looks, and nothing while nobody does.

A frame is composed once, however many look. A looker is sent the newest one when it has taken the
one before; so what a slow one costs is the frame that is on its way to it, and it sees fewer. One
that takes nothing for TAKE_SECONDS is given up. `frame` says what is sent.
"""

import json
from collections.abc import Awaitable, Callable, Sequence

import trio

from swproxy.daemon.compose import Composer, Watched

__all__ = ["MOST_LOOKERS", "TAKE_SECONDS", "Live"]

MOST_LOOKERS = 16
TAKE_SECONDS = 10.0

_FRAME_SECONDS = 1.0

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_TAIL = '"requests":[]}'


class Live:
    """The feed of what is `watched`; `crashed` is told of faults, which must not end it."""

    def __init__(self, watched: Watched, crashed: Callable[[BaseException], None]) -> None:
        self._watched = watched
        self._crashed = crashed
        self._lookers = 0
        self._wanted = trio.Event()
        self._fresh = trio.Event()
        self._number = 0
        self._head = ""
        self._lines: Sequence[tuple[int, str]] = ()

    @property
    def full(self) -> bool:
        """Tell whether as many look as may."""
        return self._lookers >= MOST_LOOKERS

    async def run(self) -> None:
        """Compose frames while somebody looks, until cancelled."""
        while True:
            await self._wanted.wait()
            composer = Composer(self._watched)
            due = trio.current_time()
            while self._lookers:
                try:
                    await self._publish(composer)
                except Exception as error:  # noqa: BLE001 - told, and the next may do better
                    self._crashed(error)
                due = max(due + _FRAME_SECONDS, trio.current_time())
                await trio.sleep_until(due)
            self._wanted = trio.Event()
            self._head, self._lines = "", ()

    async def look(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Send frames as events, until cancelled or until `send` raises.

        Raises trio.TooSlowError when one is not taken in time.
        """
        seen = number = 0
        self._lookers += 1
        self._wanted.set()
        try:
            while True:
                if not self._head or number == self._number:
                    await self._fresh.wait()
                    continue
                number = self._number
                lines = [line for count, line in self._lines if count > seen]
                seen = self._lines[-1][0] if self._lines else 0
                event = f'event: frame\ndata: {self._head}"requests":[{",".join(lines)}]}}\n\n'
                with trio.fail_after(TAKE_SECONDS):
                    await send(event.encode())
        finally:
            self._lookers -= 1

    async def _publish(self, composer: Composer) -> None:
        text = _encode(await composer.compose())
        assert text.endswith(_TAIL)
        self._head, self._lines = text.removesuffix(_TAIL), composer.lines
        self._number += 1
        fresh, self._fresh = self._fresh, trio.Event()
        fresh.set()
