"""Time to first byte, and what each subject adds to it over the direct way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.client import ClosedLoop
from bench.figures import Label, Metric, percentile
from bench.session import Bed, Session
from bench.subjects import Subject

NAME = "ttfb"
TITLE = "Time to first byte: closed loop, 2-byte answer"
SHARES = {"p50": 0.50, "p90": 0.90, "p99": 0.99}
WHOLE = {key: Metric(f"ttfb_{key}_ms", "ms", key) for key in SHARES}
ADDED = {key: Metric(f"added_{key}_ms", "ms", f"added {key}") for key in SHARES}
NOTES = (
    (
        "Added: over the direct way in the same round, percentile by percentile. A fresh "
        "connection to a proxy is plain TCP whatever the upstream speaks, so its base is the "
        "direct way over http; the direct https row, handshake included, is what a page would "
        "wait without a proxy. Proxies keep their upstream connections all the while, so a fresh "
        "direct connection also costs the upstream an accept that they spare it."
    ),
    (
        "Closed loop: a connection asks again as soon as it has its answer, so above a subject's "
        "capacity the figure is the wait in its queue (and above that of upstream and client, "
        "which share cores, their wait for each other: see `direct`)."
    ),
)


@dataclass(frozen=True, slots=True)
class _Cell:
    scheme: str
    client: str
    concurrency: int

    @property
    def base(self) -> _Cell:
        """The cell of the direct way that this one is measured against."""
        scheme = "http" if self.client == "fresh" else self.scheme
        return _Cell(scheme, self.client, self.concurrency)

    @property
    def labels(self) -> Mapping[str, Label]:
        return {"upstream": self.scheme, "client": self.client, "concurrency": self.concurrency}

    def __str__(self) -> str:
        return f"{self.scheme} {self.client} c={self.concurrency}"


def run(session: Session) -> None:
    """Measure every concurrency, upstream scheme and kind of client connection."""
    cells = [
        _Cell(scheme, client, concurrency)
        for scheme in ("http", "https")
        for client in ("kept", "fresh")
        for concurrency in ((1, 16) if session.options.quick else (1, 16, 64, 256))
    ]
    wanted = [cell for cell in cells if session.options.wants(cell.labels)]
    bases = {cell.base for cell in wanted}
    rounds = session.options.rounds_of(5)
    with session.bed(NAME) as bed:
        session.progress.begin(NAME, len(wanted) * rounds * len(bed.subjects))
        for number in range(rounds):
            direct: dict[_Cell, Mapping[str, float]] = {}
            for cell in cells:
                for subject in bed.direct_first(number):
                    if cell not in wanted and not (subject.name == "direct" and cell in bases):
                        continue
                    session.progress.step(f"{cell} {subject.name}")
                    with session.attempt(NAME, subject, str(cell)):
                        whole = _measure(session, bed, subject, cell)
                        if subject.name == "direct":
                            direct[cell] = whole
                        elif base := direct.get(cell.base):
                            added = {ADDED[key]: whole[key] - base[key] for key in SHARES}
                            session.add(NAME, subject, cell.labels, added)


def _measure(session: Session, bed: Bed, subject: Subject, cell: _Cell) -> Mapping[str, float]:
    request = subject.request(cell.scheme, "/small")
    quick = session.options.quick
    with ClosedLoop(
        request, bed.context, concurrency=cell.concurrency, fresh=cell.client == "fresh"
    ) as loop:
        load = loop.run(
            requests=100 if quick else max(500, 8 * cell.concurrency),
            seconds=0.5 if quick else 3.0,
        )
    whole = {key: percentile(load.first_byte_ms, share) for key, share in SHARES.items()}
    session.add(NAME, subject, cell.labels, {WHOLE[key]: whole[key] for key in SHARES})
    return whole
