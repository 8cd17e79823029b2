"""Open streams on which nothing happens: what each one holds, and what it costs the others."""

from __future__ import annotations

import time

from bench import procfs
from bench.client import ClosedLoop
from bench.figures import Label, Metric, percentile
from bench.session import Bed, Session
from bench.streams import Streams
from bench.subjects import Subject

NAME = "idle"
TITLE = "Open, idle SSE streams"
PSS = Metric("pss_kb_per_stream", "KB", "PSS/stream")
RSS = Metric("rss_kb_per_stream", "KB", "RSS/stream")
BASE = Metric("pss_mb_empty", "MB", "PSS empty")
P50 = Metric("new_request_p50_ms", "ms", "new request p50")
P99 = Metric("new_request_p99_ms", "ms", "new request p99")
NOTES = (
    (
        "A fresh process each time. Memory: of all its processes, over what they held after a few "
        "hundred requests and without a stream. Socket buffers belong to the kernel and are not "
        "in it."
    ),
    "A new request: fresh connection, one at a time, while the streams are open.",
)
_OPEN_SECONDS = 90.0


def run(session: Session) -> None:
    """Measure each subject, alone and fresh, over both upstream schemes."""
    rounds = session.options.rounds_of(2)
    wants = session.options.wants
    counts = tuple(
        count
        for count in ((0, 200) if session.options.quick else (0, 1000, 5000))
        if wants({"streams": count})
    )
    schemes = [scheme for scheme in ("http", "https") if wants({"upstream": scheme})]
    builders = session.options.subjects
    session.progress.begin(NAME, rounds * len(schemes) * len(builders) * len(counts))
    for number in range(rounds):
        for scheme in schemes:
            shift = number % len(builders)
            for build in builders[shift:] + builders[:shift]:
                with session.bed(NAME, only=[build]) as bed:
                    for subject in bed.subjects:
                        with session.attempt(NAME, subject, f"{scheme} upstream"):
                            _measure(session, bed, subject, scheme, counts)


def _measure(
    session: Session, bed: Bed, subject: Subject, scheme: str, counts: tuple[int, ...]
) -> None:
    with Streams(subject.request(scheme, "/idle"), bed.context) as streams:
        _new_requests(session, bed, subject, scheme)
        empty = procfs.memory(subject.family())
        for count in counts:
            session.progress.step(f"{scheme} {count} streams {subject.name}")
            streams.open(count, seconds=_OPEN_SECONDS)
            time.sleep(0.5)
            labels: dict[str, Label] = {"upstream": scheme, "streams": count}
            held = procfs.memory(subject.family())
            if count and held.resident:
                session.add(
                    NAME,
                    subject,
                    labels,
                    {
                        PSS: (held.proportional - empty.proportional) / 1024 / count,
                        RSS: (held.resident - empty.resident) / 1024 / count,
                    },
                )
            elif held.resident:
                session.add(NAME, subject, labels, {BASE: held.proportional / 1e6})
            latencies = _new_requests(session, bed, subject, scheme)
            session.add(
                NAME,
                subject,
                labels,
                {
                    P50: percentile(latencies, 0.5),
                    P99: percentile(latencies, 0.99),
                },
            )


def _new_requests(session: Session, bed: Bed, subject: Subject, scheme: str) -> list[float]:
    request = subject.request(scheme, "/small")
    with ClosedLoop(request, bed.context, concurrency=1, fresh=True) as loop:
        quick = session.options.quick
        return loop.run(requests=100 if quick else 500, seconds=10.0).first_byte_ms
