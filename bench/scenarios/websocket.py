"""WebSockets: messages echoed through many tunnels, and what one relayed message costs."""

from __future__ import annotations

from bench.client import no_garbage
from bench.echo import Echoes
from bench.figures import Label, Metric, percentile
from bench.session import Bed, Session, usage
from bench.subjects import Subject

NAME = "websocket"
TITLE = "WebSocket tunnels: 150-byte messages, echoed"
CPU = Metric("cpu_us_per_message", "us", "CPU/message")
RATE = Metric("messages_per_second", "1/s", "messages/s")
SHARES = {"p50": 0.50, "p99": 0.99}
ECHO = {key: Metric(f"echo_{key}_ms", "ms", f"echo {key}") for key in SHARES}
NOTES = (
    (
        "On each tunnel one message is under way: sent when the echo of the last one is whole. An "
        "echo is two messages relayed, one in each direction. A closed loop saturates whatever is "
        "slowest; `direct` shows how much load generator and upstream can do together."
    ),
)


def run(session: Session) -> None:
    """Measure every number of tunnels over both upstream schemes."""
    counts = (150,) if session.options.quick else (1, 60, 150, 600)
    cells = [(scheme, count) for scheme in ("http", "https") for count in counts]
    rounds = session.options.rounds_of(3)
    with session.bed(NAME) as bed:
        session.progress.begin(NAME, len(cells) * rounds * len(bed.subjects))
        for number in range(rounds):
            for scheme, count in cells:
                for subject in bed.in_turn(number):
                    what = f"{scheme} {count} tunnels"
                    session.progress.step(f"{what} {subject.name}")
                    with session.attempt(NAME, subject, what):
                        _measure(session, bed, subject, scheme, count)


def _measure(session: Session, bed: Bed, subject: Subject, scheme: str, count: int) -> None:
    seconds = 0.5 if session.options.quick else 3.0
    with Echoes(subject.request(scheme, "/echo"), bed.context) as echoes:
        echoes.open(count)
        family = subject.family()
        with no_garbage():
            echoes.talk(seconds / 4)
            with usage(family) as spent:
                talk = echoes.talk(seconds)
    labels: dict[str, Label] = {"upstream": scheme, "tunnels": count}
    messages = 2 * len(talk.latencies_ms)  # one up and one down for each echo
    found = {ECHO[key]: percentile(talk.latencies_ms, share) for key, share in SHARES.items()}
    found[RATE] = messages / talk.seconds
    session.add(NAME, subject, labels, found)
    if spent.by_process:
        session.add(NAME, subject, labels, {CPU: 1e6 * spent.total / messages})
