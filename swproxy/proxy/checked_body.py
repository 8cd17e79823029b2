"""A body that terms are about is read as JSON and judged before it is sent on as it came.

Most are a few kilobytes, and are judged where they are. What is larger is judged in a thread, one
at a time, so that no stream waits for it: two threads of Python would not be done any sooner.
"""

import trio

from swproxy.policy.applied_terms import AppliedTerms
from swproxy.proxy.spool import MEMORY_BYTES, Spool
from swproxy.proxy.worker import Worker
from swproxy.sw1.refusal import Refusal

__all__ = ["judge", "judge_spool"]


async def judge(worker: Worker, terms: AppliedTerms, data: bytes) -> None:
    """Judge a body that is at hand; raises Refusal."""
    if len(data) <= MEMORY_BYTES:
        terms.check_body(data)
    else:
        await trio.to_thread.run_sync(terms.check_body, data, limiter=worker.judges)


async def judge_spool(worker: Worker, terms: AppliedTerms, spool: Spool, limit: int) -> None:
    """Judge a body that has been kept, of `limit` bytes at most; raises Refusal."""
    if spool.length > limit:
        detail = f"The request body is larger than the {limit} bytes that terms can be about."
        raise Refusal("body-too-large", detail)
    await judge(worker, terms, b"".join(spool.pieces()))
