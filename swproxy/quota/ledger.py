"""The ledger as a request sees it: one decision before a call, one settlement behind it.

A call is charged to accounts: the application's, the user's, the URL's. `admit` takes from all of
them or from none, in one step, whoever else asks at the same moment, in whichever process.
`settle` says how the call ended. It never waits and never fails, so it may stand in a `finally`
that is being cancelled; of a call that nobody settles, because its process died, all that it held
is free again LEASE_SECONDS later. Settled twice is settled once.

Stores behind it decide alike, by `decide` (or what says the same in the store's own language).
What they must provide is in `Ledger`. A store that can't be asked raises LedgerDown, at once:
nobody waits for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Protocol

import trio

from swproxy.quota.accounts import Call, Refused, Taken
from swproxy.quota.checks import End, Part
from swproxy.quota.revocations import Revocation, Revocations

__all__ = [
    "LEASE_SECONDS",
    "RENEW_SECONDS",
    "Ledger",
    "LedgerDown",
    "NoLedger",
    "Observer",
    "Unobserved",
    "Used",
    "UsedBy",
]

LEASE_SECONDS = 30
"""How long a worker is taken for alive after it last said so."""

RENEW_SECONDS = 10
"""How often it says so: two may be missed."""


@dataclass(slots=True)
class Used:
    """What was used up, as a sum."""

    requests: int = 0
    refused: int = 0
    streams: int = 0
    """calls under way now; in no sum over days"""
    tokens_in: int = 0
    tokens_out: int = 0
    unknown: int = 0
    """calls whose tokens nobody could count"""

    def add(self, more: "Used") -> None:
        """Add another sum to this one."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(more, each.name))


@dataclass(frozen=True, slots=True)
class UsedBy:
    """What a user ("" for none named) of an application used on a day, in UTC."""

    day: date
    app: str
    user: str
    used: Used


class LedgerDown(Exception):  # noqa: N818 - a state, as DownstreamGone is
    """The store can't be asked, or has lost what would have to be known. `str` is for the log."""


class Ledger(Protocol):
    """A store of what has been used up, shared by all who serve the same applications."""

    @property
    def revocations(self) -> Revocations:
        """What is revoked, at most a second old."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep leases, revocations and figures current until cancelled; started once it serves."""

    async def tend(self) -> bool:
        """Renew leases, write figures and look for revocations now; tell whether it was done.

        `run` does so by itself, several times in LEASE_SECONDS.
        """

    async def admit(self, call: Call) -> Taken | Refused:
        """Charge a call to all of its accounts, or to none. Raises LedgerDown.

        Is a checkpoint only when the store makes it wait.
        """

    def settle(self, taken: Taken, end: End, used: Used | None = None) -> None:
        """Say how a call ended, once; a second time does nothing. Never waits, never fails.

        `used` adds to the figures of application and user: tokens in and out, or unknown.
        """

    def note(self, app: str, user: str, used: Used) -> None:
        """Add to the figures what a call used that nothing limits. Never waits, never fails."""

    async def revoke(self, revocation: Revocation) -> None:
        """Revoke URLs for everybody who uses the store. Raises LedgerDown."""

    async def usage(self, since: date, app: str = "", user: str = "") -> Sequence[UsedBy]:
        """Return what was used since a day, of all applications and users or of one.

        At most a second old. Raises LedgerDown.
        """

    async def parts(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, Part]]:
        """Return the states of accounts that have one: checks' names to parts. Raises LedgerDown.

        What is held by nobody alive is left out, so that `Check.left` may take all for alive.
        """


class Observer(Protocol):
    """Whoever wants to know how the store does: metrics and the log."""

    def decided(self, seconds: float) -> None:
        """Take note of a decision, and how long it took."""

    def failed(self) -> None:
        """Take note that the store could not be asked, or written."""

    def told(self, event: str, detail: str) -> None:
        """Take note of what an operator has to know."""

    def revoked(self, revocations: Revocations) -> None:
        """Take note that other URLs are revoked than before."""


class Unobserved:
    """An observer that takes no note."""

    def decided(self, seconds: float) -> None:
        """Do nothing."""

    def failed(self) -> None:
        """Do nothing."""

    def told(self, event: str, detail: str) -> None:
        """Do nothing."""

    def revoked(self, revocations: Revocations) -> None:
        """Do nothing."""


class NoLedger:
    """A ledger where there is no place for one: whatever is to be counted is refused."""

    revocations = Revocations()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do nothing until cancelled."""
        task_status.started()
        await trio.sleep_forever()

    async def tend(self) -> bool:
        """Do nothing."""
        await trio.lowlevel.checkpoint()
        return True

    async def admit(self, call: Call) -> Taken | Refused:  # noqa: ARG002
        """Raise LedgerDown."""
        await trio.lowlevel.checkpoint()
        raise LedgerDown("there is no store: store.path says where one may be")

    def settle(self, taken: Taken, end: End, used: Used | None = None) -> None:
        """Do nothing: nothing was taken."""

    def note(self, app: str, user: str, used: Used) -> None:
        """Do nothing."""

    async def revoke(self, revocation: Revocation) -> None:  # noqa: ARG002
        """Raise LedgerDown."""
        await trio.lowlevel.checkpoint()
        raise LedgerDown("there is no store")

    async def usage(self, since: date, app: str = "", user: str = "") -> Sequence[UsedBy]:  # noqa: ARG002
        """Return nothing."""
        await trio.lowlevel.checkpoint()
        return []

    async def parts(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, Part]]:  # noqa: ARG002
        """Return nothing."""
        await trio.lowlevel.checkpoint()
        return {}
