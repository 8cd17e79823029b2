"""Percentiles of the time to first byte over the last minute, of all and by application.

They are read off counts by bucket, which workers tell once a second while somebody looks.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from swproxy.daemon.frame import Percentiles
from swproxy.daemon.metrics import FIRST_BYTE_BOUNDS

__all__ = ["FirstBytes", "quantile"]

_WINDOW_SECONDS = 60.0


class FirstBytes:
    """How many first bytes there were in each bucket, in the last minute."""

    def __init__(self) -> None:
        self._held: deque[tuple[float, str, int, int]] = deque()
        self._all = [0] * (len(FIRST_BYTE_BOUNDS) + 1)
        self._apps: dict[str, list[int]] = {}

    def add(self, now: float, told: Iterable[Mapping[str, Mapping[str, int]]]) -> None:
        """Take what was told, by application and bucket, and forget what is too old."""
        for by_app in told:
            for app, counts in by_app.items():
                for bucket, count in counts.items():
                    self._held.append((now, app, int(bucket), count))
                    self._change(app, int(bucket), count)
        while self._held and self._held[0][0] <= now - _WINDOW_SECONDS:
            _, app, number, count = self._held.popleft()
            self._change(app, number, -count)

    def of(self, app: str | None) -> Percentiles:
        """Return the percentiles of an application, or of all."""
        counts = self._all if app is None else self._apps.get(app, [])
        p50, p95, p99 = (quantile(counts, share) for share in (0.5, 0.95, 0.99))
        return Percentiles(p50=p50, p95=p95, p99=p99, count=sum(counts))

    def _change(self, app: str, bucket: int, count: int) -> None:
        of_app = self._apps.setdefault(app, [0] * len(self._all))
        of_app[bucket] += count
        self._all[bucket] += count
        if not any(of_app):
            del self._apps[app]


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Return a quantile as Prometheus's histogram_quantile does: linear within its bucket."""
    rank, below = share * sum(counts), 0
    if not rank:
        return None
    for number, bound in enumerate(FIRST_BYTE_BOUNDS):
        if below + counts[number] >= rank:
            least = FIRST_BYTE_BOUNDS[number - 1] if number else 0.0
            return round(least + (bound - least) * (rank - below) / counts[number], 6)
        below += counts[number]
    return FIRST_BYTE_BOUNDS[-1]
