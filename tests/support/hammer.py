"""A worker that only decides: takes calls as fast as it can, and says on its output what it took.

    python -m tests.support.hammer STORE MODE COUNT

STORE is as `tests.support.ledgers.Store.spec` has it. Each line of output is a word, written before
the next step, so that a reader knows what was said to be taken, whenever the process is killed.

MODE is `rush`: at a line of input COUNT tasks take until refused, keep what they have, and wait for
another line. Or `brood`: a line `start` forks a process in which COUNT tasks take and settle for as
long as it lives, and `kill` kills all of them; a start of Python for each would take too long.
"""

import os
import signal
import sys
from pathlib import Path

import trio

from swproxy.config.store_address import StoreAddress
from swproxy.quota.accounts import Taken
from swproxy.quota.checks import Budget, End, Places, Rate, Uses
from swproxy.quota.ledger import Ledger
from swproxy.quota.livefile import Place
from swproxy.quota.sqlite import SqliteLedger
from swproxy.quota.valkey import Login, ValkeyLedger
from swproxy.quota.windows import Period
from tests.support.ledgers import app, call, url, user
from tests.support.wire import PATIENCE

RUSH = Rate(500, 86400, 500)
USES = Uses(700)
CHURN = (Places(10**6), Budget(10**9, Period.MONTH))
EVERYBODY = Rate(10**9, 86400, 10**9)
ALWAYS = 2**60
URL = "cd" * 32


def open_store(spec: str) -> Ledger:
    """Return the store on the real clock."""
    kind, *paths = spec.split(":")
    if kind == "sqlite":
        return SqliteLedger(Place(*map(Path, paths)))
    return ValkeyLedger(StoreAddress(path=paths[0]), Login(), seconds=PATIENCE)


def say(word: str) -> None:
    """Tell the reader, in one write that a killed process has either done or not."""
    os.write(1, f"{word}\n".encode())


async def rush(ledger: Ledger) -> None:
    """Take until refused; nothing is settled."""
    accounts = (
        app(EVERYBODY),
        user(RUSH, Places(10**6)),
        url(USES, name=URL, signed=ALWAYS, expires=ALWAYS),
    )
    while True:
        outcome = await ledger.admit(call(*accounts))
        if not isinstance(outcome, Taken):
            return
        say("taken")
        await trio.lowlevel.checkpoint()


async def churn(ledger: Ledger) -> None:
    """Take and settle, each call a use of the URL and three tokens."""
    accounts = (
        app(EVERYBODY),
        user(*CHURN),
        url(Uses(10**9), name=URL, signed=ALWAYS, expires=ALWAYS),
    )
    before = False
    while True:
        outcome = await ledger.admit(call(*accounts, tokens=10))
        assert isinstance(outcome, Taken)
        say("taken")
        # What was late is written by then, with the decision.
        if before:
            say("settled")
        await trio.lowlevel.checkpoint()
        ledger.settle(outcome, End(tokens=3))
        if isinstance(ledger, ValkeyLedger):
            await ledger.tend()
        before = True
        await trio.lowlevel.checkpoint()


async def run_rush(spec: str, tasks: int) -> None:
    """Rush when told to."""
    ledger = open_store(spec)
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        say("ready")
        await trio.to_thread.run_sync(sys.stdin.readline)
        async with trio.open_nursery() as workers:
            for _ in range(tasks):
                workers.start_soon(rush, ledger)
        say("done")
        await trio.to_thread.run_sync(sys.stdin.readline)
        nursery.cancel_scope.cancel()


async def run_churn(spec: str, tasks: int) -> None:
    """Churn until killed."""
    ledger = open_store(spec)
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        for _ in range(tasks):
            nursery.start_soon(churn, ledger)


def brood(spec: str, tasks: int) -> None:
    """Fork and kill as told; this process itself opens nothing that could not be forked."""
    children: list[int] = []
    for line in sys.stdin:
        if line == "start\n":
            child = os.fork()
            if not child:
                trio.run(run_churn, spec, tasks)
                os._exit(1)
            children.append(child)
        else:
            for child in children:
                os.kill(child, signal.SIGKILL)
            for child in children:
                os.waitpid(child, 0)
            children.clear()
            say("killed")


if __name__ == "__main__":
    if sys.argv[2] == "rush":
        trio.run(run_rush, sys.argv[1], int(sys.argv[3]))
    else:
        brood(sys.argv[1], int(sys.argv[3]))
