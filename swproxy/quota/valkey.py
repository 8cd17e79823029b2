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
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import trio

from swproxy.config.store_address import StoreAddress
from swproxy.quota import script
from swproxy.quota.accounts import Call, Refused, Taken
from swproxy.quota.checks import End, Part
from swproxy.quota.figures import Figures, day_of
from swproxy.quota.ledger import LEASE_SECONDS, LedgerDown, Used, UsedBy
from swproxy.quota.link import Link, LinkBroken, ServerError, connect
from swproxy.quota.revocations import Revocation, Revocations
from swproxy.quota.sqlite import Observer, Unobserved
from swproxy.quota.windows import MICROS

__all__ = ["Login", "ValkeyLedger"]

_ASK_SECONDS = 0.1
_TURN_SECONDS = 0.5
_PATIENCE_SECONDS = 1.0
"""For a turn, a login, a connection: nobody waits for those."""

_MOST_FAILURES = 3
_ELSEWHERE = ("READONLY", "ASK", "CLUSTERDOWN", "LOADING", "MASTERDOWN")
"""What a node says that can't decide now, where another may."""

_MOVED = "the keys are on another node"
_MOVED_SECONDS = 0.05

_LATE = MICROS
"""How long behind its question the script may still take a call."""

_BATCH = 500
"""Settlements said at a time; the server does nothing else meanwhile."""


@dataclass(frozen=True, slots=True)
class Login:
    """As whom a server is talked to."""

    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(slots=True, eq=False)
class _Ended:
    """A call's end that is to be said, from `due` on (trio's clock)."""

    call: Call
    holder: str
    end: End
    due: float = 0.0


class _Moved(Exception):  # noqa: N818 - no fault: the cluster has said where to go
    pass


