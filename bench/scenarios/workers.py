"""One worker against two."""

from __future__ import annotations

import os

from bench.client import LoadError
from bench.figures import Metric
from bench.peers.nginx import Nginx
from bench.scenarios.small import load
from bench.session import Session, usage
from bench.subjects import Swproxy

NAME = "workers"
TITLE = "Workers: one against two, small requests, c=64"
RATE = Metric("requests_per_second", "/s", "requests")
CPU = Metric("cpu_us_per_request", "us", "CPU/request")
CAPACITY = Metric("requests_per_busiest_cpu_second", "/s", "per CPU-second of the busiest worker")
NOTES = (
    (
        "Not pinned. Two workers beside an upstream and a load generator want four cores; with "
        "fewer the requests a second cannot double. Capacity says what they would do with a core "
        "each: requests over the processor time of the busiest worker, so that uneven sharing and "
        "lost efficiency both show."
    ),
)


def run(session: Session) -> None:
    """Measure swproxy, and nginx for comparison, with one worker and with two."""
    cores = len(os.sched_getaffinity(0))
    session.figures.remark(NAME, "session", f"{cores} cores for workers, upstream and load")
    rounds = session.options.rounds_of(3)
    seconds = 1 if session.options.quick else 3
    chosen = [build for build in session.options.subjects if build in (Swproxy, Nginx)]
    session.progress.begin(NAME, rounds * 2 * 2 * len(chosen))
    for _ in range(rounds):
        for workers in (1, 2):
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
                            with usage(subject.family()) as spent:
                                result = load(bed, subject, scheme, 64, seconds)
                            if not result.requests:
                                raise LoadError("no answer at all")
                            session.add(
                                NAME,
                                subject,
                                {"upstream": scheme, "workers": workers},
                                {
                                    RATE: result.rate,
                                    CPU: 1e6 * spent.total / result.requests,
                                    CAPACITY: result.requests / spent.busiest,
                                },
                            )
