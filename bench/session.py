"""One run of the suite: options, certificates, beds of subjects, and where figures go."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import trustme

from bench import procfs
from bench.client import LoadError, fetch
from bench.figures import Figures, Label, Metric
from bench.machine import Cores, on_cores
from bench.processes import Process, StartError
from bench.site import ROOT, Request, Site
from bench.subjects import Direct, Subject

__all__ = ["Bed", "Options", "Progress", "Session", "Usage", "usage"]

_CALM_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how often to measure, and whom."""

    quick: bool = False
    rounds: int | None = None
    subjects: tuple[Callable[[], Subject], ...] = (Direct,)
    only: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def wants(self, labels: Mapping[str, Label]) -> bool:
        """Tell whether to measure what has these labels."""
        return all(str(labels[name]) in self.only[name] for name in labels.keys() & self.only)

    def rounds_of(self, usual: int) -> int:
        """Return how many rounds to do where `usual` are the default."""
        return self.rounds or (1 if self.quick else usual)


class Progress:
    """What is being measured, one line on a terminal, one line a step elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._began = time.monotonic()
        self._scenario = ""
        self._done = self._total = 0

    def begin(self, scenario: str, total: int) -> None:
        """Announce a scenario of `total` steps."""
        self._scenario, self._done, self._total = scenario, 0, total

    def step(self, text: str) -> None:
        """Announce the next step."""
        self._done += 1
        elapsed = int(time.monotonic() - self._began)
        line = (
            f"{elapsed // 60:3d}:{elapsed % 60:02d} {self._scenario} "
            f"{self._done}/{self._total}  {text}"
        )
        self._stream.write(f"\r\x1b[K{line}" if self._live else f"{line}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Leave the terminal's line empty for what is printed next."""
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


@dataclass(slots=True)
class Usage:
    """Processor seconds spent by each process of a subject during a block."""

    by_process: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def total(self) -> float:
        """Processor seconds of all of them."""
        return sum(self.by_process.values())

    @property
    def busiest(self) -> float:
        """Processor seconds of the busiest one."""
        return max(self.by_process.values(), default=0.0)

    @property
    def share(self) -> float:
        """Processor time over wall-clock time, in percent of one core."""
        return 100 * self.total / self.seconds


@dataclass(slots=True)
class Bed:
    """An upstream and the subjects in front of it, all running and ready."""

    site: Site
    context: ssl.SSLContext
    subjects: list[Subject]

    def in_turn(self, round_number: int) -> list[Subject]:
        """Return the subjects, each round another one first, so that none has the best place."""
        shift = round_number % len(self.subjects) if self.subjects else 0
        return self.subjects[shift:] + self.subjects[:shift]

    def direct_first(self, round_number: int) -> list[Subject]:
        """Return the subjects in turn, but the direct way first: the others are held against it."""
        return sorted(self.in_turn(round_number), key=lambda subject: subject.name != "direct")

    def stats(self) -> Mapping[str, int]:
        """Return the upstream's counters."""
        stats: dict[str, int] = json.loads(
            fetch(Request(self.site.ports["http"], "/stats"), self.context)
        )
        return stats


@contextlib.contextmanager
def usage(family: Sequence[int]) -> Iterator[Usage]:
    """Measure what a subject's processes spend while the block runs."""
    spent = Usage()
    before = procfs.cpu_by_process(family)
    began = time.perf_counter()
    yield spent
    spent.seconds = time.perf_counter() - began
    after = procfs.cpu_by_process(before)
    spent.by_process = {pid: seconds - before[pid] for pid, seconds in after.items()}


