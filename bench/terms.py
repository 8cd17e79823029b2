"""Numbers taken from figures, once there are any: what budgets are written with.

A term is None when what it needs was not measured.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.figures import Figures, Label

__all__ = ["Term", "combined", "constant", "figure", "larger", "ratio", "times"]

Term = Callable[[Figures], float | None]


def figure(scenario: str, subject: str, metric: str, **labels: Label) -> Term:
    """Return the term that is the median of exactly that figure."""
    return lambda figures: figures.median(scenario, subject, metric, **labels)


def constant(value: float) -> Term:
    """Return a term that needs nothing measured."""
    return lambda _: value


def combined(of: Callable[[float, float], float], first: Term, second: Term) -> Term:
    """Return a term made of two; without one of them there is none."""

    def term(figures: Figures) -> float | None:
        values = first(figures), second(figures)
        if values[0] is None or values[1] is None:
            return None
        return of(values[0], values[1])

    return term


def ratio(first: Term, second: Term) -> Term:
    """Return one over the other."""
    return combined(lambda one, other: one / other if other else float("inf"), first, second)


def times(factor: float, term: Term) -> Term:
    """Return so many times a term."""
    return combined(lambda one, other: one * other, constant(factor), term)


def larger(first: Term, second: Term) -> Term:
    """Return the larger of two terms."""
    return combined(max, first, second)
