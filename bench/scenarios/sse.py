"""The main job: many token streams at once, and what one relayed event costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.client import LoadError, no_garbage
from bench.figures import Label, Metric, percentile
from bench.session import Bed, Session, usage
from bench.streams import Streams
from bench.subjects import Subject

NAME = "sse"
TITLE = "SSE relay: 150-byte events"
CPU = Metric("cpu_us_per_chunk", "us", "CPU/chunk")
SHARE = Metric("core_percent", "%", "of a core")
SHARES = {"p50": 0.50, "p99": 0.99}
DELAY = {key: Metric(f"delay_{key}_ms", "ms", f"delay {key}") for key in SHARES}
ADDED = {key: Metric(f"added_{key}_ms", "ms", f"added {key}") for key in SHARES}
NOTES = (
    (
        "Events come 20 ms apart on each stream, with 1,000 streams 400 ms apart, so that a "
        "slow subject is not saturated by their count alone. A subject near 100 % of a core is "
        "saturated all the same, and its cost per chunk flattered: late events arrive several at "
        "a time."
    ),
    (
        "Turns `spread`: the streams' events are spread evenly over the interval, as those of "
        "independent users are, and a subject sleeps and is woken for nearly each of them (on a "
        "virtual machine that can cost more than the relaying); `in step`: all streams get theirs "
        "at the same moment."
    ),
    "Delay: from the upstream's send to the client's recv; added: over the direct way.",
)


@dataclass(frozen=True, slots=True)
class _Cell:
    scheme: str
    streams: int
    interval_ms: int
    turns: str

    @property
    def path(self) -> str:
        phases = 1 if self.turns == "in step" else self.streams
        return f"/sse/{self.interval_ms}/{phases}"

    @property
    def labels(self) -> Mapping[str, Label]:
        return {"upstream": self.scheme, "streams": self.streams, "turns": self.turns}

    def __str__(self) -> str:
        return f"{self.scheme} {self.streams} streams {self.turns}"


def _cells(*, quick: bool) -> list[_Cell]:
    kinds = [(20, 20, "spread"), (150, 20, "in step"), (150, 20, "spread")]
    if not quick:
        kinds += [(5, 20, "spread"), (60, 20, "spread"), (1000, 400, "spread")]
    return [_Cell(scheme, *kind) for scheme in ("http", "https") for kind in sorted(kinds)]


def run(session: Session) -> None:
    """Measure every number of streams over both upstream schemes."""
    options = session.options
    cells = [cell for cell in _cells(quick=options.quick) if options.wants(cell.labels)]
    rounds = options.rounds_of(3)
    with session.bed(NAME) as bed:
        session.progress.begin(NAME, len(cells) * rounds * len(bed.subjects))
        for number in range(rounds):
            for cell in cells:
                base: Mapping[str, float] = {}
                for subject in bed.direct_first(number):
                    session.progress.step(f"{cell} {subject.name}")
                    with session.attempt(NAME, subject, str(cell)):
                        delays = _measure(session, bed, subject, cell)
                        if subject.name == "direct":
                            base = delays
                        elif base:
                            added = {ADDED[key]: delays[key] - base[key] for key in SHARES}
                            session.add(NAME, subject, cell.labels, added)


def _measure(session: Session, bed: Bed, subject: Subject, cell: _Cell) -> Mapping[str, float]:
    quick = session.options.quick
    with Streams(subject.request(cell.scheme, cell.path), bed.context) as streams:
        streams.open(cell.streams, seconds=30)
        skipped = bed.stats()["skipped"]
        family = subject.family()
        # Nothing slow between the two watches: events that wait for it would count as late.
        with no_garbage():
            streams.watch(0.3 if quick else 0.5 + cell.interval_ms / 1000)
            with usage(family) as spent:
                watch = streams.watch(0.7 if quick else 3.0)
        if not watch.latencies_ms:
            raise LoadError("no events came")
        if bed.stats()["skipped"] != skipped:
            raise LoadError("too slow: the upstream could not hand over every event in time")
    delays = {key: percentile(watch.latencies_ms, share) for key, share in SHARES.items()}
    session.add(NAME, subject, cell.labels, {DELAY[key]: delays[key] for key in SHARES})
    if spent.by_process:
        cpu = {CPU: 1e6 * spent.total / len(watch.latencies_ms), SHARE: spent.share}
        session.add(NAME, subject, cell.labels, cpu)
    return delays
