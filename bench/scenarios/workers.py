"""One worker against two and four, and what waking all of them for a connection costs."""

from __future__ import annotations

import os

from bench.client import ClosedLoop, LoadError
from bench.figures import Label, Metric
from bench.peers.nginx import Nginx
from bench.scenarios.small import load
from bench.session import Bed, Session, usage
from bench.subjects import Subject, Swproxy

NAME = "workers"
TITLE = "Workers: small requests, 64 at once if kept, one at a time if fresh"
RATE = Metric("requests_per_second", "/s", "requests")
CPU = Metric("cpu_us_per_request", "us", "CPU/request")
CAPACITY = Metric("requests_per_busiest_cpu_second", "/s", "per CPU-second of the busiest worker")
NOTES = (
    (
        "Not pinned. Two workers beside an upstream and a load generator want four cores, four "
        "want six; with fewer the requests a second cannot grow with them. Capacity says what they "
        "would do with a core each: requests over the processor time of the busiest worker, so "
        "that uneven sharing and lost efficiency both show."
    ),
    (
        "Fresh, one at a time: all workers wait, a connection wakes all of them, and one takes it. "
        "What CPU/request grows by is what the others' vain waking costs."
    ),
)
COUNTS = (1, 2, 4)


def run(session: Session) -> None:
    """Measure swproxy, and nginx for comparison, with one worker, two and four."""
    cores = len(os.sched_getaffinity(0))
    session.figures.remark(NAME, "session", f"{cores} cores for workers, upstream and load")
    rounds = session.options.rounds_of(3)
    chosen = [build for build in session.options.subjects if build in (Swproxy, Nginx)]
    session.progress.begin(NAME, rounds * len(COUNTS) * 2 * len(chosen))
    for _ in range(rounds):
        for workers in COUNTS:
            with session.bed(NAME, pinned=False, workers=workers, only=chosen) as bed:
                for subject in bed.subjects:
                    if len(subject.family()) < workers:
                        session.figures.remark(
                            NAME, subject.name, "unsupported: started no second worker process"
                        )
                        continue
                    for scheme in ("http", "https"):
                        session.progress.step(f"{workers} workers {scheme} {subject.name}")
                        with session.attempt(NAME, subject, f"{workers} workers {scheme}"):
                            _measure(session, bed, subject, scheme)


def _measure(session: Session, bed: Bed, subject: Subject, scheme: str) -> None:
    quick = session.options.quick
    labels: dict[str, Label] = {"upstream": scheme, "workers": bed.site.workers}
    with usage(subject.family()) as spent:
        result = load(bed, subject, scheme, 64, 1 if quick else 3)
    if not result.requests:
        raise LoadError("no answer at all")
    session.add(
        NAME,
        subject,
        labels | {"client": "kept"},
        {
            RATE: result.rate,
            CPU: 1e6 * spent.total / result.requests,
            CAPACITY: result.requests / spent.busiest,
        },
    )
    request = subject.request(scheme, "/small")
    with ClosedLoop(request, bed.context, concurrency=1, fresh=True) as loop:
        with usage(subject.family()) as spent:
            done = loop.run(requests=200 if quick else 1500, seconds=5.0)
        cpu = 1e6 * spent.total / (done.requests + 1)
        session.add(NAME, subject, labels | {"client": "fresh"}, {CPU: cpu})
