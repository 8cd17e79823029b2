"""Samples of several sessions are put together, and stand between the marks of a page."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import publish
from bench.figures import Figures, Label
from bench.report import as_json
from bench.scenarios import sse, ttfb
from tests.support.pages import DOCS, README

SPREAD: dict[str, Label] = {"upstream": "https", "streams": 150, "turns": "spread"}
PAGE = "before\n<!-- measured: {} -->\nold\n<!-- end of measured -->\nafter\n"


def _session(directory: Path, name: str, *samples: float) -> Path:
    figures = Figures()
    for sample in samples:
        figures.add("sse", "swproxy", sse.CPU, sample, SPREAD)
        figures.add("sse", "go", sse.CPU, 2 * sample, SPREAD)
    file = directory / name
    file.write_text(as_json({"python": name}, figures, []))
    return file


def test_samples_of_sessions_are_put_together(tmp_path: Path) -> None:
    files = [_session(tmp_path, "one", 30.0, 10.0), _session(tmp_path, "two", 20.0)]
    sessions = publish.read(files)
    assert sessions.facts == {"python": "two"}
    assert sessions.figures.median("sse", "swproxy", sse.CPU.key, **SPREAD) == 20.0
    assert next(iter(sessions.figures)).spread == (10.0, 30.0)


def test_a_page_is_filled_between_its_marks(tmp_path: Path) -> None:
    sessions = publish.read([_session(tmp_path, "one", 30.0, 10.0)])
    short = publish.fill(PAGE.format("peers-in-short"), sessions)
    assert short.startswith("before\n<!-- measured: peers-in-short -->\n|")
    assert short.endswith("|\n<!-- end of measured -->\nafter\n")
    assert "old" not in short
    assert re.search(r"^\| \*\*swproxy\*\* +\| +20\.0 \|", short, re.MULTILINE)
    assert "20.0 (10.0..30.0)" in publish.fill(PAGE.format("peers"), sessions)
    assert "40.0 (20.0..60.0)" in publish.fill(PAGE.format("sse"), sessions)


def test_what_was_not_measured_keeps_what_is_there(tmp_path: Path) -> None:
    sessions = publish.read([_session(tmp_path, "one", 30.0)])
    assert publish.fill(PAGE.format("store"), sessions) == PAGE.format("store")


def test_every_mark_in_the_pages_can_be_filled(tmp_path: Path) -> None:
    sessions = publish.read([_session(tmp_path, "one", 30.0)])
    facts = dict.fromkeys(publish.FACTS, "x")
    sessions = publish.Sessions(sessions.figures, facts)
    pages = [README, *DOCS.glob("*.md")]
    for page in pages:
        text = page.read_text()
        assert text.count("<!-- measured: ") == text.count("<!-- end of measured -->")
        publish.fill(text, sessions)


@pytest.mark.parametrize("client", ["kept", "fresh"])
def test_bars_are_as_long_as_what_was_measured(client: str) -> None:
    figures = Figures()
    for subject, value in (("swproxy", 0.4), ("go", 0.2)):
        labels: dict[str, Label] = {"upstream": "https", "client": client, "concurrency": 1}
        figures.add("ttfb", subject, ttfb.WHOLE["p50"], value, labels)
    drawing = publish.charts(figures)["first-byte.svg"]
    assert drawing is not None
    boxes = ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}rect")
    lengths = [float(box.get("width", "")) for box in boxes if box.get("height") == "12"]
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=0.2)
