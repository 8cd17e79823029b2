"""Bodies kept until it is known whether they may be sent, and what all of them may take together.

A `Spool` keeps one body: in memory up to `MEMORY_BYTES`, beyond that in an unnamed temporary file.
What all spools of a worker hold is bounded by a `SpoolBudget`. Until its signature holds, a body is
anybody's, so when the budget is spent, a body that is not `proved` gives way to one that still
comes: the slowest, which is the one that has taken longest for its last STEP_BYTES. It is not the
one that came first, so a client on a slow line that goes on sending outlasts one that has stopped.

A share of the budget is the most for the bodies of one client; beyond it, his own give way.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from swproxy.sw1.refusal import Refusal

__all__ = ["MEMORY_BYTES", "STEP_BYTES", "Spool", "SpoolBudget"]

MEMORY_BYTES = 65536
"""Bytes of a signed body kept in memory; a prompt fits, an upload goes to a file."""

STEP_BYTES = 65536
"""Less than that is no progress: a byte now and then would make any body look alive."""

_PIECE = 65536


class SpoolBudget:
    """Bytes that all spools of a worker may hold together: `size`, of one client `client_size`."""

    def __init__(self, size: int, client_size: int | None = None) -> None:
        self.resize(size, client_size)
        self.held = 0
        self._held_by: dict[str, int] = {}
        self._unproved: dict[Spool, None] = {}

    def resize(self, size: int, client_size: int | None = None) -> None:
        """Bound what is reserved from now on."""
        self.size = size
        self._client_size = size if client_size is None else client_size

    def enter(self, spool: "Spool") -> None:
        """Take note of a body that is not proved."""
        self._unproved[spool] = None

    def prove(self, spool: "Spool") -> None:
        """Take note that a body need not give way any more."""
        self._unproved.pop(spool, None)

    def reserve(self, spool: "Spool", count: int) -> None:
        """Count `count` bytes more of a body. Raises Refusal ("body-buffer-full")."""
        client = spool.client
        while client and self._held_by.get(client, 0) + count > self._client_size:
            self._make_room(spool, client)
        while self.held + count > self.size:
            self._make_room(spool)
        self.held += count
        if client:
            self._held_by[client] = self._held_by.get(client, 0) + count

    def release(self, spool: "Spool", count: int) -> None:
        """Count `count` bytes less of a body, which is over."""
        self._unproved.pop(spool, None)
        self.held -= count
        client = spool.client
        if client and count:
            left = self._held_by.pop(client) - count
            if left:
                self._held_by[client] = left

    def _make_room(self, spool: "Spool", client: str = "") -> None:
        """Let the slowest body give way; raise Refusal where that is `spool`, or there is none."""
        others = [
            each for each in self._unproved if each.length and (not client or each.client == client)
        ]
        slowest = min(others, key=lambda each: each.step_began, default=spool)
        pressing = spool not in self._unproved or slowest.step_began < spool.step_began
        if slowest is spool or not pressing:
            raise _full()
        slowest.give_way()


class Spool:
    """A body kept until it may be sent. Close it, whatever happens: that pays the budget back.

    `client` is whose share it counts for, "" for nobody's. `step_began` is when the last of the
    steps of STEP_BYTES began, by trio's clock.
    """

    def __init__(self, budget: SpoolBudget, client: str = "", *, proved: bool = False) -> None:
        self._budget = budget
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115 - see close
        self._scope = trio.CancelScope()
        self._gave_way = False
        self._step_end = STEP_BYTES
        self.client = client
        self.length = 0
        self.step_began = trio.current_time()
        if not proved:
            budget.enter(self)

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Receive a body within this; raises Refusal ("body-buffer-full") where it gave way."""
        with self._scope:
            yield
        if self._gave_way:
            raise _full()

    def prove(self) -> None:
        """Take note that the body may be kept for as long as it takes. Raises Refusal."""
        if self._gave_way:
            raise _full()
        self._budget.prove(self)

    def give_way(self) -> None:
        """Forget the body at once, and call off whoever receives it."""
        self._gave_way = True
        self.close()
        self._scope.cancel()

    def write(self, data: bytes) -> None:
        """Append. Raises Refusal when the worker's budget, disk or descriptors are spent."""
        if self._gave_way:
            raise _full()
        if self.length + len(data) >= self._step_end:
            self._step_end = self.length + len(data) + STEP_BYTES
            self.step_began = trio.current_time()
        self._budget.reserve(self, len(data))
        self.length += len(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise Refusal("body-buffer-full", "The signed body could not be kept.") from error

    def pieces(self) -> Iterator[bytes]:
        """Yield all of it, from its beginning, in pieces that are cheap to move."""
        self._file.seek(0)
        while piece := self._file.read(_PIECE):
            yield piece

    def close(self) -> None:
        """Forget the body."""
        self._file.close()
        self._budget.release(self, self.length)
        self.length = 0


def _full() -> Refusal:
    return Refusal("body-buffer-full", "Too many signed bodies are being received at once.")
