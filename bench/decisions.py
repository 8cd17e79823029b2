"""A worker that only decides, at a steady rate, and times a stream beside it.

    python -m bench.decisions DIRECTORY RATE SECONDS

Prints one line of JSON: decisions, p50 and p99 in milliseconds, the processor's microseconds for
each decision and its settlement together, and by how many milliseconds a stream that moves every
millisecond was late, at the 99th percentile and at worst.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import trio

from bench.client import no_garbage
from swproxy.quota.accounts import Account, Call, Taken
from swproxy.quota.checks import Budget, End, Places, Rate, Uses
from swproxy.quota.livefile import Place
from swproxy.quota.sqlite import SqliteLedger
from swproxy.quota.windows import Period

__all__ = ["four_checks", "ledger_in", "one_time"]

_USERS = 1000
_MANY = 10**6
_FAR = 2**60
_CHECKS = (Rate(_MANY, 1, _MANY), Places(_MANY), Budget(10**12, Period.DAY))
_APP = Account("app", "app/bench", (Rate(_MANY, 1, _MANY),))


def four_checks(number: int) -> Call:
    """Return a call with a check of its application and three of one of a thousand users."""
    user = str(number * 7919 % _USERS)
    accounts = _APP, Account("user", f"user/bench/{user}", _CHECKS)
    return Call(f"call-{number}", "bench", accounts, user, tokens=100)


def one_time(number: int) -> Call:
    """Return a call with three checks of a user, of a URL that may begin this one."""
    once = Account("url", f"url/bench/{number:064x}", (Uses(1),), signed=_FAR, expires=_FAR)
    call = four_checks(number)
    return Call(call.id, "bench", (call.accounts[1], once), call.user, call.tokens)


def ledger_in(directory: Path) -> SqliteLedger:
    """Return a ledger whose files are all in `directory`."""
    return SqliteLedger(Place(directory / "ledger.sqlite", directory / "snapshot.sqlite"))


async def _decide(ledger: SqliteLedger, rate: float, until: float, times: list[float]) -> None:
    due = trio.current_time()
    number = 0
    while due < until:
        await trio.sleep_until(due)
        due += 1 / rate
        number += 1
        call = four_checks(number)
        began = time.perf_counter()
        outcome = await ledger.admit(call)
        times.append(time.perf_counter() - began)
        assert isinstance(outcome, Taken)
        ledger.settle(outcome, End(tokens=50))


async def _stream(until: float, late: list[float]) -> None:
    """Move every millisecond, and note how late it was."""
    due = trio.current_time()
    while due < until:
        due += 0.001
        await trio.sleep_until(due)
        now = trio.current_time()
        late.append(now - due)
        due = max(due, now)


async def _main(directory: Path, rate: float, seconds: float) -> None:
    ledger = ledger_in(directory)
    times: list[float] = []
    late: list[float] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        with no_garbage():
            began = time.process_time()
            until = trio.current_time() + seconds
            async with trio.open_nursery() as work:
                work.start_soon(_stream, until, late)
                if rate:
                    work.start_soon(_decide, ledger, rate, until, times)
            spent = time.process_time() - began
        nursery.cancel_scope.cancel()
    print(
        json.dumps(
            {
                "decisions": len(times),
                "p50_ms": 1e3 * _at(times, 0.5),
                "p99_ms": 1e3 * _at(times, 0.99),
                "cpu_us": 1e6 * spent / max(1, len(times)),
                "late_p99_ms": 1e3 * _at(late, 0.99),
                "late_most_ms": 1e3 * max(late),
            }
        )
    )


def _at(values: list[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)] if values else 0.0


if __name__ == "__main__":
    trio.run(_main, Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
