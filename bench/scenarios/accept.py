"""Which worker takes a connection: the queue that all share, and a queue each, by simulation."""

from __future__ import annotations

import heapq
import os
import random
from collections.abc import Callable
from dataclasses import dataclass

from bench.figures import Label, Metric
from bench.scenarios import workers as measured
from bench.session import Session
from swproxy.daemon.balance import LOAD_BYTES, Share

NAME = "accept"
TITLE = "A queue that all workers share against one each (SO_REUSEPORT), by simulation"
BUSIEST = Metric("busiest_over_mean", "x", "busiest worker over the mean")
LOST = Metric("core_percent_lost", "%", "of each core lost to vain waking")
NOTES = (
    (
        "Shared, as swproxy has it: a connection wakes every worker that sleeps, and those that "
        "`swproxy.daemon.balance` lets go first take it; the code of the simulation is the real "
        "one. A queue each: the kernel deals connections out by a hash of their addresses, which "
        "is by chance, and wakes one worker."
    ),
    (
        "Streams last a minute on average and arrive at 8 a second for each worker, so that 480 "
        "are open there. Of a balancer's connections there are 8 for each worker, and they stay. "
        "Requests on a connection each come at 600 a second for each worker, half of its core."
    ),
    (
        "What a vain waking costs is taken from `workers`, over http, in the same session: what "
        "CPU/request of fresh connections grows by from one worker to four, by three. Workers are "
        "taken to sleep half of the time."
    ),
)
_COUNTS = (2, 4, 8, 16)
_ASLEEP = 0.5


@dataclass(frozen=True, slots=True)
class Traffic:
    """Connections as they come: how many a second for each worker, and for how long they stay."""

    rate: float
    stay: float
    seconds: float
    """how long they come, at the end of which they are looked at"""


_TRAFFIC = {
    "streams of a minute": Traffic(8, 60, seconds=240),
    "a balancer's connections": Traffic(8, 1e9, seconds=1),
    "a connection a request": Traffic(600, 0, seconds=0),
}


def run(session: Session) -> None:
    """Deal out connections both ways, to more and more workers."""
    rounds = session.options.rounds_of(5)
    session.progress.begin(NAME, rounds * len(_TRAFFIC) * len(_COUNTS))
    waking = _vain_waking(session)
    for number in range(rounds):
        for name, traffic in _TRAFFIC.items():
            for count in _COUNTS:
                session.progress.step(f"{count} workers, {name}")
                queues: dict[str, Choose] = {"shared": Shared(count), "one each": _by_chance(count)}
                for queue, choose in queues.items():
                    dealer = random.Random(number)
                    figures: dict[Metric, float] = {}
                    if traffic.stay:
                        figures[BUSIEST] = busiest(traffic, count, choose, dealer)
                    if waking is not None and traffic.stay < 1e9:
                        woken = _ASLEEP * (count - 1) if queue == "shared" else 0
                        figures[LOST] = 100 * traffic.rate * woken * waking / 1e6
                    labels: dict[str, Label] = {"connections": name, "workers": count}
                    session.add(NAME, queue, labels, figures)


def _vain_waking(session: Session) -> float | None:
    """Return microseconds, if `workers` has been measured."""
    first, last = measured.COUNTS[0], measured.COUNTS[-1]
    few, many = (
        session.figures.median(
            measured.NAME,
            "swproxy",
            measured.CPU.key,
            upstream="http",
            workers=count,
            client="fresh",
        )
        for count in (first, last)
    )
    if few is None or many is None:
        session.figures.remark(NAME, "session", "vain waking: run `workers` in the same session")
        return None
    each = max(0.0, (many - few) / (last - first))
    session.figures.remark(NAME, "session", f"a vain waking costs {each:.0f} us")
    return each


Choose = Callable[[list[int], random.Random], int]


class Shared:
    """Who takes a connection from the queue that all share: one whom its share lets go first."""

    def __init__(self, count: int) -> None:
        descriptor = os.memfd_create("bench-shares")
        os.ftruncate(descriptor, LOAD_BYTES * count)
        self._shares = [Share(descriptor, count, place) for place in range(count)]
        os.close(descriptor)

    def __call__(self, loads: list[int], dealer: random.Random) -> int:
        """Return the place of the worker that takes the next connection."""
        for share, load in zip(self._shares, loads, strict=True):
            share.tell(load)
        ready = [place for place, share in enumerate(self._shares) if not share.hold()]
        return dealer.choice(ready)


def _by_chance(count: int) -> Choose:
    return lambda _, dealer: dealer.randrange(count)


def busiest(traffic: Traffic, count: int, choose: Choose, dealer: random.Random) -> float:
    """Return the connections of the busiest worker over the mean, once all have come."""
    loads = [0] * count
    ends: list[tuple[float, int]] = []
    now = 0.0
    for _ in range(round(traffic.rate * count * traffic.seconds)):
        now += dealer.expovariate(traffic.rate * count)
        while ends and ends[0][0] <= now:
            loads[heapq.heappop(ends)[1]] -= 1
        place = choose(loads, dealer)
        loads[place] += 1
        heapq.heappush(ends, (now + dealer.expovariate(1 / traffic.stay), place))
    return max(loads) * count / sum(loads)
