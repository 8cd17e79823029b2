"""What all workers have counted, added up by application for those who look at it.

`moved` is what has passed, that of calls under way included, which /metrics has when they end. A
worker tells it of the applications that have such calls; of the others it is what is counted. So it
never goes down while a call moves from one to the other.
"""

from collections import Counter, defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, fields

import trio

from swproxy.daemon.metrics import FAMILIES
from swproxy.daemon.report import Report
from swproxy.daemon.tally import Key, Tally

__all__ = ["Count", "Sums", "read_sums"]

_SLICE = 1000


@dataclass(slots=True)
class Count:
    """What has been counted: of all, or of one application."""

    requests: int = 0
    refused: int = 0
    failed: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_unknown: int = 0
    moved_up: int = 0
    moved_down: int = 0
    moved_tokens: int = 0
    """written by models"""
    streams: int = 0
    """now"""

    def add(self, more: "Count") -> None:
        """Add another count to this one."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(more, each.name))

    def take(self, key: Key, value: int, *, moved: bool) -> None:
        """Add a series; `moved` tells whether it is all that has passed as well."""
        match key:
            case ("swproxy_requests_total", _, outcome):
                self.requests += value
                self.refused += value if outcome == "refused" else 0
                self.failed += value if outcome == "upstream-failed" else 0
            case ("swproxy_bytes_total", _, "up"):
                self.bytes_up += value
                self.moved_up += value if moved else 0
            case ("swproxy_bytes_total", _, "down"):
                self.bytes_down += value
                self.moved_down += value if moved else 0
            case ("swproxy_tokens_total", _, "input"):
                self.tokens_in += value
            case ("swproxy_tokens_total", _, "output"):
                self.tokens_out += value
                self.moved_tokens += value if moved else 0
            case ("swproxy_tokens_unknown_total", _):
                self.tokens_unknown += value


_OF_APPS = {
    "swproxy_requests_total",
    "swproxy_bytes_total",
    "swproxy_tokens_total",
    "swproxy_tokens_unknown_total",
}
_HISTOGRAMS = {name for name, family in FAMILIES.items() if family.bounds}


@dataclass(slots=True)
class Sums:
    """What there is at one moment, by trio's clock."""

    at: float
    apps: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    """by id, "" for what nobody has signed for"""
    refusals: Counter[str] = field(default_factory=Counter)
    limits: dict[str, dict[str, dict[str, int]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    """by application, then by limit: what is `used`, and `of` how much"""
    others: Counter[Key] = field(default_factory=Counter)
    """series that are of no application"""
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    """of processes, by their names in metrics"""
    streams: list[int] = field(default_factory=list)
    """answers under way, by worker"""

    def take(self, key: Key, value: float, told: Container[str]) -> None:
        """Add a series of a worker that has `told` by itself what has moved for some."""
        match key:
            case ("swproxy_limit", app, limit):
                known = self.limits[app][limit]
                known["of"] = max(int(value), known.get("of", 0))
            case ("swproxy_limit_used", app, limit):
                known = self.limits[app][limit]
                known["used"] = max(int(value), known.get("used", 0))
            case ("swproxy_process_cpu_seconds_total", process):
                self.cpu_seconds[process] = value
            case ("swproxy_process_resident_memory_bytes", process):
                self.memory[process] = int(value)
            case ("swproxy_refusals_total", code):
                self.refusals[code] += int(value)
            case ("swproxy_active_streams", _):
                self.streams[-1] += int(value)
            case (name, app, *_) if name in _OF_APPS:
                self.apps[app].take(key, int(value), moved=app not in told)
            case (name, *_) if name not in _HISTOGRAMS:
                self.others[key] += int(value)

    def total(self) -> Count:
        """Return the sum of all applications."""
        total = Count()
        for count in self.apps.values():
            total.add(count)
        total.streams = sum(self.streams)
        return total


async def read_sums(now: float, tallies: Sequence[Tally], reports: Sequence[Report | None]) -> Sums:
    """Add up what workers have counted and told; the loop gets its turn in between."""
    sums = Sums(now)
    for tally, report in zip(tallies, reports, strict=True):
        told = report["apps"] if report else {}
        sums.streams.append(0)
        for number, (key, value) in enumerate(tally.read()):
            if number % _SLICE == _SLICE - 1:
                await trio.lowlevel.checkpoint()
            sums.take(key, value, told)
        for app, moved in told.items():
            count = sums.apps[app]
            count.streams += moved["streams"]
            count.moved_up += moved["up"]
            count.moved_down += moved["down"]
            count.moved_tokens += moved["tokens"]
    return sums
