"""What is simulated behaves as what it stands for, and the same dealer gives the same figures."""

import random

import pytest

from bench.figures import Metric
from bench.scenarios import accept, fleet

STREAMS = accept.Traffic(8, 60, seconds=60)
KEPT = accept.Traffic(8, 1e9, seconds=1)
COSTS = fleet.Costs(
    decision=100e-6, turn=100e-6, wire=1000, worker=100e-6, request=500e-6, event=30e-6
)


def by_chance(loads: list[int], dealer: random.Random) -> int:
    return dealer.randrange(len(loads))


@pytest.mark.parametrize("traffic", [STREAMS, KEPT])
def test_a_shared_queue_is_more_even_than_chance(traffic: accept.Traffic) -> None:
    shared = accept.busiest(traffic, 8, accept.Shared(8), random.Random(1))
    dealt = accept.busiest(traffic, 8, by_chance, random.Random(1))
    assert 1 <= shared < dealt


def test_one_worker_has_all() -> None:
    assert accept.busiest(KEPT, 1, by_chance, random.Random(1)) == 1


def simulated(workers: int, rate: float) -> dict[Metric, float]:
    return fleet.simulate(COSTS, workers, rate, random.Random(1))


def test_a_store_with_time_to_spare_answers_in_time() -> None:
    found = simulated(workers=20, rate=5)
    # A hundred calls a second, each with a decision and a turn, and forty turns for nothing.
    assert found[fleet.STORE] == pytest.approx(100 * (100 * 200e-6 + 40 * 100e-6), rel=0.1)
    assert found[fleet.P50] == pytest.approx(0.1, rel=0.1)
    assert found[fleet.LATE] == 0
    assert found[fleet.MOST] == pytest.approx(10 * 100 / found[fleet.STORE])


def test_one_that_is_asked_for_too_much_falls_behind() -> None:
    found = simulated(workers=200, rate=100)
    assert found[fleet.STORE] > 100
    assert found[fleet.LATE] > 900


def test_ends_that_come_while_a_turn_is_under_way_are_said_together() -> None:
    # Of a thousand calls a second there are fewer turns than ends.
    found = simulated(workers=1, rate=8000)
    assert found[fleet.STORE] < 100 * 8000 * 200e-6
