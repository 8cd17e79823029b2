"""Stores to test ledgers on, with clocks that a test sets; and what calls are charged to."""

import itertools
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from swproxy.quota.accounts import Account, Call, Refused, Taken, account_key
from swproxy.quota.checks import Check, Part
from swproxy.quota.livefile import Place
from swproxy.quota.revocations import Revocations
from swproxy.quota.sqlite import SqliteLedger
from swproxy.quota.valkey import Login, ValkeyLedger
from swproxy.quota.windows import MICROS
from tests.support.redis_server import NEWEST, REDIS, VALKEY, shared_server
from tests.support.wire import PATIENCE

__all__ = ["STORES", "TWO_STORES", "Clock", "Note", "Store", "app", "call", "url", "user"]

NOON = 1_790_000_000 * MICROS
"""A moment that is neither at the begin nor at the end of a minute, hour, day or month."""

_ids = itertools.count()


@dataclass
class Clock:
    """A clock that a test sets. Ticks go on when the time of day is set back."""

    now: int = NOON
    ticks: int = 500 * MICROS

    def pass_by(self, seconds: float) -> None:
        self.now += round(seconds * MICROS)
        self.ticks += round(seconds * MICROS)

    def set_back(self, seconds: float) -> None:
        self.now -= round(seconds * MICROS)


@dataclass
class Note:
    """An observer that keeps what it is told."""

    events: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    failures: int = 0

    def decided(self, seconds: float) -> None:
        pass

    def failed(self) -> None:
        self.failures += 1

    def told(self, event: str, detail: str) -> None:
        self.events.append(event)
        self.details.append(detail)

    def revoked(self, revocations: Revocations) -> None:
        pass


class SqliteStore:
    """A directory with a live file and a snapshot."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        (directory / "run").mkdir()
        (directory / "state").mkdir()
        self.place = Place(
            directory / "run" / "ledger.sqlite", directory / "state" / "ledger.sqlite"
        )

    @property
    def spec(self) -> str:
        """What `tests.support.hammer` opens the store by, on the real clock."""
        return f"sqlite:{self.place.live}:{self.place.snapshot}"

    @asynccontextmanager
    async def ledger(self, note: Note | None = None) -> AsyncIterator[SqliteLedger]:
        """Open the store as one worker does."""
        ledger = SqliteLedger(
            self.place, note, clock=lambda: self.clock.now, ticks=lambda: self.clock.ticks
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(ledger.run)
            yield ledger
            nursery.cancel_scope.cancel()


class PromptLedger(ValkeyLedger):
    """A ledger whose settlements arrive before the next decision, whoever asks for it.

    Otherwise they are on their way beside it, and a test could not say what a decision finds.
    """

    all: list["PromptLedger"]

    async def admit(self, call: Call) -> Taken | Refused:
        await self._settle_all()
        return await super().admit(call)

    async def parts(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, Part]]:
        await self._settle_all()
        return await super().parts(keys)

    async def _settle_all(self) -> None:
        for each in self.all:
            if each._ended:
                await each.tend()


class ValkeyStore:
    """A Redis or Valkey server, emptied."""

    def __init__(self, program: str) -> None:
        self.clock = Clock()
        self.server = shared_server(program)
        self.server.command("FLUSHALL")
        self._ledgers: list[PromptLedger] = []

    @property
    def spec(self) -> str:
        """What `tests.support.hammer` opens the store by, on the real clock."""
        return f"valkey:{self.server.path}"

    @asynccontextmanager
    async def ledger(self, note: Note | None = None) -> AsyncIterator[ValkeyLedger]:
        """Open the store as one worker does."""
        ledger = PromptLedger(
            self.server.address,
            Login(),
            observer=note,
            seconds=PATIENCE,
            moments=lambda: (self.clock.now, self.clock.ticks),
        )
        ledger.all = self._ledgers
        self._ledgers.append(ledger)
        async with trio.open_nursery() as nursery:
            await nursery.start(ledger.run)
            yield ledger
            self._ledgers.remove(ledger)
            nursery.cancel_scope.cancel()


Store = SqliteStore | ValkeyStore
STORES: dict[str, Callable[[Path], Store]] = {
    "sqlite": SqliteStore,
    "redis": lambda _: ValkeyStore(REDIS),
    "valkey": lambda _: ValkeyStore(VALKEY),
}
"""Every store, by name; one more makes the whole suite of ledgers run on it."""

TWO_STORES: dict[str, Callable[[Path], Store]] = {
    "sqlite": SqliteStore,
    NEWEST: lambda _: ValkeyStore(NEWEST),
}
"""One of a kind, for what takes seconds on each."""


def app(*checks: Check, name: str = "chat") -> Account:
    return Account("app", account_key("app", name), checks)


def user(*checks: Check, name: str = "42", of: str = "chat") -> Account:
    return Account("user", account_key("user", of, name), checks)


def url(*checks: Check, name: str = "ab" * 32, signed: int = NOON, expires: int = 0) -> Account:
    return Account(
        "url", account_key("url", "chat", name), checks, signed, expires or signed + 600 * MICROS
    )


def call(*accounts: Account, tokens: int = 0, user: str = "42") -> Call:
    return Call(f"{os.getpid()}-{next(_ids)}", "chat", accounts, user, tokens)
