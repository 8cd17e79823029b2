"""The ledger that many nodes share: a Redis or Valkey server, or a cluster of them.

A decision is one call of a script that runs within the server (`ledger.lua`), by the server's
clock; so decisions of all nodes follow one another, as in the file that a machine's workers share.
All keys have one hash tag, which puts them on one node of a cluster.

Nobody waits for a store that is down. A decision has `seconds`; after three in a row that failed
nothing is asked, until the task that keeps the link, which goes on trying, has had an answer.

Whoever gives up waiting does not know whether its call was taken. Two things make that harmless.
The script takes nothing behind the time by which it was to be asked, and what was asked for in vain
is given back when that time is over. To give back, to settle, to renew and to add figures has the
same effect said twice as said once, so all of it is said until it is confirmed.
"""

import itertools
import json
import os
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import trio

from swproxy.config.store_address import StoreAddress
from swproxy.quota import script
from swproxy.quota.accounts import Call, Refused, Taken
from swproxy.quota.checks import End, Part
from swproxy.quota.counted import CountedCalls
from swproxy.quota.figures import Figures, day_of
from swproxy.quota.ledger import LEASE_SECONDS, LedgerDown, Observer, UsedBy
from swproxy.quota.link import Link, LinkBroken, LinkSlow, ServerError
from swproxy.quota.revocations import Revocation, Revocations
from swproxy.quota.server_nodes import (
    PATIENCE_SECONDS,
    TURN_SECONDS,
    Login,
    ServerNodes,
    has_moved,
)
from swproxy.quota.server_reports import lacks, read_parts, read_usage
from swproxy.quota.windows import MICROS

__all__ = ["Login", "ValkeyLedger"]

_ASK_SECONDS = 0.1
_MOST_FAILURES = 3
_LATE = MICROS
"""How long behind its question the script may still take a call."""

_BATCH = 500
"""Settlements said at a time; the server does nothing else meanwhile."""


@dataclass(slots=True, eq=False)
class _Ended:
    """A call's end that is to be said, from `due` on (trio's clock)."""

    call: Call
    holder: str
    end: End
    due: float = 0.0


