"""What judging a large body by its terms does to everybody else: how long the loop is kept."""

from __future__ import annotations

import json
import time
from contextlib import suppress

import trio

from bench.figures import Metric
from bench.session import Session
from swproxy.policy.applied_terms import AppliedTerms
from swproxy.proxy.checked_body import judge
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.terms import read_pairs

NAME = "judge"
TITLE = "Large bodies that terms are about"
HOLD = Metric("longest_hold_ms", "ms", "longest hold of the loop")
TOTAL = Metric("total_ms", "ms", "judged after")
NOTES = (
    (
        "A task looks at the clock every half millisecond; the longest it was late is how long "
        "any stream may have waited. `nothing` is the machine's own part in that. All but the "
        "first two bodies are made up to keep the loop for as long as they can."
    ),
)
_LOOK_SECONDS = 0.0005
_MEGABYTE = 1_000_000
_TERMS = read_pairs("body.model=small&body.max_tokens?=1..800&body.tools=-")


def run(session: Session) -> None:
    """Judge each body in turn, while a task watches the loop."""
    # On whatever cores there are, as a worker runs: the thread that judges takes another one.
    trio.run(_run, session, session.options.rounds_of(9))


async def _run(session: Session, rounds: int) -> None:
    bodies = _bodies()
    session.progress.begin(NAME, rounds * len(bodies))
    judges = trio.CapacityLimiter(1)
    terms = AppliedTerms.of([_TERMS])
    async with trio.open_nursery() as nursery:
        watch = _Watch()
        nursery.start_soon(watch.run)
        for _ in range(rounds):
            for case, data in bodies.items():
                session.progress.step(case)
                watch.longest = 0.0
                began = time.perf_counter()
                with suppress(Refusal):
                    await judge(judges, terms, data)
                await trio.sleep(4 * _LOOK_SECONDS)
                figures = {HOLD: 1e3 * watch.longest, TOTAL: 1e3 * (time.perf_counter() - began)}
                session.add(NAME, "swproxy", {"body": case}, figures)
        nursery.cancel_scope.cancel()


class _Watch:
    """Looks how late it is each time that it gets its turn; `longest` is in seconds."""

    longest = 0.0

    async def run(self) -> None:
        while True:
            due = time.perf_counter() + _LOOK_SECONDS
            await trio.sleep(_LOOK_SECONDS)
            self.longest = max(self.longest, time.perf_counter() - due)


def _bodies() -> dict[str, bytes]:
    """Return the bodies by what they are made of, each of a megabyte or as long as may be."""
    talk = [{"role": "user", "content": "The quick brown fox. " * 40}] * 1100
    return {
        "nothing": b"{}",
        "a long talk, 1 MB": _body(json.dumps(talk)),
        "one text, 1 MB": _body(json.dumps("x" * _MEGABYTE)),
        "escapes, 1 MB": _body(json.dumps("\n" * (_MEGABYTE // 2))),
        "names": _body(json.dumps(dict.fromkeys(map(str, range(16000)), 1))),
        "lists": _body(json.dumps([[]] * 16000)),
        "numbers": _body(json.dumps([1.5] * 65000)),
        "too many lists, 1 MB": _body(json.dumps([[]] * (_MEGABYTE // 4))),
        "too many texts, 1 MB": _body(json.dumps([""] * (_MEGABYTE // 4))),
    }


def _body(value: str) -> bytes:
    return f'{{"model":"small","messages":{value}}}'.encode()
