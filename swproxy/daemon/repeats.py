"""What strangers repeat: a few lines a second for each address, and then a sum.

A line is longer than the shortest request that can cause one, so whoever sends garbage would write
a multiple of it to our disk. Of what nobody has signed for, each address therefore has BURST lines
a second; the rest is counted, and said once when the second is over. Requests that an application
signed are always told one by one: they can be counted on to mean something.

What is remembered lasts a second and is bounded: beyond MOST_ADDRESSES, strangers share one sum.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["BURST", "MOST_ADDRESSES", "OTHERS", "Repeats", "Sum"]

BURST = 5
"""More than a page that is wrong asks for in a second, and its request ids are in the log."""

MOST_ADDRESSES = 1000
OTHERS = "others"


@dataclass(slots=True)
class Sum:
    """What one address repeated within a second: how often, and with which codes."""

    client: str
    count: int = 0
    codes: Counter[str] = field(default_factory=Counter)


class Repeats:
    """Counts by address and second; the clock is the caller's, in whole seconds."""

    def __init__(self) -> None:
        self._second = 0
        self._seen: dict[str, Sum] = {}

    def passes(self, client: str, code: str) -> bool:
        """Count a request of a stranger; tell whether it gets a line of its own."""
        alone = client in self._seen or len(self._seen) < MOST_ADDRESSES
        found = self._seen.setdefault(client if alone else OTHERS, Sum(client if alone else OTHERS))
        found.count += 1
        if alone and found.count <= BURST:
            return True
        found.codes[code] += 1
        return False

    def ended(self, second: int) -> Iterator[Sum]:
        """Give what was counted and not told, if another second has begun, and begin anew."""
        if second == self._second:
            return
        self._second = second
        seen, self._seen = self._seen, {}
        for found in seen.values():
            if found.codes:
                yield Sum(found.client, found.codes.total(), found.codes)
