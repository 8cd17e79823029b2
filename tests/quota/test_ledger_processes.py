"""Exactness over processes, and what is left of those that are killed. Each test on each store."""

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from swproxy.quota.accounts import Taken
from swproxy.quota.checks import Moment
from tests.support import ROOT
from tests.support.hammer import CHURN, RUSH, URL, USES
from tests.support.ledgers import TWO_STORES, Store, call, url, user

ALL = Moment(0, "", lambda _: True)
FAR = 2**52
"""Ticks at which every lease of the real clock has ended."""


@pytest.fixture(params=TWO_STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return TWO_STORES[request.param](tmp_path)


class Hammer:
    """A process of `tests.support.hammer`."""

    def __init__(self, store: Store, mode: str, tasks: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.hammer", store.spec, mode, str(tasks)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    async def line(self) -> str:
        assert self.process.stdout
        line = await trio.to_thread.run_sync(self.process.stdout.readline)
        assert line, "the hammer has ended"
        return line.decode().strip()

    async def until(self, word: str) -> list[str]:
        words = []
        while (line := await self.line()) != word:
            words.append(line)
        return words

    def tell(self, word: str = "") -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()


async def test_two_workers_and_forty_tasks_take_exactly_what_there_is(store: Store) -> None:
    hammers = [Hammer(store, "rush", 20) for _ in range(2)]
    try:
        for each in hammers:
            await each.until("ready")
        for each in hammers:
            each.tell()
        counts = [len(await each.until("done")) for each in hammers]
        assert sum(counts) == RUSH.count
    finally:
        for each in hammers:
            each.close()
    async with store.ledger() as ledger:
        once = url(name=URL)
        states = await ledger.parts([once.key])
        assert USES.left(states[once.key]["uses"], ALL) == USES.count - RUSH.count


async def test_killed_in_the_middle_of_anything_nothing_is_lost_and_nothing_leaks(
    store: Store,
) -> None:
    rounds, processes, tasks = 60, 4, 5
    places, _ = CHURN
    words: list[str] = []
    hammer = Hammer(store, "brood", tasks)
    try:
        async with store.ledger() as survivor:
            for i in range(rounds):
                for _ in range(processes):
                    hammer.tell("start")
                words += [*await hammer.until("taken"), "taken"]
                await trio.sleep(0.0015 * i)
                hammer.tell("kill")
                words += await hammer.until("killed")
                assert isinstance(await survivor.admit(call(user(name="next"))), Taken)
            taken, settled = words.count("taken"), words.count("settled")
            someone, once = user(*CHURN), url(name=URL)
            # Who is killed may have taken what it could not tell of any more: one a task.
            uses = (await survivor.parts([once.key]))[once.key]["uses"]
            assert taken <= uses <= taken + rounds * processes * tasks
            store.clock.ticks = FAR
            assert isinstance(await survivor.admit(call(someone, tokens=10)), Taken)
            state = (await survivor.parts([someone.key]))[someone.key]
            assert places.left(state["places"], ALL) == places.count - 1
            assert 3 * settled <= state["tokens/month"][2] <= 3 * uses
    finally:
        hammer.tell("kill")
        hammer.close()
