"""What it costs that somebody looks at the live feed, and whether a stream waits for it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping

from bench.client import LoadError, no_garbage
from bench.figures import Label, Metric, percentile
from bench.session import Session, usage
from bench.streams import Streams
from bench.subjects import Subject, Swproxy

NAME = "live"
TITLE = "The live feed: one who looks, at a thousand streams"
SHARE = Metric("core_percent", "%", "of a core")
MORE = Metric("core_percent_more", "%", "of a core, over nobody")
P99 = Metric("delay_p99_ms", "ms", "delay p99")
MOST = Metric("delay_most_ms", "ms", "longest delay")
NOTES = (
    (
        "The same process and the same streams, in turns of a few seconds: nobody looks, somebody "
        "looks; the difference is of each turn to the next. `idle`: nothing comes on the streams, "
        "so that what a looker takes is not lost in what relaying takes, which differs by more "
        "from one turn to the next. `moving`: an event of 150 bytes every second on each, for the "
        "delays. `metered`: what an answer used is read off it, and a frame tells its tokens."
    ),
)


def run(session: Session) -> None:
    """Measure streams with and without somebody who looks."""
    streams = 100 if session.options.quick else 1000
    rounds = session.options.rounds_of(3)
    with session.bed(NAME, only=[Swproxy]) as bed:
        kinds = ("idle", "idle metered", "moving", "moving metered")
        session.progress.begin(NAME, len(kinds) * 2 * rounds)
        for subject in bed.subjects:
            assert isinstance(subject, Swproxy)
            for kind in kinds:
                path = "/idle" if kind.startswith("idle") else f"/sse/1000/{streams}"
                ask = subject.metered_request if kind.endswith("metered") else subject.request
                with (
                    session.attempt(NAME, subject, kind),
                    Streams(ask("https", path), bed.context) as opened,
                ):
                    opened.open(streams, seconds=60)
                    _measure(session, subject, opened, f"{streams} {kind} streams", rounds)


def _measure(session: Session, subject: Swproxy, opened: Streams, case: str, rounds: int) -> None:
    for number in range(rounds):
        shares: dict[str, float] = {}
        # Each is first as often as the other: what a machine does changes by the second.
        for who in sorted(("nobody", "somebody"), reverse=bool(number % 2)):
            session.progress.step(f"{case}, {who} looks")
            with _looker(subject.admin_socket) if who == "somebody" else contextlib.nullcontext():
                shares[who] = _watch(session, subject, opened, {"case": f"{case}, {who} looks"})
        more = shares["somebody"] - shares["nobody"]
        session.add(NAME, subject, {"case": f"{case}, difference"}, {MORE: more})


def _watch(
    session: Session, subject: Subject, streams: Streams, labels: Mapping[str, Label]
) -> float:
    """Return the share of a core that the subject takes for a while."""
    with no_garbage():
        streams.watch(0.3 if session.options.quick else 1.5)
        with usage(subject.family()) as spent:
            watch = streams.watch(1.0 if session.options.quick else 5.0)
    delays = watch.latencies_ms
    session.add(NAME, subject, labels, {SHARE: spent.share})
    if delays:
        told = {P99: percentile(delays, 0.99), MOST: max(delays)}
        session.add(NAME, subject, labels, told)
    return spent.share


@contextlib.contextmanager
def _looker(path: str) -> Iterator[None]:
    """Have somebody look, and take each frame as it comes."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if b" 200 " not in sock.recv(65536).split(b"\r\n", 1)[0]:
            raise LoadError("the live feed is not there")
        reader = threading.Thread(target=_take, args=(sock,), daemon=True)
        reader.start()
        try:
            yield
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            reader.join()


def _take(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass
