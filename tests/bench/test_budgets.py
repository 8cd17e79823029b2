"""A budget is judged from the medians of the figures it names, and only if they are all there."""

import re
from pathlib import Path

import pytest

from bench import budgets
from bench.figures import Figures, Label, Metric
from bench.scenarios import SCENARIOS


def _verdicts(
    samples: list[tuple[str, str, str, dict[str, Label], float]], text: str
) -> list[budgets.Verdict]:
    figures = Figures()
    for scenario, subject, metric, labels, value in samples:
        figures.add(scenario, subject, Metric(metric, "", ""), value, labels)
    return [found for found in budgets.judge(figures) if text in found.budget.text]


def _chunk(subject: str, value: float) -> tuple[str, str, str, dict[str, Label], float]:
    labels: dict[str, Label] = {"upstream": "https", "streams": 150, "turns": "spread"}
    return "sse", subject, "cpu_us_per_chunk", labels, value


@pytest.mark.parametrize(("ours", "met"), [(27.9, True), (28.0, True), (28.1, False)])
def test_an_absolute_bound(ours: float, met: bool) -> None:
    (verdict,) = _verdicts([_chunk("swproxy", ours)], "CPU per chunk, alone")
    assert (verdict.measured, verdict.bound, verdict.met) == (ours, 28, met)


@pytest.mark.parametrize(("plain", "met"), [(80.0, True), (79.0, False)])
def test_a_ratio_of_two_subjects(plain: float, met: bool) -> None:
    samples = [_chunk("swproxy", 20.0), _chunk("plain", plain)]
    (verdict,) = _verdicts(samples, "CPU per chunk, over plain")
    assert verdict.met is met


def test_a_budget_with_a_figure_missing_is_not_judged() -> None:
    (verdict,) = _verdicts(
        [_chunk("swproxy", 1.0)], "150 streams, spread: CPU per chunk, over nginx"
    )
    assert verdict.met is None


@pytest.mark.parametrize(
    ("nginx", "bound"), [(0.05, 0.25), (0.2, 0.6000000000000001), (-0.1, 0.25)]
)
def test_the_larger_of_two_bounds(nginx: float, bound: float) -> None:
    labels: dict[str, Label] = {"upstream": "https", "client": "kept", "concurrency": 1}
    (verdict,) = _verdicts(
        [
            ("ttfb", "nginx", "added_p50_ms", labels, nginx),
            ("ttfb", "swproxy", "added_p50_ms", labels, 0.25),
        ],
        "added time to first byte, https, c=1, kept",
    )
    assert verdict.bound == bound
    assert verdict.met


@pytest.mark.parametrize(("at_512", "met"), [(950.0, True), (940.0, False)])
def test_a_floor(at_512: float, met: bool) -> None:
    rates: list[tuple[int, float]] = [(64, 1000.0), (512, at_512)]
    (verdict,) = _verdicts(
        [
            (
                "small",
                "swproxy",
                "requests_per_second",
                {"upstream": "https", "concurrency": concurrency},
                rate,
            )
            for concurrency, rate in rates
        ],
        "c=512 over c=64",
    )
    assert verdict.met is met


def test_budgets_name_figures_that_scenarios_record() -> None:
    """A metric renamed on one side only would silently never be judged again."""
    sources = Path(budgets.__file__).parent
    named = set(re.findall(r'"([a-z0-9]+(?:_[a-z0-9]+)+)"', Path(budgets.__file__).read_text()))
    recorded = "".join(path.read_text() for path in (sources / "scenarios").glob("*.py"))
    keys = set(re.findall(r'Metric\(\s*f?"([a-z0-9_{}]+)"', recorded))
    keys |= {key.replace("{key}", share) for key in keys for share in ("p50", "p90", "p99")}
    assert named <= keys
    assert {budget.scenario for budget in budgets.BUDGETS} <= set(SCENARIOS)
