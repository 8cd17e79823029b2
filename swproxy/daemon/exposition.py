"""The numbers of all workers, added up and written as Prometheus reads them."""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from swproxy import __version__
from swproxy.daemon.metrics import FAMILIES, Family
from swproxy.daemon.tally import Key, Tally

__all__ = ["CONTENT_TYPE", "added_up", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Sum(Collector):
    """All tallies' numbers; asked anew at every scrape."""

    def __init__(self, tallies: Sequence[Tally]) -> None:
        self._tallies = tallies

    def collect(self) -> Iterator[Metric]:
        totals = added_up(self._tallies)
        for name, family in FAMILIES.items():
            found = {key[1:]: value for key, value in totals.items() if key[0] == name}
            yield _histogram(name, family, found) if family.bounds else _plain(name, family, found)
        info = GaugeMetricFamily("swproxy_info", "The version that runs.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info


def added_up(tallies: Sequence[Tally]) -> dict[Key, float]:
    """Return the numbers of all `tallies` together."""
    totals: dict[Key, float] = {}
    for tally in tallies:
        for key, value in tally.read():
            before = totals.get(key, 0.0)
            totals[key] = max(before, value) if FAMILIES[key[0]].shared else before + value
    return totals


def exposition(tallies: Sequence[Tally]) -> bytes:
    """Return the metrics of all `tallies` in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(_Sum(tallies))
    return generate_latest(registry)


def _plain(name: str, family: Family, found: dict[Key, float]) -> Metric:
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(name, family.help, labels=family.labels)
    for labels, value in sorted(found.items()):
        metric.add_metric(labels, value)
    return metric


def _histogram(name: str, family: Family, found: dict[Key, float]) -> Metric:
    metric = HistogramMetricFamily(name, family.help)
    buckets: list[tuple[str, float]] = []
    count = 0.0
    for bound in [*map(str, family.bounds), "+Inf"]:
        count += found.get((bound,), 0.0)
        buckets.append((bound, count))
    metric.add_metric([], buckets, found.get(("sum",), 0.0))
    return metric
