"""The garbage collector's share of a worker's turns.

A full collection looks at every object there is, and all modules of a worker together are some
50,000: 20 ms and more in which no stream moves, at a moment that callers choose by what they make
the worker allocate. None of these is ever garbage, so the collector is told to look no more.
"""

import gc

__all__ = ["freeze_heap"]


def freeze_heap() -> None:
    """Take all that is there now out of every later collection; for when all is loaded."""
    gc.collect()
    gc.freeze()
