"""A body that terms are about is read as JSON and judged before it is sent on as it came.

Most are a few kilobytes, and are judged where they are. What is larger is judged in a thread, one
at a time, so that no stream waits for it: two threads of Python would not be done any sooner. The
thread is made to give way ten times as often as Python would have it, and the collector rests
meanwhile: what is read holds no circle, yet would make it go through all that the worker has. With
both, a body of a megabyte keeps the loop for 3 ms at a time, and for 10 to 30 without.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from swproxy.policy.applied_terms import AppliedTerms
from swproxy.proxy.spool import Spool
from swproxy.sw1.refusal import Refusal

__all__ = ["judge", "judge_spool"]

_IN_PLACE_BYTES = 16384
"""What is made up to take as long as it can, of this length, takes about 3 ms; a chat, 0.1."""

_SWITCH_SECONDS = 0.0005


async def judge(judges: trio.CapacityLimiter, terms: AppliedTerms, data: bytes) -> None:
    """Judge a body that is at hand, in one of the threads of `judges` if it is long.

    Raises Refusal.
    """
    if len(data) <= _IN_PLACE_BYTES:
        terms.check_body(data)
    else:
        await trio.to_thread.run_sync(_judge_aside, terms, data, limiter=judges)


async def judge_spool(
    judges: trio.CapacityLimiter, terms: AppliedTerms, spool: Spool, limit: int
) -> None:
    """Judge a body that has been kept, of `limit` bytes at most; raises Refusal."""
    if spool.length > limit:
        detail = f"The request body is larger than the {limit} bytes that terms can be about."
        raise Refusal("body-too-large", detail)
    await judge(judges, terms, b"".join(spool.pieces()))


def _judge_aside(terms: AppliedTerms, data: bytes) -> None:
    with _giving_way():
        terms.check_body(data)


@contextmanager
def _giving_way() -> Iterator[None]:
    interval, collecting = sys.getswitchinterval(), gc.isenabled()
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        sys.setswitchinterval(interval)
