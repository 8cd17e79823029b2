"""Small requests beside streams: how fast a worker answers that has a thousand of them to relay."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from bench import wrk
from bench.client import LoadError
from bench.figures import Label, Metric
from bench.scenarios.small import load
from bench.session import Bed, Session
from bench.streams import Streams
from bench.subjects import Subject

NAME = "beside"
TITLE = "Small requests, one at a time, beside streams of 2.5 events a second"
P50 = Metric("request_p50_ms", "ms", "request p50")
P99 = Metric("request_p99_ms", "ms", "request p99")
NOTES = (
    (
        "Events are spread evenly: 2,500 a second for 1,000 streams. The requests are wrk's, over "
        "a kept connection; `direct` is what upstream and the reader of the streams, which share a "
        "core with wrk, make them wait."
    ),
)
_PATH = "/sse/400/1000"


def run(session: Session) -> None:
    """Measure every subject without streams and with a thousand."""
    if not wrk.available():
        session.figures.remark(NAME, "session", "not measured: needs wrk (apt-get install wrk)")
        return
    rounds = session.options.rounds_of(3)
    counts = (0, 100) if session.options.quick else (0, 1000)
    with session.bed(NAME) as bed:
        session.progress.begin(NAME, rounds * len(counts) * len(bed.subjects))
        for number in range(rounds):
            for count in counts:
                for subject in bed.in_turn(number):
                    session.progress.step(f"{count} streams {subject.name}")
                    with session.attempt(NAME, subject, f"{count} streams"):
                        _measure(session, bed, subject, count)


def _measure(session: Session, bed: Bed, subject: Subject, count: int) -> None:
    seconds = 1 if session.options.quick else 3
    with (
        ThreadPoolExecutor(1) as pool,
        Streams(subject.request("https", _PATH), bed.context) as streams,
    ):
        streams.open(count, seconds=60)
        load(bed, subject, "https", 1, 1)
        # The thread only waits for wrk, while this one reads what the streams bring.
        loading = pool.submit(load, bed, subject, "https", 1, seconds)
        streams.watch(seconds + 0.5)
        result = loading.result()
    if not result.requests:
        raise LoadError("no answer at all")
    labels: dict[str, Label] = {"upstream": "https", "streams": count}
    session.add(NAME, subject, labels, {P50: result.p50_ms, P99: result.p99_ms})
