"""Clients that stop reading: how much is held for each, and whether they cost anything."""

from __future__ import annotations

import time

from bench import procfs
from bench.client import LoadError
from bench.figures import Label, Metric
from bench.session import Bed, Session, usage
from bench.streams import Streams
from bench.subjects import Subject

NAME = "slow"
TITLE = "Clients that ask for 100 MB and never read"
HELD = Metric("held_kb_per_client", "KB", "in flight/client")
MEMORY = Metric("rss_kb_per_client", "KB", "own memory/client")
CPU = Metric("core_percent", "%", "of a core")
NOTES = (
    (
        "In flight: bytes the upstream has handed over and no client has read; most of it lies in "
        "the kernel's socket buffers, two of them for `direct`, four with a proxy. Own memory: "
        "growth of the subject's resident memory. Processor time is taken once nothing moves any "
        "more."
    ),
)
_SETTLE_SECONDS = 20.0


def run(session: Session) -> None:
    """Measure each subject over both upstream schemes."""
    clients = 10 if session.options.quick else 50
    rounds = session.options.rounds_of(3)
    session.progress.begin(NAME, rounds * 2 * len(session.options.subjects))
    for _ in range(rounds):
        for scheme in ("http", "https"):
            # Fresh processes, since memory once taken is seldom given back.
            with session.bed(NAME) as bed:
                for subject in bed.subjects:
                    session.progress.step(f"{scheme} {subject.name}")
                    with session.attempt(NAME, subject, f"{scheme} upstream"):
                        _measure(session, bed, subject, scheme, clients)


def _measure(session: Session, bed: Bed, subject: Subject, scheme: str, clients: int) -> None:
    before = bed.stats()
    memory = procfs.memory(subject.family())
    with Streams(subject.request(scheme, "/bytes/100000000"), bed.context) as streams:
        streams.open(clients, seconds=20, read=False)
        held = _settled(bed) - before["sent"]
        with usage(subject.family()) as spent:
            time.sleep(0.5 if session.options.quick else 3.0)
        labels: dict[str, Label] = {"upstream": scheme, "clients": clients}
        session.add(NAME, subject, labels, {HELD: held / 1024 / clients})
        if spent.by_process:
            grown = procfs.memory(subject.family()).resident - memory.resident
            session.add(
                NAME,
                subject,
                labels,
                {
                    MEMORY: grown / 1024 / clients,
                    CPU: spent.share,
                },
            )
    _await_closed(bed, before["open"])


def _settled(bed: Bed) -> int:
    """Return the upstream's count of bytes sent once it stands still; raise LoadError."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    last = -1
    while time.monotonic() < deadline:
        now = bed.stats()["sent"]
        if now == last:
            return now
        last = now
        time.sleep(0.5)
    raise LoadError(f"still reading ahead after {_SETTLE_SECONDS:.0f} seconds")


def _await_closed(bed: Bed, before: int) -> None:
    """Wait a little until this subject's connections are gone, not to disturb the next one."""
    deadline = time.monotonic() + 3.0
    while bed.stats()["open"] > before and time.monotonic() < deadline:
        time.sleep(0.1)
