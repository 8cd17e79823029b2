"""Bodies that are kept: the books of their budget, and who gives way when it is spent."""

import pytest
import trio
from trio.testing import MockClock

from swproxy.proxy.spool import MEMORY_BYTES, STEP_BYTES, Spool, SpoolBudget
from swproxy.sw1.refusal import Refusal


@pytest.mark.parametrize("size", [0, 1, MEMORY_BYTES, MEMORY_BYTES + 1, 5 * MEMORY_BYTES])
async def test_a_spool_keeps_what_it_was_given_and_pays_its_budget_back(size: int) -> None:
    budget = SpoolBudget(10 * MEMORY_BYTES)
    spool = Spool(budget)
    data = bytes(index % 251 for index in range(size))
    for start in range(0, size, 999):
        spool.write(data[start : start + 999])
    assert budget.held == spool.length == size
    assert b"".join(spool.pieces()) == b"".join(spool.pieces()) == data
    spool.close()
    spool.close()
    assert budget.held == 0


async def test_a_disk_or_descriptor_that_is_missing_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spool = Spool(SpoolBudget(1 << 20))
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.TemporaryFile", _no_descriptor)
        with pytest.raises(Refusal) as refused:
            spool.write(b"x" * (MEMORY_BYTES + 1))
    assert refused.value.code == "body-buffer-full"
    spool.close()


def _no_descriptor(*args: object, **kwargs: object) -> None:
    raise OSError(24, "Too many open files")


def refused(spool: Spool, data: bytes) -> bool:
    try:
        spool.write(data)
    except Refusal:
        return True
    return False


async def test_the_body_that_has_stopped_gives_way_to_one_that_comes(mock_clock: MockClock) -> None:
    budget = SpoolBudget(4 * STEP_BYTES)
    silent, steady = Spool(budget), Spool(budget)
    silent.write(b"x" * 2 * STEP_BYTES)
    steady.write(b"x" * STEP_BYTES)
    mock_clock.jump(5)
    steady.write(b"x" * STEP_BYTES)
    mock_clock.jump(4)
    silent.write(b"")
    newcomer = Spool(budget)
    newcomer.write(b"x")
    assert budget.held == 2 * STEP_BYTES + 1
    assert refused(silent, b"x")
    # Of two that are alive, the one that is slower; a byte now and then is no sign of life.
    mock_clock.jump(1)
    newcomer.write(b"x")
    steady.write(b"x" * STEP_BYTES)
    assert not refused(steady, b"x" * STEP_BYTES)
    assert refused(newcomer, b"x")
    for spool in (silent, steady, newcomer):
        spool.close()
    assert budget.held == 0


async def test_the_slowest_itself_is_refused(mock_clock: MockClock) -> None:
    budget = SpoolBudget(100)
    slow = Spool(budget)
    slow.write(b"x" * 10)
    mock_clock.jump(1)
    fast = Spool(budget)
    fast.write(b"x" * 90)
    assert refused(slow, b"x")
    assert budget.held == 100
    slow.close()
    fast.close()


async def test_a_proved_body_never_gives_way(mock_clock: MockClock) -> None:
    budget = SpoolBudget(100)
    proved, other = Spool(budget), Spool(budget, proved=True)
    proved.write(b"x" * 50)
    other.write(b"x" * 50)
    proved.prove()
    mock_clock.jump(100)
    late = Spool(budget)
    assert refused(late, b"x")
    assert budget.held == 100
    for spool in (proved, other, late):
        spool.close()
    assert budget.held == 0


async def test_one_client_has_a_share(mock_clock: MockClock) -> None:
    budget = SpoolBudget(400, 100)
    own, others = Spool(budget, "192.0.2.1"), Spool(budget, "192.0.2.2")
    others.write(b"x" * 80)
    own.write(b"x" * 80)
    mock_clock.jump(1)
    second = Spool(budget, "192.0.2.1")
    second.write(b"x" * 80)  # the first of the same client gives way
    assert budget.held == 160
    assert refused(own, b"x")
    second.prove()
    third = Spool(budget, "192.0.2.1")
    assert refused(third, b"x" * 30)
    nobodys = Spool(budget)
    nobodys.write(b"x" * 200)
    for spool in (own, others, second, third, nobodys):
        spool.close()
    assert budget.held == 0


async def test_whoever_receives_a_body_that_gives_way_is_told() -> None:
    budget = SpoolBudget(100)
    told = []

    async def receive(spool: Spool) -> None:
        try:
            with spool.receiving():
                spool.write(b"x" * 60)
                await trio.sleep_forever()
        except Refusal as refusal:
            told.append(refusal.code)

    async with trio.open_nursery() as nursery:
        first = Spool(budget)
        nursery.start_soon(receive, first)
        await trio.sleep(0.01)
        second = Spool(budget)
        second.write(b"x" * 60)
        assert budget.held == 60
    assert told == ["body-buffer-full"]
    with pytest.raises(Refusal):
        first.prove()
    first.close()
    second.close()
    assert budget.held == 0
