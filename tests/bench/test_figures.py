"""Figures are kept by all their labels, and a percentile is one of the samples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import Figures, Metric, percentile
from bench.session import Options

METRIC = Metric("cost_us", "us", "cost")


def test_samples_of_the_same_labels_gather_whatever_their_order() -> None:
    figures = Figures()
    figures.add("sse", "swproxy", METRIC, 3.0, {"upstream": "https", "streams": 20})
    figures.add("sse", "swproxy", METRIC, 1.0, {"streams": 20, "upstream": "https"})
    figures.add("sse", "swproxy", METRIC, 2.0, {"upstream": "https", "streams": 20})
    figures.add("sse", "swproxy", METRIC, 9.0, {"upstream": "http", "streams": 20})
    assert len(list(figures)) == 2
    assert figures.median("sse", "swproxy", "cost_us", streams=20, upstream="https") == 2.0
    assert next(iter(figures)).spread == (1.0, 3.0)


def test_what_was_not_measured_has_no_median() -> None:
    figures = Figures()
    figures.add("sse", "swproxy", METRIC, 3.0, {"streams": 20})
    assert figures.median("sse", "swproxy", "cost_us") is None
    assert figures.median("sse", "nginx", "cost_us", streams=20) is None


def test_a_remark_is_made_once() -> None:
    figures = Figures()
    for _ in range(3):
        figures.remark("sse", "nginx", "not installed")
    assert len(figures.remarks) == 1


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_splits_the_samples(samples: list[float], share: float) -> None:
    value = percentile(samples, share)
    assert value in samples
    below = sum(sample < value for sample in samples)
    assert below <= share * len(samples)


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_percentiles_of_a_hundred(share: float, value: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == value


def test_only_what_has_the_labels_asked_for_is_measured() -> None:
    options = Options(only={"upstream": frozenset({"https"}), "streams": frozenset({"20", "150"})})
    assert options.wants({"upstream": "https", "streams": 150})
    assert options.wants({"upstream": "https", "concurrency": 1})
    assert not options.wants({"upstream": "http", "streams": 150})
    assert not options.wants({"upstream": "https", "streams": 1000})