class ValkeyLedger(CountedCalls):
    """A ledger on a server (see `ledger.Ledger`); `run` it as long as it is used.

    `moments` are the time of day and a clock for leases, in microseconds, in place of the server's.
    """

    def __init__(
        self,
        address: StoreAddress,
        login: Login,
        tls: ssl.SSLContext | None = None,
        observer: Observer | None = None,
        *,
        seconds: float = _ASK_SECONDS,
        moments: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(observer)
        self._address = address
        self._nodes = ServerNodes(address, login, tls)
        self._seconds = seconds
        self._moments = moments
        self._why = "the store has not been reached yet"
        self._failures = 0
        self._ahead = 0
        self._name = self._holder = os.urandom(8).hex()
        self._renewed = -1
        self._ended: list[_Ended] = []
        self._wake = trio.Event()
        self._turning = trio.Lock()
        self._batch = Figures()
        self._batches = itertools.count(1)
        self._number = 0
        self._streams: dict[tuple[str, str], int] = {}
        self._serial = ""
        self._revoked: list[Revocation] = []
        self._forgotten: list[Revocation] = []
        self._revocations = Revocations()

    @property
    def revocations(self) -> Revocations:
        """What is revoked, at most a second old."""
        return self._revocations

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a link to the store until cancelled; started when it is there, or can't be made."""
        async with trio.open_nursery() as nursery:
            # Kept beyond the cancellation for what is still to be said, but not for long.
            link_scope = trio.CancelScope(shield=True)
            nursery.start_soon(self._keep_link, link_scope)
            try:
                await self._nodes.tried.wait()
                task_status.started()
                await trio.sleep_forever()
            finally:
                link_scope.deadline = trio.current_time() + PATIENCE_SECONDS
                with trio.CancelScope(shield=True, deadline=link_scope.deadline):
                    await self.tend()
                link_scope.cancel()

    async def tend(self) -> bool:
        """Say all that is to be said now; tell whether it was."""
        try:
            await self._turn()
        except LedgerDown:
            return False
        return True

    async def revoke(self, revocation: Revocation) -> None:
        """Revoke URLs for everybody who uses the store. Raises LedgerDown."""
        await self._turn(revocation)

    async def usage(self, since: date, app: str = "", user: str = "") -> Sequence[UsedBy]:
        """Return what was used since a day, of all applications and users or of one."""
        today = day_of(self._now())
        return await read_usage(self._ask_all, since, app, user, today, self._server_ticks())

    async def parts(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, Part]]:
        """Return the states of accounts that have one, without what the dead hold."""
        return await read_parts(self._ask_all, keys, self._now(), self._server_ticks())

    async def examine(self) -> list[str]:
        """Return what the store lacks for keeping what is counted. Raises LedgerDown."""
        return await lacks(self._ask_all)

    # Deciding

    async def _decide(self, call: Call) -> Taken | Refused:
        link = self._nodes.link
        if link is None or self._why:
            raise LedgerDown(self._why or "the store is not connected")
        self._change_holder_if_late()
        holder = self._holder
        keys, said = script.decision(call, holder)
        if self._moments is None:
            said["deadline"] = self._now() + _LATE
        known = False
        try:
            answer = await self._run_script("admit", keys, said, link, self._seconds)
            known = True
        except (LinkBroken, ServerError) as error:
            known = isinstance(error, ServerError)
            self._fail_once(link, error)
            raise LedgerDown(str(error)) from error
        finally:
            if not known:
                due = trio.current_time() + 2 * _LATE / MICROS
                self._ended.append(_Ended(call, holder, End(returned=True), due))
        self._failures = 0
        return script.outcome(call, holder, answer)

    def _end(self, taken: Taken, end: End) -> None:
        self._ended.append(_Ended(taken.call, taken.holder, end))
        self._wake.set()

    def _fail_once(self, link: Link, error: Exception) -> None:
        """Take note of a decision that could not be had."""
        self._failures += 1
        self._nodes.judge(link, error)
        if link.why:
            self._wake.set()
        if self._failures >= _MOST_FAILURES and not has_moved(link):
            self._go_down(str(error))

    # Everything else

    async def _keep_link(self, scope: trio.CancelScope) -> None:
        with scope:
            await self._nodes.keep_link(self._use, self._go_down)

    async def _use(self, link: Link) -> None:
        """Say over a link what is to be said, as long as it lasts. Raises LedgerDown."""
        while not link.why:
            await self._turn()
            self._nodes.tried.set()
            with trio.move_on_after(TURN_SECONDS):
                await self._wake.wait()

    async def _turn(self, revocation: Revocation | None = None) -> None:
        """Say what is to be said, and hear what is revoked. Raises LedgerDown."""
        async with self._turning:
            link = self._nodes.link
            if link is None:
                raise LedgerDown(self._why)
            self._wake = trio.Event()
            more = True
            while more or revocation:
                more = await self._say(link, revocation)
                if revocation in self._forgotten:
                    self._forgotten.remove(revocation)
                revocation = self._forgotten[-1] if self._forgotten else None

    async def _say(self, link: Link, revocation: Revocation | None) -> bool:
        """Say one batch; tell whether there is more."""
        now = trio.current_time()
        due = [each for each in self._ended if each.due <= now]
        batch, more = due[:_BATCH], len(due) > _BATCH
        self._change_holder_if_late()
        if not self._batch.sums:
            self._batch = self._figures.take(_BATCH)
            self._number = next(self._batches)
            more |= len(self._batch.sums) == _BATCH
        self._streams = dict.fromkeys(self._streams, 0) | self._figures.streams
        said = {"holder": self._holder, "name": self._name, "revoked": self._serial}
        said["batch"] = str(self._number)
        ended = [(each.call, each.holder, each.end) for each in batch]
        keys, said = script.turn(said, ended, self._batch, self._streams, revocation)
        try:
            seconds = max(PATIENCE_SECONDS, self._seconds)
            answer = await self._run_script("turn", keys, said, link, seconds)
        except (LinkBroken, ServerError) as error:
            if isinstance(error, LinkSlow):
                link.end(str(error))
            self._nodes.judge(link, error)
            if not has_moved(link):
                self._go_down(str(error))
            raise LedgerDown(str(error)) from error
        said_now = set(map(id, batch))
        self._ended = [each for each in self._ended if id(each) not in said_now]
        self._batch = Figures()
        self._streams = {who: n for who, n in self._streams.items() if n}
        self._renewed = self._ticks()
        if self._why and trio.current_time() > now + self._seconds:
            # Good enough for all that is said here, but nobody is to wait so long for a decision.
            self._go_down("the store answers too slowly")
        else:
            self._come_up()
        self._learn(answer)
        return more

    def _come_up(self) -> None:
        if self._why:
            self._observer.told("ledger-up", f"{self._address} is in use.")
        self._why = ""
        self._failures = 0

    def _learn(self, answer: Sequence[Any]) -> None:
        """Take what is revoked. What the store has forgotten of that, it will be told again."""
        serial = answer[1].decode()
        if serial == self._serial:
            return
        flat = [each.decode() for each in answer[2]]
        revoked = [*map(script.revocation, flat[::2], flat[1::2])]
        if script.has_forgotten(self._serial, serial):
            self._forgotten = self._revoked
        self._forgotten = [each for each in self._forgotten if each not in revoked]
        self._serial, self._revoked = serial, [*revoked, *self._forgotten]
        self._revocations = Revocations(self._revoked)
        self._observer.revoked(self._revocations)

    def _go_down(self, why: str) -> None:
        if why != self._why:
            self._observer.told("ledger-down", f"{why}.")
        self._why = why
        self._observer.failed()

    def _change_holder_if_late(self) -> None:
        """Go on under another name if the old one has been taken for dead."""
        if self._renewed >= 0 and self._ticks() >= self._renewed + LEASE_SECONDS * MICROS:
            self._holder = os.urandom(8).hex()
            self._renewed = self._ticks()

    def _ticks(self) -> int:
        return self._moments()[1] if self._moments else time.monotonic_ns() // 1000

    def _server_ticks(self) -> int:
        """Return what leases end by, as the server has it."""
        return self._moments()[1] if self._moments else self._now()

    def _now(self) -> int:
        """Return the server's time of day, as far as its answers told."""
        return self._moments()[0] if self._moments else time.monotonic_ns() // 1000 + self._ahead

    # Asking

    async def _run_script(
        self, what: str, keys: Sequence[str], said: dict[str, Any], link: Link, seconds: float
    ) -> Sequence[Any]:
        if self._moments is not None:
            said["now"], said["ticks"] = self._moments()
        own = script.keys_of(said, keys)
        rest = (str(len(own)), *own, what, json.dumps(said))
        try:
            answer: Sequence[Any] = await link.ask("EVALSHA", script.SHA, *rest, seconds=seconds)
        except ServerError as error:
            if error.code != "NOSCRIPT":
                raise
            answer = await link.ask("EVAL", script.SCRIPT, *rest, seconds=seconds)
        self._ahead = int(answer[0]) - time.monotonic_ns() // 1000
        return answer

    async def _ask_all(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        link = self._nodes.link
        if link is None:
            raise LedgerDown(self._why)
        try:
            with trio.fail_after(PATIENCE_SECONDS):
                answers = [link.send(*command) for command in commands]
                return [await answer.wait() for answer in answers]
        except (LinkBroken, ServerError, trio.TooSlowError) as error:
            raise LedgerDown(str(error) or "the store did not answer in time") from error
