"""The store that nodes share fails in every way there is, while a daemon serves.

In none of them does a stream under way stop, a worker miss a beat, or a call fail that nothing
limits; and when the store is back, so is everything. `tests.support.store_faults` measures them.
"""

from pathlib import Path

import pytest

from tests.support.store_faults import FAULTS, Fault, Trial, trial

ONE_BY_ONE = [each for each in FAULTS if not each.replicated and not each.down]
APART = [each for each in FAULTS if each.replicated or each.down]


async def suffer(run: Trial, fault: Fault) -> None:
    """Go through a fault; raises if a stream ends, or all is not well again."""
    free = run.free[""]
    seen = await run.suffer(fault)
    assert set(seen.codes) <= {"", "limits-unavailable"}, fault.title
    if fault.refuses:
        assert seen.codes["limits-unavailable"], fault.title
    assert set(run.free) == {""}, fault.title
    assert run.free[""] > free


async def test_whatever_befalls_the_store_streams_go_on(tmp_path: Path) -> None:
    async with trial(tmp_path) as run:
        workers = run.node.workers()
        assert len(workers) == 2
        for fault in ONE_BY_ONE:
            await suffer(run, fault)
        # Nobody was taken for hung, and started again.
        assert run.node.workers() == workers
        assert len(run.node.events("worker-ready")) == 2


@pytest.mark.parametrize("fault", APART, ids=lambda fault: fault.title)
async def test_where_the_store_is_down_at_first_or_has_a_replica(
    tmp_path: Path, fault: Fault
) -> None:
    async with trial(tmp_path, replicated=fault.replicated, down=fault.down) as run:
        workers = run.node.workers()
        await suffer(run, fault)
        assert run.node.workers() == workers
