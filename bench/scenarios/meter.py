"""What reading off an answer what it used costs: metered streams beside streams that are not."""

from __future__ import annotations

import gc
import json
import time
import tracemalloc
from collections.abc import Mapping

from bench import procfs
from bench.client import LoadError, no_garbage
from bench.figures import Label, Metric
from bench.machine import Cores, on_cores
from bench.session import Bed, Session, usage
from bench.streams import Streams
from bench.subjects import Subject, Swproxy
from swproxy.http.framing import ChunkedBody
from swproxy.http.meter import make_meter

NAME = "meter"
TITLE = "Metering: what calls used, read off their answers"
CPU = Metric("cpu_us_per_chunk", "us", "CPU/chunk")
MORE = Metric("cpu_more_us", "us", "over the other")
PSS = Metric("pss_more_kb_per_stream", "KB", "PSS/stream over the other")
FED = Metric("us_per_chunk", "us", "per chunk")
HELD = Metric("bytes_held", "bytes", "held")
NOTES = (
    (
        "The same process serves both applications, in turns of a second or so, so that what the "
        "machine does meanwhile meets both alike; the difference is of each turn to the next."
    ),
    (
        "`body and meter`: a chunk of a chat completion's stream through the framing alone, and "
        "with a meter listening, in this process. Held: by one meter in the middle of a stream, "
        "and when it has been let go."
    ),
)
_CHUNK = json.dumps(
    {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "object": "chat.completion.chunk",
        "created": 1741569952,
        "model": "gpt-5-mini-2025-08-07",
        "choices": [{"index": 0, "delta": {"content": " token"}, "finish_reason": None}],
        "usage": None,
    }
).encode()
_EVENT = b"data: %b\n\n" % _CHUNK
_WIRE = memoryview(b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT))


def run(session: Session) -> None:
    """Measure streams of both kinds in turns, then the meter by itself."""
    rounds = session.options.rounds_of(12)
    turns = ("spread", "in step")
    session.progress.begin(NAME, 2 * rounds * len(turns) * 2 + 1)
    with session.bed(NAME, only=[Swproxy]) as bed:
        for subject in bed.subjects:
            for scheme in ("http", "https"):
                for turn in turns:
                    _measure_pairs(session, bed, subject, scheme, turn, rounds)
    session.progress.step("body and meter")
    with on_cores(Cores.pinned().subject):
        _measure_alone(session)


def _measure_pairs(
    session: Session, bed: Bed, subject: Subject, scheme: str, turn: str, rounds: int
) -> None:
    assert isinstance(subject, Swproxy)
    streams = 150
    path = f"/sse/20/{1 if turn == 'in step' else streams}"
    requests = {
        "not metered": subject.request(scheme, path),
        "metered": subject.metered_request(scheme, path),
    }
    for number in range(rounds):
        with session.attempt(NAME, subject, f"{scheme} {turn}"):
            costs: dict[str, float] = {}
            memory: dict[str, float] = {}
            # Each is first as often as the other: what a machine does changes by the second.
            for kind, request in sorted(requests.items(), reverse=bool(number % 2)):
                session.progress.step(f"{scheme} {turn} {kind}")
                with Streams(request, bed.context) as opened:
                    opened.open(streams, seconds=30)
                    costs[kind], memory[kind] = _watch(session, opened, subject)
                session.add(NAME, subject, _case(scheme, turn, kind), {CPU: costs[kind]})
            more = {
                MORE: costs["metered"] - costs["not metered"],
                PSS: (memory["metered"] - memory["not metered"]) / 1024 / streams,
            }
            session.add(NAME, subject, _case(scheme, turn, "difference"), more)


def _case(scheme: str, turn: str, kind: str) -> Mapping[str, Label]:
    return {"case": f"150 streams, {scheme} {turn}, {kind}"}


def _watch(session: Session, streams: Streams, subject: Subject) -> tuple[float, float]:
    """Return processor microseconds a chunk, and bytes of memory while it lasts."""
    family = subject.family()
    with no_garbage():
        streams.watch(0.7)
        with usage(family) as spent:
            watch = streams.watch(0.7 if session.options.quick else 2.0)
    if not watch.latencies_ms:
        raise LoadError("no events came")
    held = procfs.memory(family)
    return 1e6 * spent.total / len(watch.latencies_ms), held.proportional


def _measure_alone(session: Session) -> None:
    for _ in range(session.options.rounds_of(7)):
        bare = _feed(metered=False)
        listened = _feed(metered=True)
        case = "body and meter"
        session.add(NAME, "swproxy", {"case": "body"}, {FED: bare})
        session.add(NAME, "swproxy", {"case": case}, {FED: listened, MORE: listened - bare})
    held, left = _held()
    session.add(NAME, "swproxy", {"case": "one meter"}, {HELD: held})
    session.add(NAME, "swproxy", {"case": "let go"}, {HELD: left})


def _feed(*, metered: bool, chunks: int = 50_000) -> float:
    """Return the microseconds that a chunk takes, of a stream that has been going on."""
    body = ChunkedBody()
    if metered:
        meter = make_meter("text/event-stream", None)
        assert meter is not None
        body.tap = meter.feed
    for _ in range(200):
        body.feed(_WIRE)
    with no_garbage():
        began = time.process_time()
        for _ in range(chunks):
            body.feed(_WIRE)
        return 1e6 * (time.process_time() - began) / chunks


def _held(meters: int = 200) -> tuple[float, float]:
    """Return the bytes that a meter holds after hundreds of events, and when nobody has it."""

    def fed() -> object:
        meter = make_meter("text/event-stream", None)
        assert meter is not None
        for _ in range(300 + len(opened) % 17):
            meter.feed(bytes(bytearray(_EVENT)))
        return meter

    opened: list[object] = []
    opened.append(fed())
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        opened.extend(fed() for _ in range(meters))
        held, _ = tracemalloc.get_traced_memory()
        opened.clear()
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (held - before) / meters, max(0, left - before) / meters
