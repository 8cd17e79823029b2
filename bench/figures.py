"""What was measured: samples by scenario, subject, labels and metric.

Everything that prints, plots or judges works on this one shape, so a scenario only has to record.
A figure is the median of its samples, one sample a round; the spread is their range.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Figure", "Figures", "Label", "Metric", "Remark", "percentile"]

Label = str | int


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured quantity: a stable key for JSON, a unit, and a column title for people."""

    key: str
    unit: str
    title: str


@dataclass(slots=True)
class Figure:
    """All samples of one metric of one subject under one set of labels."""

    scenario: str
    subject: str
    labels: Mapping[str, Label]
    metric: Metric
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest sample."""
        return min(self.samples), max(self.samples)


@dataclass(frozen=True, slots=True)
class Remark:
    """Why a figure is missing, or what has to be known to read it."""

    scenario: str
    subject: str
    text: str


class Figures:
    """Every figure and remark of a session, in the order in which they were first recorded."""

    def __init__(self) -> None:
        self._figures: dict[tuple[object, ...], Figure] = {}
        self.remarks: list[Remark] = []

    def add(
        self,
        scenario: str,
        subject: str,
        metric: Metric,
        value: float,
        labels: Mapping[str, Label] | None = None,
    ) -> None:
        """Add one sample."""
        labels = labels or {}
        key = (scenario, subject, metric.key, *sorted(labels.items()))
        figure = self._figures.get(key)
        if figure is None:
            figure = self._figures[key] = Figure(scenario, subject, dict(labels), metric)
        figure.samples.append(value)

    def remark(self, scenario: str, subject: str, text: str) -> None:
        """Say something once about a subject in a scenario."""
        remark = Remark(scenario, subject, text)
        if remark not in self.remarks:
            self.remarks.append(remark)

    def of(self, scenario: str) -> list[Figure]:
        """Return the figures of one scenario."""
        return [figure for figure in self if figure.scenario == scenario]

    def median(self, scenario: str, subject: str, metric: str, **labels: Label) -> float | None:
        """Return the median of exactly that figure, None if it was not measured."""
        figure = self._figures.get((scenario, subject, metric, *sorted(labels.items())))
        return None if figure is None else figure.median

    def __iter__(self) -> Iterator[Figure]:
        return iter(self._figures.values())


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile; `share` lies in 0..1 and `samples` is not empty."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