class Session:
    """What every scenario is given."""

    def __init__(self, options: Options, directory: Path, progress: TextIO = sys.stderr) -> None:
        self.options = options
        self.figures = Figures()
        self.progress = Progress(progress)
        self._directory = directory
        self._beds = 0
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        self._ca_file = directory / "ca.pem"
        self._certificate = directory / "certificate.pem"
        self._key = directory / "key.pem"
        authority.cert_pem.write_to_path(str(self._ca_file))
        certificate.private_key_pem.write_to_path(str(self._key))
        for part in certificate.cert_chain_pems:
            part.write_to_path(str(self._certificate), append=True)

    @contextlib.contextmanager
    def bed(
        self,
        scenario: str,
        *,
        pinned: bool = True,
        workers: int = 1,
        only: Sequence[Callable[[], Subject]] | None = None,
    ) -> Iterator[Bed]:
        """Run an upstream and the chosen subjects, and this process on the load's cores.

        A subject that does not start, or does not do its task, is left out with a remark.
        """
        cores = Cores.pinned() if pinned else Cores.shared()
        self._beds += 1
        directory = self._directory / f"bed-{self._beds}"
        directory.mkdir()
        context = ssl.create_default_context(cafile=str(self._ca_file))
        with contextlib.ExitStack() as stack:
            upstream = Process(
                [
                    sys.executable,
                    "-m",
                    "bench.upstream",
                    "--certificate",
                    str(self._certificate),
                    "--key",
                    str(self._key),
                ],
                log=directory / "upstream.log",
                cores=cores.load,
                cwd=ROOT,
                piped=True,
            )
            stack.callback(upstream.end)
            ports = json.loads(upstream.first_line())
            site = Site(ports, self._ca_file, directory, cores.subject, workers)
            bed = Bed(site, context, [])
            for build in self.options.subjects if only is None else only:
                subject = build()
                stack.callback(subject.stop)
                try:
                    subject.start(site)
                    _prove(subject, context)
                except (StartError, LoadError, OSError) as error:
                    subject.stop()
                    self.figures.remark(scenario, subject.name, f"not measured: {error}")
                else:
                    bed.subjects.append(subject)
            stack.enter_context(on_cores(cores.load))
            yield bed

    def add(
        self,
        scenario: str,
        subject: Subject | str,
        labels: Mapping[str, Label],
        values: Mapping[Metric, float],
    ) -> None:
        """Record one sample of several metrics."""
        name = subject if isinstance(subject, str) else subject.name
        for metric, value in values.items():
            self.figures.add(scenario, name, metric, value, labels)

    @contextlib.contextmanager
    def attempt(self, scenario: str, subject: Subject, what: str) -> Iterator[None]:
        """Turn a failure of the subject inside the block into a remark, then let it calm down."""
        try:
            yield
        except (LoadError, OSError) as error:
            self.figures.remark(scenario, subject.name, f"{what}: {error}")
        if not _calm(subject):
            busy = f"{what}: still busy {_CALM_SECONDS:.0f} seconds later, and started anew"
            self.figures.remark(scenario, subject.name, busy)
            try:
                # What it still does would cost the others processor time.
                subject.restart()
            except StartError as error:
                self.figures.remark(scenario, subject.name, f"not started again: {error}")


def _calm(subject: Subject) -> bool:
    """Wait until a subject has nothing left to do: its leftovers would be others' delays."""
    family = subject.family()
    deadline = time.monotonic() + _CALM_SECONDS
    while family and time.monotonic() < deadline:
        with usage(family) as spent:
            time.sleep(0.02)
        if spent.share < 5:
            return True
    return not family


def _prove(subject: Subject, context: ssl.SSLContext) -> None:
    """Make sure that a subject passes answers, adds the key, and refuses a forged signature."""
    for scheme in ("http", "https"):
        body = fetch(subject.request(scheme, "/key"), context)
        if body != b"yes":
            raise LoadError(f"the {scheme} upstream got no API key through it")
    if subject.checks_signatures:
        genuine = subject.request("http", "/key")
        middle = len(genuine.target) - 10
        other = "0" if genuine.target[middle] != "0" else "1"
        forged = genuine.target[:middle] + other + genuine.target[middle + 1 :]
        try:
            fetch(dataclasses.replace(genuine, target=forged), context)
        except LoadError:
            return
        raise LoadError("it serves a forged signature")
