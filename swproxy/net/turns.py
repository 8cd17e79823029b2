"""Turns of the event loop: what clients send must not keep it from going round.

trio runs every task that is ready before it looks for news again, so one turn takes as long as all
of their steps together. A client chooses how many of its connections are ready at a time, by
sending to all of them at once, and how long each step takes, within what a head or a piece of a
body may hold. So whoever is about to begin such a step asks for a turn: it begins at once for as
long as this turn of the loop has not lasted TURN_SECONDS, and waits in a queue otherwise. Streams
that are established don't: the pump has a measure of its own.

Where a loop has time to spare, and that is nearly always, asking costs a look at the clock.
"""

from collections import deque
from time import perf_counter

import trio

__all__ = ["TURN_SECONDS", "Turns"]

TURN_SECONDS = 0.003
"""A turn that is begun within this time may last one step longer: about 2 ms for the worst."""

_AT_ONCE = 8
"""Tasks that are woken a turn; those that find it spent wait in front of the others."""


class Turns(trio.abc.Instrument):
    """The queue of one event loop; `run` is what serves it. Until it runs, nobody waits."""

    def __init__(self) -> None:
        self._until = float("inf")
        self._waiting: deque[trio.lowlevel.Task] = deque()
        self._server = trio.lowlevel.ParkingLot()

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - trio's interface
        """Take note that the loop has gone round."""
        self._until = perf_counter() + TURN_SECONDS

    async def take(self) -> None:
        """Return when there is time for a step: at once, without a checkpoint, or in a later turn.

        Those who wait come first.
        """
        if not self._waiting and perf_counter() < self._until:
            return
        task = trio.lowlevel.current_task()

        def leave(_: object) -> trio.lowlevel.Abort:
            self._waiting.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        self._waiting.append(task)
        while True:
            self._server.unpark()
            await trio.lowlevel.wait_task_rescheduled(leave)
            if perf_counter() < self._until:
                return
            self._waiting.appendleft(task)

    async def run(self) -> None:
        """Wake those who wait, a few a turn, until cancelled; then all of them."""
        trio.lowlevel.add_instrument(self)
        try:
            while True:
                if not self._waiting:
                    await self._server.park()
                await trio.lowlevel.checkpoint()
                self._wake(_AT_ONCE)
        finally:
            trio.lowlevel.remove_instrument(self)
            self._until = float("inf")
            self._wake(len(self._waiting))

    def _wake(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            trio.lowlevel.reschedule(self._waiting.popleft())
