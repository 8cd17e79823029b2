"""Counting on one's own while the store that nodes share is down.

Rates and places are then counted by each machine for itself, in the file that its workers share: as
many times what is allowed as there are nodes, but not without end. One-time URLs and budgets of
tokens are not: what others have used of them can't be known, so their calls are refused.
"""

from collections.abc import Mapping, Sequence
from datetime import date

import trio

from swproxy.quota.accounts import Call, Refused, Taken
from swproxy.quota.checks import Budget, End, Part
from swproxy.quota.ledger import Ledger, LedgerDown, Used, UsedBy
from swproxy.quota.revocations import Revocation, Revocations

__all__ = ["FallbackLedger"]


class FallbackLedger:
    """The `shared` ledger, and beside it a `local` one for when it is down."""

    def __init__(self, shared: Ledger, local: Ledger) -> None:
        self._shared = shared
        self._local = local
        self._taken_here: set[str] = set()

    @property
    def revocations(self) -> Revocations:
        """What is revoked, as far as the shared ledger told."""
        return self._shared.revocations

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run both."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._local.run)
            await nursery.start(self._shared.run)
            task_status.started()

    async def tend(self) -> bool:
        """Tend the shared one."""
        return await self._shared.tend()

    async def admit(self, call: Call) -> Taken | Refused:
        """Ask the shared one, and where it is down the local one. Raises LedgerDown."""
        try:
            return await self._shared.admit(call)
        except LedgerDown:
            if not _may_be_counted_here(call):
                raise
        outcome = await self._local.admit(call)
        if isinstance(outcome, Taken):
            self._taken_here.add(call.id)
        return outcome

    def settle(self, taken: Taken, end: End, used: Used | None = None) -> None:
        """Tell the one that took the call."""
        if taken.call.id in self._taken_here:
            self._taken_here.discard(taken.call.id)
            self._local.settle(taken, end, used)
        else:
            self._shared.settle(taken, end, used)

    def note(self, app: str, user: str, used: Used) -> None:
        """Tell the shared one."""
        self._shared.note(app, user, used)

    async def revoke(self, revocation: Revocation) -> None:
        """Revoke for everybody. Raises LedgerDown."""
        await self._shared.revoke(revocation)

    async def usage(self, since: date, app: str = "", user: str = "") -> Sequence[UsedBy]:
        """Return what the shared one knows. Raises LedgerDown."""
        return await self._shared.usage(since, app, user)

    async def parts(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, Part]]:
        """Return what the shared one knows. Raises LedgerDown."""
        return await self._shared.parts(keys)


def _may_be_counted_here(call: Call) -> bool:
    return not any(
        each.kind == "url" or any(isinstance(check, Budget) for check in each.checks)
        for each in call.accounts
    )
