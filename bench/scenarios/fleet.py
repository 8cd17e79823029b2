"""Many nodes on one store: which part has nothing more to give first, by simulation."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

from bench.client import LoadError
from bench.figures import Label, Metric, percentile
from bench.scenarios import store
from bench.scenarios.small import load
from bench.session import Session, usage
from bench.streams import Streams
from bench.subjects import Swproxy

NAME = "fleet"
TITLE = "Nodes that share a store, by simulation"
CALLS = Metric("calls_per_second", "/s", "calls")
NODE = Metric("node_percent", "%", "busy: a core of a node")
STORE = Metric("store_percent", "%", "the store's core")
WIRE = Metric("store_megabits_per_second", "Mbit/s", "the store's net")
P50 = Metric("decision_p50_ms", "ms", "decision p50")
P99 = Metric("decision_p99_ms", "ms", "decision p99")
LATE = Metric("late_per_thousand", "/1000", "unanswered in 0.1 s")
MOST = Metric("nodes_per_store", "", "nodes that a store carries")
NOTES = (
    (
        "A node has two workers on a core each. Streams: each worker carries 300, of 50 events a "
        "second and a minute on average. Small calls: 500 a second for each worker. The store "
        "serves one script after another: a decision for each call, and a turn of a worker twice a "
        "second and whenever a call has ended, which settles all that have ended meanwhile."
    ),
    (
        "What a decision and a turn cost the store is taken from `store` in the same session, at "
        "64 and at one at once; what a request and an event cost a node is measured here. What is "
        "at 100 % first is what a fleet outgrows; at more, a store falls further and further "
        "behind. The network's own delay is left out."
    ),
)
_NODES = (10, 100, 1000)
_WORKERS = 2
_STREAMS, _EVENTS, _STAY = 300, 50, 60.0
_TRAFFIC = {"streams of a minute": _STREAMS / _STAY, "small calls": 500.0}
"""Calls a second that a worker is asked for."""

_TURN_SECONDS = 0.5
_DECISION_SECONDS = 0.1
_MOST_CALLS = 200_000


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of the store's core, and bytes, for a call; seconds of a worker's."""

    decision: float
    turn: float
    wire: float
    worker: float
    request: float
    event: float


def run(session: Session) -> None:
    """Simulate fleets of both kinds."""
    costs = _costs(session)
    if costs is None:
        return
    rounds = session.options.rounds_of(3)
    session.progress.begin(NAME, rounds * len(_TRAFFIC) * len(_NODES))
    for number in range(rounds):
        for traffic, rate in _TRAFFIC.items():
            for nodes in _NODES:
                session.progress.step(f"{nodes} nodes, {traffic}")
                labels: dict[str, Label] = {"calls": traffic, "nodes": nodes}
                events = _STREAMS * _EVENTS if traffic == "streams of a minute" else 0
                busy = rate * (costs.request + costs.worker) + events * costs.event
                found = simulate(costs, nodes * _WORKERS, rate, random.Random(number))
                session.add(NAME, "fleet", labels, found | {NODE: 100 * busy})


def _costs(session: Session) -> Costs | None:
    """Return what was measured by `store`, and measure the rest; None without the former."""

    def measured(metric: Metric, concurrency: int) -> float | None:
        return session.figures.median(
            store.NAME, "redis-server", metric.key, concurrency=concurrency
        )

    many, one = measured(store.SERVER, 64), measured(store.SERVER, 1)
    wire, worker = measured(store.WIRE, 1), measured(store.CPU, 64)
    if many is None or one is None or wire is None or worker is None:
        session.figures.remark(NAME, "fleet", "run `store` in the same session, with a server")
        return None
    with session.bed(NAME, only=[Swproxy]) as bed:
        for subject in bed.subjects:
            load(bed, subject, "https", 64, 1)
            with usage(subject.family()) as spent:
                done = load(bed, subject, "https", 64, 1 if session.options.quick else 3)
            request = spent.total / done.requests
            with Streams(subject.request("https", "/sse/20/150"), bed.context) as streams:
                streams.open(150, seconds=30)
                streams.watch(0.5)
                with usage(subject.family()) as spent:
                    events = len(streams.watch(3.0).latencies_ms)
            if not events:
                raise LoadError("no events came")
            return Costs(
                decision=many / 1e6,
                turn=max(0.0, one - many) / 1e6,
                wire=wire,
                worker=worker / 1e6,
                request=request,
                event=spent.total / events,
            )
    return None


@dataclass(slots=True)
class _Store:
    """One script after another; a worker's next turn waits for its last one."""

    costs: Costs
    free: float = 0.0
    busy: float = 0.0
    turns: dict[int, float] = field(default_factory=dict)
    """when the last turn of each worker will have been served"""

    def decide(self, now: float) -> float:
        """Return how long a decision takes that is asked for now."""
        return self._serve(now, self.costs.decision)

    def end(self, worker: int, now: float) -> None:
        """Have a call's end said: by a turn of its own, or by one that waits to begin."""
        if self.turns.get(worker, 0.0) <= now:
            self.turns[worker] = now + self._serve(now, self.costs.turn)

    def _serve(self, now: float, cost: float) -> float:
        self.free = max(self.free, now) + cost
        self.busy += cost
        return self.free - now


def simulate(costs: Costs, workers: int, rate: float, dealer: random.Random) -> dict[Metric, float]:
    """Return what the store is asked for and what it makes of that."""
    seconds = min(10.0, _MOST_CALLS / (workers * rate))
    events: list[tuple[float, int, int]] = []  # when, 0 for a call and 1 for an end, whose
    for worker in range(workers):
        events += [(dealer.expovariate(rate), kind, worker) for kind in (0, 1)]
        events.append((dealer.uniform(0, _TURN_SECONDS), 2, worker))
    heapq.heapify(events)
    served, delays = _Store(costs), []
    while events[0][0] < seconds:
        now, kind, worker = events[0]
        if kind == 0:
            delays.append(served.decide(now))
        else:
            served.end(worker, now)
        later = dealer.expovariate(rate) if kind < 2 else _TURN_SECONDS
        heapq.heapreplace(events, (now + later, kind, worker))
    share = served.busy / seconds
    # How late one is that is behind for good depends on how long one looks.
    waits = {P50: 0.5, P99: 0.99} if share < 1 else {}
    return {
        CALLS: len(delays) / seconds,
        STORE: 100 * share,
        WIRE: len(delays) / seconds * costs.wire * 8 / 1e6,
        LATE: 1e3 * sum(delay > _DECISION_SECONDS for delay in delays) / len(delays),
        MOST: workers / _WORKERS / share,
        **{metric: 1e3 * percentile(delays, where) for metric, where in waits.items()},
    }
