"""Lines on their way out of the process, by a thread that alone may be kept waiting.

Whoever reads a log may stop: a terminal is paused, a pipe's reader hangs, a disk is slow. A write
would then hold up every request, so the event loop only appends to a queue and a thread writes. The
queue is bounded by bytes; when it is full, lines are dropped and counted, and the first line after
that says how many. Making the descriptor non-blocking instead would do so to everybody who shares
it, the shell included.

The thread gathers lines for PAUSE_SECONDS between writes, so that under load it costs a few
wake-ups a second and not one a line. Each write is at most ATOMIC_BYTES, which the kernel never
mixes with another worker's.
"""

import collections
import contextlib
import os
import select
import threading
import time
from collections.abc import Callable

__all__ = ["LineWriter"]

QUEUE_BYTES = 1 << 20
PAUSE_SECONDS = 0.02
ATOMIC_BYTES = 4096
"""PIPE_BUF of Linux; a longer line goes out in one write of its own."""


class LineWriter:
    """Writes lines to a descriptor that it does not own, without ever keeping the caller waiting.

    `dropped_line` makes the line that says how many were dropped; `on_drop` hears of each.
    """

    def __init__(
        self,
        descriptor: int,
        *,
        dropped_line: Callable[[int], str],
        on_drop: Callable[[int], None] | None = None,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self._descriptor = descriptor
        self._dropped_line = dropped_line
        self.on_drop = on_drop
        self._queue_bytes = queue_bytes
        self._lines: collections.deque[str] = collections.deque()
        # Each number has one thread that changes it, so none needs a lock.
        self._queued = 0
        self._taken = 0
        self._dropped = 0
        self._lost = 0
        self._told = 0
        self._work = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def write(self, line: str) -> None:
        """Hand over a line, without its line break; drop it if too many wait already."""
        size = len(line)
        if self._queued - self._taken + size > self._queue_bytes:
            self._dropped += 1
            if self.on_drop is not None:
                self.on_drop(1)
            return
        self._queued += size
        self._lines.append(line)
        if self._thread is None:
            # A daemon thread: one that hangs in a write must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()
        if not self._work.is_set():
            self._work.set()

    def close(self, seconds: float = 1.0) -> None:
        """Write what is left, for at most `seconds`."""
        self._closing = True
        if self._thread is not None:
            self._work.set()
            self._thread.join(seconds)

    def _run(self) -> None:
        while not (self._closing and not self._lines):
            self._work.wait()
            self._work.clear()
            while self._lines:
                self._put(self._gather())
            dropped = self._dropped + self._lost
            if dropped > self._told:
                self._put(self._dropped_line(dropped - self._told).encode() + b"\n")
                self._told = dropped
            if not self._closing:
                time.sleep(PAUSE_SECONDS)

    def _gather(self) -> bytes:
        data = b""
        while self._lines and (not data or len(data) + len(self._lines[0]) < ATOMIC_BYTES):
            line = self._lines.popleft()
            self._taken += len(line)
            data += line.encode("utf-8", "backslashreplace") + b"\n"
        return data

    def _put(self, data: bytes) -> None:
        lines = data.count(b"\n")
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                # Somebody who shares the descriptor has made it non-blocking.
                with contextlib.suppress(OSError, ValueError):
                    select.select([], [self._descriptor], [], 1.0)
            except OSError:
                self._lost += lines  # its reader is gone for good
                return
