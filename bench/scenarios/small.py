"""Small requests: how many a second, at what cost, and whether the curve stays flat."""

from __future__ import annotations

from bench import wrk
from bench.client import ClosedLoop, LoadError
from bench.figures import Label, Metric, percentile
from bench.session import Bed, Session, usage
from bench.subjects import Subject

NAME = "small"
TITLE = "Small requests: 2-byte answer over kept connections"
RATE = Metric("requests_per_second", "/s", "requests")
CPU = Metric("cpu_us_per_request", "us", "CPU/request")
P50 = Metric("latency_p50_ms", "ms", "p50")
P99 = Metric("latency_p99_ms", "ms", "p99")
FAILED = Metric("failed_per_thousand", "/1000", "failed")
NOTES = (
    (
        "Load by wrk with one thread where it is installed, else by the bench's own client. A "
        "subject has one core; upstream and load generator share the others, and `direct` is "
        "their ceiling. A second of load goes before each measurement, to open the connections."
    ),
)


def run(session: Session) -> None:
    """Measure every concurrency over both upstream schemes."""
    quick = session.options.quick
    concurrencies = (1, 64) if quick else (1, 4, 16, 64, 256, 512, 1000)
    seconds = 1 if quick else 3
    rounds = session.options.rounds_of(3)
    cells = [
        (scheme, concurrency)
        for scheme in ("http", "https")
        for concurrency in concurrencies
        if session.options.wants({"upstream": scheme, "concurrency": concurrency})
    ]
    with session.bed(NAME) as bed:
        session.progress.begin(NAME, len(cells) * rounds * len(bed.subjects))
        for number in range(rounds):
            for scheme, concurrency in cells:
                for subject in bed.in_turn(number):
                    session.progress.step(f"{scheme} c={concurrency} {subject.name}")
                    with session.attempt(NAME, subject, f"{scheme} c={concurrency}"):
                        _measure(session, bed, subject, scheme, concurrency, seconds)


def load(bed: Bed, subject: Subject, scheme: str, concurrency: int, seconds: int) -> wrk.WrkResult:
    """Load a subject with small requests for so many seconds; raise LoadError."""
    request = subject.request(scheme, "/small")
    if wrk.available():
        return wrk.run(request, concurrency=concurrency, seconds=seconds)
    with ClosedLoop(request, bed.context, concurrency=concurrency, fresh=False) as loop:
        done = loop.run(requests=10**9, seconds=seconds)
    return wrk.WrkResult(
        done.requests + concurrency,
        done.rate,
        percentile(done.first_byte_ms, 0.5),
        percentile(done.first_byte_ms, 0.99),
        0,
    )


def _measure(
    session: Session, bed: Bed, subject: Subject, scheme: str, concurrency: int, seconds: int
) -> None:
    load(bed, subject, scheme, concurrency, 1)  # opens the connections that are to be kept
    with usage(subject.family()) as spent:
        result = load(bed, subject, scheme, concurrency, seconds)
    if not result.requests:
        raise LoadError("no answer at all")
    labels: dict[str, Label] = {"upstream": scheme, "concurrency": concurrency}
    session.add(
        NAME,
        subject,
        labels,
        {
            RATE: result.rate,
            P50: result.p50_ms,
            P99: result.p99_ms,
            FAILED: 1000 * result.failures / result.requests,
        },
    )
    if spent.by_process:
        session.add(NAME, subject, labels, {CPU: 1e6 * spent.total / result.requests})
