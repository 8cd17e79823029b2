"""Even load: which of several workers takes a connection.

All workers accept from the same sockets, the kernel wakes all of them for every connection, and the
first to come takes it. On a machine with time to spare that is the same one again and again: of 40
connections one of two workers may get all. So every worker writes how many connections it has where
the others see it, and one that is ahead of the least loaded waits HOLD_SECONDS before it accepts,
which is long enough for another one to be there first. If none was, it takes the connection after
all: the others may be busy, hung or dead, and nobody waits for them longer than that.

Counts of workers that accept quickly closed connections are never quite the same. A lead of an
eighth, MARGIN at most, is not worth a wait.
"""

import math
import mmap

__all__ = ["HOLD_SECONDS", "LOAD_BYTES", "MARGIN", "Share"]

HOLD_SECONDS = 0.001
MARGIN = 16

LOAD_BYTES = 8
"""Memory that a worker's number takes."""


class Share:
    """A worker's place among `count` workers, in memory that all of them map.

    Only the worker writes there while it lives, eight aligned bytes at a time, so there is no lock.
    """

    def __init__(self, descriptor: int = -1, count: int = 1, place: int = 0) -> None:
        """Map the memory behind `descriptor`, or for a worker on its own none that is shared."""
        self._loads = memoryview(mmap.mmap(descriptor, LOAD_BYTES * count)).cast("B").cast("d")
        self._place = place

    def tell(self, connections: int) -> None:
        """Let the others know how many connections are open here."""
        self._loads[self._place] = connections

    def leave(self) -> None:
        """Let the others know that nobody accepts in this place."""
        self._loads[self._place] = math.inf

    def hold(self) -> float:
        """Return for how many seconds to leave the next connection to the others."""
        least = min(self._loads)
        ahead = self._loads[self._place] > least + min(least // 8, MARGIN)
        return HOLD_SECONDS if ahead else 0.0
