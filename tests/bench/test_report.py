"""Tables line up and hold everything, JSON holds every sample, charts are well-formed SVG."""

import json
from xml.etree import ElementTree

import pytest

from bench import budgets, report, svg
from bench.figures import Figures, Metric
from bench.scenarios import SCENARIOS, Plot, Scenario

METRIC = Metric("cpu_us_per_chunk", "us", "CPU/chunk")
OTHER = Metric("core_percent", "%", "of a core")


def _figures() -> Figures:
    figures = Figures()
    for streams in (150, 20):
        for subject in ("direct", "swproxy"):
            for sample in (1.0, 3.0, 2.0):
                labels = {"upstream": "https", "streams": streams}
                figures.add("sse", subject, METRIC, sample * streams, labels)
    figures.add("sse", "swproxy", OTHER, 12.3, {"upstream": "https", "streams": 20})
    figures.remark("sse", "nginx", "not measured: not installed")
    return figures


def _scenario(*plots: Plot) -> Scenario:
    return Scenario("sse", "A <title> & more", ("One note.",), lambda session: None, plots)


def test_a_table_has_a_row_for_each_subject_under_each_labels_in_order_of_measuring() -> None:
    text = report.scenario_table(_scenario(), _figures())
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    assert rows[0] == ["upstream", "streams", "subject", "CPU/chunk us", "of a core %"]
    assert rows[2:] == [
        ["https", "150", "direct", "300 (150..450)", ""],
        ["https", "150", "swproxy", "300 (150..450)", ""],
        ["https", "20", "direct", "40.0 (20.0..60.0)", ""],
        ["https", "20", "swproxy", "40.0 (20.0..60.0)", "12.3"],
    ]
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1
    assert "One note." in text
    assert "- nginx: not measured: not installed" in text


def test_a_scenario_without_figures_still_says_why() -> None:
    figures = Figures()
    figures.remark("sse", "swproxy", "unsupported: said no")
    assert "- swproxy: unsupported: said no" in report.scenario_table(_scenario(), figures)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0298, "0.030"),
        (-0.008, "-0.008"),
        (1.234, "1.23"),
        (19.84, "19.8"),
        (133.3, "133"),
        (25000.4, "25,000"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert report.number(value) == text


def test_json_holds_samples_and_verdicts() -> None:
    figures = _figures()
    document = json.loads(report.as_json({"cpu": "some"}, figures, budgets.judge(figures)))
    assert document["machine"] == {"cpu": "some"}
    assert document["figures"][0]["samples"] == [150.0, 450.0, 300.0]
    assert document["figures"][0]["labels"] == {"upstream": "https", "streams": 150}
    assert document["remarks"][0]["subject"] == "nginx"
    assert len(document["budgets"]) == len(budgets.BUDGETS)


def test_a_chart_has_a_line_for_each_subject_and_a_point_for_each_value() -> None:
    plot = Plot(METRIC, "streams", {"upstream": "https"})
    drawing = svg.plot(_scenario(plot), plot, _figures())
    assert drawing is not None
    root = ElementTree.fromstring(drawing)
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}polyline")) == 2
    assert len(root.findall(f"{space}circle")) == 4
    texts = [element.text for element in root.iter(f"{space}text")]
    assert {"direct", "swproxy", "streams", "20", "150"} <= set(texts)
    for circle in root.findall(f"{space}circle"):
        assert 0 < float(circle.attrib["cx"]) < 720
        assert 0 < float(circle.attrib["cy"]) < 420


def test_no_chart_of_a_single_point() -> None:
    plot = Plot(OTHER, "streams", {"upstream": "https"})
    assert svg.plot(_scenario(plot), plot, _figures()) is None


def test_values_that_have_no_logarithm_are_left_out_of_a_chart() -> None:
    figures = _figures()
    figures.add("sse", "odd", METRIC, -1.0, {"upstream": "https", "streams": 20})
    plot = Plot(METRIC, "streams", {"upstream": "https"})
    drawing = svg.plot(_scenario(plot), plot, figures)
    assert drawing is not None
    assert drawing.count("<circle") == 4


def test_every_scenario_is_named_titled_and_explained() -> None:
    for name, scenario in SCENARIOS.items():
        assert name == scenario.name
        assert scenario.title
        assert all(note.endswith(".") for note in scenario.notes)
