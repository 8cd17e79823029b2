"""The ledger that the workers of a machine share: a SQLite file, best kept in memory.

A decision is one transaction on the event loop, tens of microseconds: one read and one write of the
accounts' rows, each of which holds all that there is to know of one account. Nothing in it waits.
While another process writes, the task lets others run and tries again; a disk is touched by the
keeper's thread alone. So no stream stands still for a decision.

Settlements do not wait at all. One that finds the file busy is applied with the next decision, or
by a task of its own in a millisecond.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from typing import TypeVar

import trio

from swproxy.quota.accounts import Call, Refused, Taken
from swproxy.quota.book import Book, Busy, Ended, new_holder
from swproxy.quota.checks import End, Part
from swproxy.quota.counted import CountedCalls
from swproxy.quota.database import Gone
from swproxy.quota.figures import Figures, day_of
from swproxy.quota.keeper import Keeper, Turn
from swproxy.quota.ledger import LedgerDown, Observer, UsedBy
from swproxy.quota.livefile import Place, current, left_behind
from swproxy.quota.reports import read_parts, read_usage
from swproxy.quota.revocations import Revocation, Revocations

__all__ = ["SqliteLedger"]

T = TypeVar("T")

_TURN_SECONDS = 0.5
_BUSY_SECONDS = 1.0
"""How long a decision may find the file taken by others before it is given up."""

_PAUSE_SECONDS = 0.0005
_AT_ONCE = 24
"""Tries that only let other tasks run; those behind them sleep in between."""

_END_SECONDS = 5.0


def _wall() -> int:
    return time.time_ns() // 1000


def _ticks() -> int:
    return time.monotonic_ns() // 1000


class SqliteLedger(CountedCalls):
    """A ledger in a SQLite file (see `ledger.Ledger`); `run` it as long as it is used."""

    def __init__(
        self,
        place: Place,
        observer: Observer | None = None,
        *,
        clock: Callable[[], int] = _wall,
        ticks: Callable[[], int] = _ticks,
        at_once: bool = True,
    ) -> None:
        """Take two clocks: the time of day, and one that is never set, for leases.

        Unless `at_once`, the file is opened when there is one, which may say that URLs are revoked,
        or when the first call is to be charged.
        """
        super().__init__(observer)
        self._place = place
        self._clock = clock
        self._ticks = ticks
        self._told: list[tuple[str, str]] = []
        self._keeper = Keeper(place, clock, ticks, lambda *told: self._told.append(told))
        self._wanted = trio.Event()
        if at_once:
            self._wanted.set()
        self._thread = trio.CapacityLimiter(1)
        self._book: Book | None = None
        self._gone: Gone | None = None
        self._why = "the store is not open"
        self._opening = True
        self._wake = trio.Event()
        self._late: list[Ended] = []
        self._settle_soon = trio.Event()
        self._revocations = Revocations()

    @property
    def revocations(self) -> Revocations:
        """What is revoked, at most a second old."""
        return self._revocations

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the file in order until cancelled; started when it is open, or can't be opened."""
        if left_behind(self._place):
            self._wanted.set()
        if not self._wanted.is_set():
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            await self._until_wanted()
        try:
            await self.tend()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._settle_late)
                task_status.started()
                done = True
                while True:
                    # Whoever finds the file gone wakes us up, but not while all that we try fails.
                    wake = self._wake if done else trio.Event()
                    with trio.move_on_after(_TURN_SECONDS):
                        await wake.wait()
                    done = await self.tend()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _END_SECONDS):
                await self._close()

    async def tend(self) -> bool:
        """Do what is due beside decisions, opening the file if need be; tell whether it was."""
        self._wake = trio.Event()
        figures = self._figures.detach()
        try:
            if self._book is None or self._gone is not None:
                await self._open()
            turn = await self._take_turn(figures)
            if turn.moved:
                await self._open()
                turn = await self._take_turn(figures)
        except Gone as gone:
            self._lose(gone)
            return False
        except LedgerDown as error:
            self._fail(str(error))
            return False
        finally:
            self._opening = False
            self._figures.merge(figures)
        self._learn(turn)
        return True

    async def revoke(self, revocation: Revocation) -> None:
        """Revoke URLs for everybody who uses the store. Raises LedgerDown."""
        await self._ask(partial(self._keeper.revoke, revocation))

    async def usage(self, since: date, app: str = "", user: str = "") -> Sequence[UsedBy]:
        """Return what was used since a day, of all applications and users or of one."""
        today = day_of(self._clock())
        ask = partial(read_usage, since=since, app=app, user=user, today=today, ticks=self._ticks())
        return await self._ask(partial(self._keeper.read, ask))

    async def parts(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, Part]]:
        """Return the states of accounts that have one, without what the dead hold."""
        ask = partial(read_parts, keys=keys, ticks=self._ticks())
        return await self._ask(partial(self._keeper.read, ask))

    async def _ask(self, function: Callable[[], T]) -> T:
        if self._book is None:
            raise LedgerDown(self._why)
        try:
            return await self._in_thread(function)
        except Gone as gone:
            self._lose(gone)
            raise LedgerDown(str(gone)) from gone

    async def _until_wanted(self) -> None:
        while not self._wanted.is_set():
            with trio.move_on_after(_TURN_SECONDS):
                await self._wanted.wait()
            if current(self._place) is not None:
                self._wanted.set()

    def _now(self) -> int:
        return self._clock()

    async def _decide(self, call: Call) -> Taken | Refused:
        try:
            return self._decide_now(call)
        except Busy:
            return await self._decide_later(call)

    def _decide_now(self, call: Call) -> Taken | Refused:
        """Decide. Raises Busy, LedgerDown."""
        if self._gone is not None or self._opening:
            self._wanted.set()
            raise Busy
        if self._book is None:
            raise LedgerDown(self._why or "the store is not open")
        try:
            return self._book.admit(call, self._clock(), self._late)
        except Gone as gone:
            self._lose(gone)
            raise Busy from gone

    async def _decide_later(self, call: Call) -> Taken | Refused:
        deadline = trio.current_time() + _BUSY_SECONDS
        tries = 0
        while trio.current_time() < deadline:
            if tries < _AT_ONCE:
                await trio.lowlevel.checkpoint()
            else:
                await trio.sleep(_PAUSE_SECONDS)
            tries += 1
            try:
                return self._decide_now(call)
            except Busy:
                continue
        raise LedgerDown("the store was busy for too long")

    def _end(self, taken: Taken, end: End) -> None:
        holding = any(check.holds for each in taken.call.accounts for check in each.checks)
        if end.returned or holding:
            self._late.append((taken, end))
            try:
                self._settle_now()
            except Busy:
                self._settle_soon.set()

    def _settle_now(self) -> None:
        """Apply all settlements. Raises Busy; those that can't be applied now remain."""
        if self._book is None or self._gone is not None:
            return
        try:
            self._book.settle(self._late, self._clock())
        except Gone as gone:
            self._lose(gone)
        except LedgerDown:
            self._observer.failed()
        else:
            self._late.clear()

    async def _settle_late(self) -> None:
        while True:
            await self._settle_soon.wait()
            self._settle_soon = trio.Event()
            while self._late:
                await trio.sleep(_PAUSE_SECONDS)
                try:
                    self._settle_now()
                except Busy:
                    continue
                break

    def _lose(self, gone: Gone) -> None:
        """Have another file opened; decisions wait for it as they wait for a busy one."""
        self._gone = gone
        self._wake.set()

    async def _take_turn(self, figures: Figures) -> Turn:
        book = self._book
        assert book is not None
        renew = bool(self._taken) and book.to_renew()
        ask = partial(self._keeper.turn, book.holder, figures, renew=renew)
        turn = await self._in_thread(ask)
        if renew and not turn.moved:
            book.renewed()
        return turn

    async def _open(self) -> None:
        """Open the current file in place of the one that is open, if any. Raises LedgerDown, Gone.

        Where that fails, an old file goes on being used unless it is broken: it may have been
        removed, but it is still what others use who have it open.
        """
        gone, old = self._gone, self._book
        self._gone = None
        corrupted = gone is not None and gone.corrupted
        if corrupted:
            self._book = None
        holder = old.holder if old is not None else ""
        db, known = await self._in_thread(partial(self._keeper.open, holder, corrupted=corrupted))
        self._book = Book(db, holder if known else new_holder(), self._ticks)
        if old is not None:
            await self._in_thread(old.close)

    def _learn(self, turn: Turn) -> None:
        if self._why:
            self._observer.told("ledger-up", f"{self._place.live} is in use.")
        self._why = ""
        assert self._book is not None
        self._book.marks = turn.marks
        if turn.revocations is not None:
            self._revocations = turn.revocations
            self._observer.revoked(turn.revocations)
        if self._late:
            self._settle_soon.set()

    def _fail(self, why: str) -> None:
        if why != self._why:
            self._observer.told("ledger-down", f"{why}.")
        self._why = why
        self._observer.failed()

    async def _close(self) -> None:
        book, self._book = self._book, None
        try:
            if book is not None:
                with contextlib.suppress(Busy, Gone, LedgerDown):
                    book.settle(self._late, self._clock())
            await self._in_thread(
                partial(self._keeper.close, book.holder if book else "", self._figures.detach())
            )
        except (Gone, LedgerDown) as error:
            self._fail(str(error))
        finally:
            if book is not None:
                book.close()

    async def _in_thread(self, function: Callable[[], T]) -> T:
        try:
            return await trio.to_thread.run_sync(
                function, abandon_on_cancel=True, limiter=self._thread
            )
        finally:
            told, self._told[:] = list(self._told), []
            for event, detail in told:
                self._observer.told(event, detail)