class ValkeyLedger:
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
        self._address = address
        self._login = login
        self._tls = tls if address.tls else None
        self._observer = observer or Unobserved()
        self._seconds = seconds
        self._moments = moments
        self._nodes: list[tuple[str, int] | str] = [*address.nodes] or [address.path]
        self._link: Link | None = None
        self._why = "the store has not been reached yet"
        self._reached = trio.Event()
        self._failures = 0
        self._ahead = 0
        self._name = self._holder = os.urandom(8).hex()
        self._renewed = -1
        self._taken: dict[str, Taken] = {}
        self._ended: list[_Ended] = []
        self._wake = trio.Event()
        self._turning = trio.Lock()
        self._figures = Figures()
        self._batch = Figures()
        self._batches = itertools.count(1)
        self._number = 0
        self._streams: dict[tuple[str, str], int] = {}
        self._serial = ""
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
                await self._reached.wait()
                task_status.started()
                await trio.sleep_forever()
            finally:
                link_scope.deadline = trio.current_time() + _PATIENCE_SECONDS
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

    async def admit(self, call: Call) -> Taken | Refused:
        """Charge a call to all of its accounts, or to none. Raises LedgerDown."""
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
        call = taken.call
        if self._taken.pop(call.id, None) is None:
            return
        self._figures.ended(self._now(), call, end, used)
        self._ended.append(_Ended(call, taken.holder, end))
        self._wake.set()

    def note(self, app: str, user: str, used: Used) -> None:
        """Add to the figures what a call used that nothing limits. Never waits, never fails."""
        self._figures.of(self._now(), app, user).add(used)

    async def revoke(self, revocation: Revocation) -> None:
        """Revoke URLs for everybody who uses the store. Raises LedgerDown."""
        await self._turn(revocation)

    async def usage(self, since: date, app: str = "", user: str = "") -> Sequence[UsedBy]:
        """Return what was used since a day, of all applications and users or of one."""
        today = day_of(self._now())
        days = [since + timedelta(days=n) for n in range((today - since).days + 1)][-400:]
        found: dict[tuple[date, str, str], Used] = {}

        def of(day: date, name: str) -> Used | None:
            each_app, _, each_user = name.partition("\n")
            if app not in ("", each_app) or user not in ("", each_user):
                return None
            return found.setdefault((day, each_app, each_user), Used())

        sums = await self._hashes([f"used/{day}" for day in days])
        for day, fields in zip(days, sums, strict=True):
            for name, value in fields.items():
                who, _, what = name.rpartition("\n")
                if what in script.USED and (used := of(day, who)) is not None:
                    setattr(used, what, getattr(used, what) + int(value))
        for fields in await self._hashes([f"node/{name}" for name in await self._living()]):
            for name, value in fields.items():
                if name != "batch" and (used := of(today, name)) is not None:
                    used.streams += int(value)
        return [UsedBy(*who, used) for who, used in sorted(found.items())]

    async def parts(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, Part]]:
        """Return the states of accounts that have one, without what the dead hold."""
        living = await self._living()
        found: dict[str, Mapping[str, Part]] = {}
        for key, fields in zip(keys, await self._hashes(keys), strict=True):
            state = script.parts(fields, living)
            if state and (self._now() < int(fields["expires"]) or script.held(state)):
                found[key] = state
        return found

    async def examine(self) -> list[str]:
        """Return what the store lacks for keeping what is counted. Raises LedgerDown."""
        answers = await self._ask_all([("INFO", part) for part in ("memory", "persistence")])
        said = dict(
            line.split(":", 1) for line in b"".join(answers).decode().split("\r\n") if ":" in line
        )
        lacks = []
        policy = said.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            lacks.append(
                f"its maxmemory-policy is {policy}, which may forget what was counted: noeviction"
                " refuses calls instead"
            )
        if said.get("aof_enabled") != "1":
            lacks.append(
                "it keeps no append-only file (appendonly yes): a restart may bring old counts"
                " back, or none, and then one-time URLs from before are refused"
            )
        return lacks

    # Deciding

    async def _decide(self, call: Call) -> Taken | Refused:
        link = self._link
        if link is None or self._why:
            raise LedgerDown(self._why or "the store is not connected")
        self._change_holder_if_late()
        holder = self._holder
        keys, said = script.decision(call, holder)
        if self._moments is None:
            said["deadline"] = self._now() + _LATE
        known = False
        try:
            with trio.move_on_after(self._seconds):
                answer = await self._run_script("admit", keys, said, link)
                known = True
        except (LinkBroken, ServerError) as error:
            known = isinstance(error, ServerError)
            self._fail_once(link, error)
            raise LedgerDown(str(error)) from error
        finally:
            if not known:
                due = trio.current_time() + 2 * _LATE / MICROS
                self._ended.append(_Ended(call, holder, End(returned=True), due))
        if not known:
            self._fail_once(link, LinkBroken("the store did not answer in time"))
            raise LedgerDown("the store did not answer in time")
        self._failures = 0
        return script.outcome(call, holder, answer)

    def _fail_once(self, link: Link, error: Exception) -> None:
        """Take note of a decision that could not be had."""
        self._failures += 1
        self._judge(link, error)
        if link.why:
            self._wake.set()
        if self._failures >= _MOST_FAILURES and link.why != _MOVED:
            self._go_down(str(error))

    def _judge(self, link: Link, error: Exception) -> None:
        """End a link to a node that is the wrong one, or has become so."""
        if not isinstance(error, ServerError):
            return
        if error.code == "MOVED":
            host, _, port = error.rest.split(" ")[1].rpartition(":")
            # A node that does not know its own name means the one that was asked.
            self._nodes.insert(0, (host or self._nodes[0][0], int(port)))
            link.end(_MOVED)
        elif error.code in _ELSEWHERE:
            link.end(f"the store said {error.code}")

    # Everything else

    async def _keep_link(self, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                await self._use_some_node()

    async def _use_some_node(self) -> None:
        """Use a connection to a node until it ends, and choose the next."""
        node = self._nodes[0]
        try:
            await self._use_link(node)
        except _Moved:
            pass
        except (LinkBroken, ServerError, trio.TooSlowError) as error:
            why = str(error) or "the store does not answer"
            self._go_down(f"{_name(node)}: {why}")
        if self._nodes[0] == node:
            self._nodes.append(self._nodes.pop(0))
        # What a cluster told is kept; what it told earlier is not worth a list that grows.
        self._nodes = list(dict.fromkeys(self._nodes))[: len(self._address.nodes) + 8]
        self._reached.set()
        await trio.sleep(_MOVED_SECONDS if self._nodes[0] != node else _TURN_SECONDS)

    async def _use_link(self, node: tuple[str, int] | str) -> None:
        """Use one connection until it ends. Raises LinkBroken, ServerError, TooSlowError."""
        with trio.fail_after(_PATIENCE_SECONDS):
            link = Link(await connect(node, self._tls))
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.serve)
            try:
                with trio.fail_after(_PATIENCE_SECONDS):
                    await self._log_in(link)
                self._link = link
                while not link.why:
                    await self._turn()
                    self._reached.set()
                    with trio.move_on_after(_TURN_SECONDS):
                        await self._wake.wait()
            except (LinkBroken, ServerError, trio.TooSlowError, LedgerDown) as error:
                failure = error
            finally:
                self._link = None
                nursery.cancel_scope.cancel()
        if link.why == _MOVED:
            raise _Moved
        raise failure if isinstance(failure, ServerError) else LinkBroken(str(failure or link.why))

    async def _log_in(self, link: Link) -> None:
        if self._login.password:
            who = (self._login.username,) if self._login.username else ()
            await link.ask("AUTH", *who, self._login.password)
        if self._address.database:
            await link.ask("SELECT", str(self._address.database))

    async def _turn(self, revocation: Revocation | None = None) -> None:
        """Say what is to be said, and hear what is revoked. Raises LedgerDown."""
        async with self._turning:
            link = self._link
            if link is None:
                raise LedgerDown(self._why)
            self._wake = trio.Event()
            more = True
            while more:
                more = await self._say(link, revocation)
                revocation = None

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
            with trio.fail_after(max(_PATIENCE_SECONDS, self._seconds)):
                answer = await self._run_script("turn", keys, said, link)
        except trio.TooSlowError as error:
            link.end("the store did not answer in time")
            self._go_down(link.why)
            raise LedgerDown(link.why) from error
        except (LinkBroken, ServerError) as error:
            self._judge(link, error)
            if link.why != _MOVED:
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
        serial = answer[1].decode()
        if serial != self._serial:
            self._serial = serial
            flat = [each.decode() for each in answer[2]]
            self._revocations = Revocations(map(script.revocation, flat[::2], flat[1::2]))
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

    def _now(self) -> int:
        """Return the server's time of day, as far as its answers told."""
        return self._moments()[0] if self._moments else time.monotonic_ns() // 1000 + self._ahead

    # Asking

    async def _run_script(
        self, what: str, keys: Sequence[str], said: dict[str, Any], link: Link
    ) -> Sequence[Any]:
        if self._moments is not None:
            said["now"], said["ticks"] = self._moments()
        own = script.keys_of(said, keys)
        rest = (str(len(own)), *own, what, json.dumps(said))
        try:
            answer: Sequence[Any] = await link.ask("EVALSHA", script.SHA, *rest)
        except ServerError as error:
            if error.code != "NOSCRIPT":
                raise
            answer = await link.ask("EVAL", script.SCRIPT, *rest)
        self._ahead = int(answer[0]) - time.monotonic_ns() // 1000
        return answer

    async def _hashes(self, keys: Sequence[str]) -> list[dict[str, str]]:
        """Return hashes, asked for together. Raises LedgerDown."""
        answers = await self._ask_all([("HGETALL", script.PREFIX + key) for key in keys])
        return [
            {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}
            for flat in answers
        ]

    async def _living(self) -> set[str]:
        """Return the names of all workers that are alive. Raises LedgerDown."""
        now = self._moments()[1] if self._moments else self._now()
        command = ("ZRANGEBYSCORE", f"{script.PREFIX}holders", f"({now}", "+inf")
        (names,) = await self._ask_all([command])
        return {name.decode() for name in names}

    async def _ask_all(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        if self._link is None:
            raise LedgerDown(self._why)
        try:
            with trio.fail_after(_PATIENCE_SECONDS):
                answers = [self._link.send(*command) for command in commands]
                return [await answer.wait() for answer in answers]
        except (LinkBroken, ServerError, trio.TooSlowError) as error:
            raise LedgerDown(str(error) or "the store did not answer in time") from error


def _name(node: tuple[str, int] | str) -> str:
    return f"unix:{node}" if isinstance(node, str) else f"{node[0]}:{node[1]}"
