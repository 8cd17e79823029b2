"""Counters in memory that several processes see.

Each worker counts in a piece of memory of its own (nobody else writes there, so there is no lock);
whoever is asked for metrics maps all pieces and adds them up. A count is one store of eight aligned
bytes, about as cheap as in a list, needs no message between processes, and outlives the worker: one
that is killed takes nothing with it, and the one that replaces it counts on, so that a total never
goes down.

The memory holds SERIES numbers, then as many keys of KEY_BYTES: the JSON list of a metric's name
and its label values. A key is written once, its first byte last, so that no reader sees half.
"""

import json
import mmap
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence

__all__ = ["MEMORY_BYTES", "OVERFLOW", "SERIES", "Key", "Tally", "shared_memory"]

SERIES = 16384
"""Series a process may have; 1,000 applications take about 8,000, with every limit 14,000."""

KEY_BYTES = 512
"""An application's id has at most 128 bytes, which JSON may write as 256."""

MEMORY_BYTES = SERIES * (8 + KEY_BYTES)
"""Address space of one tally. Pages that nothing is written to take no memory."""

OVERFLOW: "Key" = ("swproxy_uncounted_series",)
"""Takes what is counted under series for which there is no room any more."""

Key = tuple[str, ...]


def shared_memory(size: int) -> int:
    """Return a descriptor of `size` bytes of zeroes, to be mapped by several processes."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("swproxy")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


class Tally:
    """One process's numbers; `values[slot(key)]` is the number of a series."""

    def __init__(self, descriptor: int = -1) -> None:
        """Map the memory behind `descriptor`, or memory that only this process sees."""
        self._memory = mmap.mmap(descriptor, MEMORY_BYTES)
        self.values: memoryview[float] = memoryview(self._memory).cast("B")[: SERIES * 8].cast("d")
        self._known: list[Key] = []
        self._slots = {key: slot for slot, key in enumerate(self.keys())}

    def slot(self, key: Key) -> int:
        """Return where the number of `key` is kept; the same place every time."""
        found = self._slots.get(key)
        return self._add(key) if found is None else found

    def find(self, key: Key) -> int | None:
        """Return where the number of `key` is kept, if this process has counted under it."""
        return self._slots.get(key)

    def slots(self, keys: Sequence[Key]) -> list[int]:
        """Return the places of several keys."""
        return [self.slot(key) for key in keys]

    def read(self) -> Iterator[tuple[Key, float]]:
        """Return every series and its number, whoever wrote it."""
        return zip(self.keys(), self.values, strict=False)

    def keys(self) -> Sequence[Key]:
        """Return the keys of all series, in the order of `values`."""
        # What has been read stays as it is, so only what is new is looked at. Several threads may
        # do so at once: each makes a list of its own.
        known = self._known
        fresh = list(self._keys_from(len(known)))
        if fresh:
            known = self._known = known + fresh
        return known

    def close(self) -> None:
        """Unmap the memory."""
        self.values.release()
        self._memory.close()

    def _add(self, key: Key) -> int:
        slot = len(self._slots)
        if slot == SERIES - 1:
            key = OVERFLOW
        elif slot >= SERIES:
            return SERIES - 1
        text = json.dumps(key, ensure_ascii=False).encode()
        if len(text) > KEY_BYTES:
            raise ValueError("a series' name is too long")
        start = SERIES * 8 + slot * KEY_BYTES
        self._memory[start + 1 : start + len(text)] = text[1:]
        self._memory[start : start + 1] = text[:1]
        self._slots[key] = slot
        return slot

    def _keys_from(self, slot: int) -> Iterator[Key]:
        for start in range(SERIES * 8 + slot * KEY_BYTES, MEMORY_BYTES, KEY_BYTES):
            text = self._memory[start : start + KEY_BYTES]
            if not text[0]:
                return
            yield tuple(json.loads(text.rstrip(b"\0")))
