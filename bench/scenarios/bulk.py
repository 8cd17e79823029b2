"""One large body, down and up."""

from __future__ import annotations

import ssl
import time

from bench.client import LoadError, answer_end, connect
from bench.figures import Label, Metric
from bench.session import Bed, Session, usage
from bench.site import Request
from bench.subjects import Subject

NAME = "bulk"
TITLE = "100 MB in one body"
RATE = Metric("megabytes_per_second", "MB/s", "rate")
CPU = Metric("cpu_ms_per_100_megabytes", "ms", "CPU/100 MB")
NOTES = (
    (
        "Not pinned: upstream, subject and client use all cores as they find them. The client "
        "reads into one buffer and sends from one; TLS runs between proxy and upstream, for "
        "`direct` between client and upstream."
    ),
)
_BODY_BYTES = 100_000_000
_BUFFER = memoryview(bytearray(256 * 1024))


def run(session: Session) -> None:
    """Measure both directions over both upstream schemes."""
    rounds = session.options.rounds_of(7)
    cells = [
        (scheme, way)
        for scheme in ("http", "https")
        for way in ("down", "up")
        if session.options.wants({"upstream": scheme, "direction": way})
    ]
    with session.bed(NAME, pinned=False) as bed:
        session.progress.begin(NAME, len(cells) * rounds * len(bed.subjects))
        for number in range(rounds):
            for scheme, direction in cells:
                for subject in bed.in_turn(number):
                    session.progress.step(f"{scheme} {direction} {subject.name}")
                    with session.attempt(NAME, subject, f"{scheme} {direction}"):
                        _measure(session, bed, subject, scheme, direction)


def _measure(session: Session, bed: Bed, subject: Subject, scheme: str, direction: str) -> None:
    with usage(subject.family()) as spent:
        if direction == "down":
            request = subject.request(scheme, f"/bytes/{_BODY_BYTES}")
            seconds = download(request, bed.context, _BODY_BYTES)
        else:
            seconds = upload(subject.request(scheme, "/sink", "POST"), bed.context, _BODY_BYTES)
    labels: dict[str, Label] = {"upstream": scheme, "direction": direction}
    session.add(NAME, subject, labels, {RATE: _BODY_BYTES / 1e6 / seconds})
    if spent.by_process:
        session.add(NAME, subject, labels, {CPU: 1e3 * spent.total})


def download(request: Request, context: ssl.SSLContext, size: int) -> float:
    """Read an answer with a body of `size` bytes and return the seconds; raise LoadError."""
    with connect(request, context) as sock:
        began = time.perf_counter()
        sock.sendall(request.head())
        head = b""
        while b"\r\n\r\n" not in head:
            part = sock.recv(4096)
            if not part:
                raise LoadError("closed before the head was whole")
            head += part
        if head[9:12] != b"200":
            raise LoadError(f"answered {head.splitlines()[0].decode('latin-1')!r}")
        left = size - len(head.partition(b"\r\n\r\n")[2])
        while left > 0:
            count = sock.recv_into(_BUFFER)
            if not count:
                raise LoadError(f"closed {left} bytes early")
            left -= count
        return time.perf_counter() - began


def upload(request: Request, context: ssl.SSLContext, size: int) -> float:
    """Send a body of `size` bytes, await the answer, return the seconds; raise LoadError."""
    with connect(request, context) as sock:
        began = time.perf_counter()
        sock.sendall(request.head(length=size))
        left = size
        while left > 0:
            part = _BUFFER[: min(left, len(_BUFFER))]
            sock.sendall(part)
            left -= len(part)
        data = b""
        while answer_end(data) is None:
            part_in = sock.recv(4096)
            if not part_in:
                raise LoadError("closed before its answer was whole")
            data += part_in
        return time.perf_counter() - began
