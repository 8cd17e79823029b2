"""What every ledger does with a call, whichever store decides: time it, count it, end it once."""

import time
from abc import ABC, abstractmethod

from swproxy.quota.accounts import Call, Refused, Taken
from swproxy.quota.checks import End
from swproxy.quota.figures import Figures
from swproxy.quota.ledger import LedgerDown, Observer, Unobserved, Used

__all__ = ["CountedCalls"]


class CountedCalls(ABC):
    """A ledger's calls under way and its figures; see `ledger.Ledger` for what is public."""

    def __init__(self, observer: Observer | None) -> None:
        self._observer = observer or Unobserved()
        self._figures = Figures()
        self._taken: dict[str, Taken] = {}

    async def admit(self, call: Call) -> Taken | Refused:
        """Charge a call to all of its accounts, or to none. Raises LedgerDown.

        Is a checkpoint only when the store makes it wait.
        """
        begun = time.perf_counter()
        try:
            outcome = await self._decide(call)
        except LedgerDown:
            self._observer.failed()
            raise
        self._observer.decided(time.perf_counter() - begun)
        self._figures.decided(self._now(), call, taken=isinstance(outcome, Taken))
        if isinstance(outcome, Taken):
            self._taken[call.id] = outcome
        return outcome

    def settle(self, taken: Taken, end: End, used: Used | None = None) -> None:
        """Say how a call ended, once; a second time does nothing. Never waits, never fails."""
        if self._taken.pop(taken.call.id, None) is None:
            return
        self._figures.ended(self._now(), taken.call, end, used)
        self._end(taken, end)

    def note(self, app: str, user: str, used: Used) -> None:
        """Add to the figures what a call used that nothing limits. Never waits, never fails."""
        self._figures.of(self._now(), app, user).add(used)

    @abstractmethod
    def _now(self) -> int:
        """Return the time of day, in microseconds."""

    @abstractmethod
    async def _decide(self, call: Call) -> Taken | Refused:
        """Have the store decide. Raises LedgerDown."""

    @abstractmethod
    def _end(self, taken: Taken, end: End) -> None:
        """Have the store told how a call ended, now or soon."""
