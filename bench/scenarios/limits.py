"""What a decision of the ledger costs, and what it does to those who stream beside it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import trio

from bench.client import no_garbage
from bench.decisions import four_checks, ledger_in, one_time
from bench.figures import Metric
from bench.machine import Cores, on_cores
from bench.session import Session
from bench.site import ROOT
from swproxy.quota.accounts import Account, Call, Taken
from swproxy.quota.checks import End, Rate

NAME = "limits"
TITLE = "Decisions of the ledger (SQLite in memory)"
CPU = Metric("cpu_us_per_decision", "us", "CPU/decision")
SETTLE = Metric("cpu_us_per_settlement", "us", "CPU/settlement")
P50 = Metric("decision_p50_ms", "ms", "decision p50")
P99 = Metric("decision_p99_ms", "ms", "decision p99")
LATE = Metric("stream_late_p99_ms", "ms", "stream late p99")
STALL = Metric("stream_late_most_ms", "ms", "longest stall")
NOTES = (
    (
        "A decision is a transaction on a file in /dev/shm; the processor time is that of the "
        "thread that decides. With workers, each decides and settles at a steady rate while a "
        "task beside it moves every millisecond: the row with rate 0 is what the machine alone "
        "makes of that. The keeper's checkpoints and snapshots go on all the while."
    ),
)
_BATCH = 500


def run(session: Session) -> None:
    """Time decisions in one process, then at a rate in one and in two."""
    rounds = session.options.rounds_of(7)
    seconds = 1.0 if session.options.quick else 11.0
    layouts = [(1, 0), (1, 2000), (2, 2000)]
    session.progress.begin(NAME, rounds * (len(_CASES) + len(layouts)))
    with tempfile.TemporaryDirectory(prefix="swproxy-bench-", dir=_memory()) as directory:
        with on_cores(Cores.pinned().subject):
            trio.run(_costs, session, Path(directory), rounds)
        for _ in range(rounds):
            for workers, rate in layouts:
                session.progress.step(f"{workers} workers, {rate} decisions a second each")
                _together(session, Path(directory), workers, rate, seconds)


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _rate_only(number: int) -> Call:
    user = Account("user", f"user/plain/{number * 7919 % 1000}", (Rate(1000, 1, 1000),))
    return Call(f"call-{number}", "plain", (user,))


_CASES: dict[str, Callable[[int], Call]] = {
    "four checks: application and user": four_checks,
    "four checks: user and one-time URL": one_time,
    "one check: a user's rate": _rate_only,
}


async def _costs(session: Session, directory: Path, rounds: int) -> None:
    ledger = ledger_in(directory)
    number = 0
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        for _ in range(rounds):
            for case, make in _CASES.items():
                session.progress.step(case)
                calls = [make(number + i) for i in range(_BATCH)]
                number += _BATCH
                with no_garbage():
                    began = time.thread_time()
                    taken = [await ledger.admit(call) for call in calls]
                    between = time.thread_time()
                    for each in taken:
                        assert isinstance(each, Taken)
                        ledger.settle(each, End(tokens=50))
                    ended = time.thread_time()
                figures = {
                    CPU: 1e6 * (between - began) / _BATCH,
                    SETTLE: 1e6 * (ended - between) / _BATCH,
                }
                session.add(NAME, "swproxy", {"case": case}, figures)
                await trio.sleep(0.6)  # the keeper's turn
        nursery.cancel_scope.cancel()


def _together(session: Session, directory: Path, workers: int, rate: int, seconds: float) -> None:
    command = [sys.executable, "-m", "bench.decisions", str(directory), str(rate), str(seconds)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(workers)]
    labels = {"case": f"{workers} workers, {rate} decisions a second each"}
    try:
        for each in running:
            found = json.loads(each.communicate(timeout=seconds + 60)[0])
            figures = {LATE: found["late_p99_ms"], STALL: found["late_most_ms"]}
            if rate:
                figures |= {P50: found["p50_ms"], P99: found["p99_ms"]}
            session.add(NAME, "swproxy", labels, figures)
    finally:
        for each in running:
            each.kill()
            each.wait()
