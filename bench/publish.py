"""Figures into pages: tables between marks, and charts, from what sessions have written.

    python -m bench.publish FIGURES.json...

takes the samples of all of them together. In README.md and docs/ stand marks like

    <!-- measured: peers -->
    <!-- end of measured -->

and what is between them is made here: `machine`, `peers` and `peers-in-short`, `budgets`, or the
name of a scenario for its table as the bench prints it. What was not measured keeps what is there.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import budgets, report, svg
from bench.figures import Figure, Figures, Label, Metric, Remark
from bench.scenarios import SCENARIOS, Plot, bulk, idle, small, sse, ttfb
from bench.site import ROOT

__all__ = ["FACTS", "Sessions", "charts", "fill", "read"]

_MARKED = re.compile(r"(<!-- measured: ([\w-]+) -->\n).*?(<!-- end of measured -->)", re.DOTALL)
_NAMES = {
    "swproxy": "**swproxy**",
    "haproxy": "HAProxy",
    "nginx": "nginx",
    "envoy": "Envoy",
    "go": "Go's ReverseProxy",
    "caddy": "Caddy",
    "starlette+httpx": "Starlette + httpx",
    "plain": "h11 + httpcore's pool",
    "direct": "no proxy",
}
FACTS = ("date", "cpu", "kernel", "python", "openssl", "nginx", "commit")


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What a table says of each subject: a metric, under labels."""

    title: str
    short: str
    scenario: str
    metric: Metric
    labels: Mapping[str, Label]


def _streams(number: int, turns: str = "spread") -> Mapping[str, Label]:
    return {"upstream": "https", "streams": number, "turns": turns}


def _first(client: str) -> Mapping[str, Label]:
    return {"upstream": "https", "client": client, "concurrency": 1}


def _requests(concurrency: int) -> Mapping[str, Label]:
    return {"upstream": "https", "concurrency": concurrency}


def _body(direction: str) -> Mapping[str, Label]:
    return {"upstream": "https", "direction": direction}


_ROWS = (
    Row("CPU a token event, 150 streams, µs", "CPU a token, µs", sse.NAME, sse.CPU, _streams(150)),
    Row("the same, all in step", "", sse.NAME, sse.CPU, _streams(150, "in step")),
    Row("20 streams", "20 streams", sse.NAME, sse.CPU, _streams(20)),
    Row("5 streams", "", sse.NAME, sse.CPU, _streams(5)),
    Row("Its delay, 150 streams, p50, ms", "", sse.NAME, sse.DELAY["p50"], _streams(150)),
    Row("p99, ms", "delay p99, ms", sse.NAME, sse.DELAY["p99"], _streams(150)),
    Row("20 streams, p50, ms", "", sse.NAME, sse.DELAY["p50"], _streams(20)),
    Row(
        "First byte, fresh connection, ms",
        "first byte, ms",
        ttfb.NAME,
        ttfb.WHOLE["p50"],
        _first("fresh"),
    ),
    Row("kept connection, ms", "", ttfb.NAME, ttfb.WHOLE["p50"], _first("kept")),
    Row("Small requests a second, 64 at once", "small, 1/s", small.NAME, small.RATE, _requests(64)),
    Row("512 at once", "", small.NAME, small.RATE, _requests(512)),
    Row("CPU each, 64 at once, µs", "", small.NAME, small.CPU, _requests(64)),
    Row("100 MB down, MB/s", "100 MB, MB/s", bulk.NAME, bulk.RATE, _body("down")),
    Row("up, MB/s", "", bulk.NAME, bulk.RATE, _body("up")),
    Row(
        "Memory a silent stream, of 1,000, KB",
        "KB a stream",
        idle.NAME,
        idle.PSS,
        {"upstream": "https", "streams": 1000},
    ),
)


@dataclass(frozen=True, slots=True)
class Sessions:
    """What was measured, and on what."""

    figures: Figures
    facts: Mapping[str, str]


def read(files: Iterable[Path]) -> Sessions:
    """Put the samples of sessions together; of what differs between machines the last is told."""
    figures = Figures()
    facts: dict[str, str] = {}
    for file in files:
        document: Mapping[str, Any] = json.loads(file.read_text())
        facts |= document["machine"]
        for each in document["figures"]:
            metric = Metric(each["metric"], each["unit"], each["title"])
            for sample in each["samples"]:
                figures.add(each["scenario"], each["subject"], metric, sample, each["labels"])
        figures.remarks += [Remark(**each) for each in document["remarks"]]
    return Sessions(figures, facts)


def fill(text: str, sessions: Sessions) -> str:
    """Return a page with all that has been measured between its marks."""

    def made(found: re.Match[str]) -> str:
        content = _content(found[2], sessions)
        return found[0] if content is None else f"{found[1]}{content}\n{found[3]}"

    return _MARKED.sub(made, text)


def _content(name: str, sessions: Sessions) -> str | None:
    if name in SCENARIOS:
        if not sessions.figures.of(name):
            return None
        return report.figures_table(sessions.figures.of(name))
    return _TABLES[name](sessions)


def _machine(sessions: Sessions) -> str:
    return "\n".join(f"- {name}: {sessions.facts.get(name, 'unknown')}" for name in FACTS)


def _budgets(sessions: Sessions) -> str:
    verdicts = budgets.judge(sessions.figures)
    return report.verdict_table([each for each in verdicts if each.met is not None])


def _peers(sessions: Sessions) -> str:
    found = _by_subject(sessions.figures)
    header = ["", *(_NAMES[name] for name in found)]
    body = [
        [row.title, *(report.cell(each[row]) if row in each else "" for each in found.values())]
        for row in _ROWS
    ]
    return report.table(header, body, text_columns=1)


def _peers_in_short(sessions: Sessions) -> str:
    rows = [row for row in _ROWS if row.short]
    found = _by_subject(sessions.figures)
    body = [
        [_NAMES[name], *(report.number(each[row].median) if row in each else "" for row in rows)]
        for name, each in found.items()
        if name not in ("direct", "plain")
    ]
    return report.table(["", *(row.short for row in rows)], body, text_columns=1)


_TABLES: Mapping[str, Callable[[Sessions], str]] = {
    "machine": _machine,
    "peers": _peers,
    "peers-in-short": _peers_in_short,
    "budgets": _budgets,
}


def _by_subject(figures: Figures) -> dict[str, dict[Row, Figure]]:
    found: dict[str, dict[Row, Figure]] = {name: {} for name in _NAMES}
    for figure in figures:
        for row in _ROWS:
            if (figure.scenario, figure.metric, figure.labels) == (
                row.scenario,
                row.metric,
                row.labels,
            ) and figure.subject in found:
                found[figure.subject][row] = figure
    return {name: rows for name, rows in found.items() if rows}


def charts(figures: Figures) -> Mapping[str, str | None]:
    """Return the charts of README.md and docs/, by file name."""
    streams = Plot(sse.CPU, "streams", {"upstream": "https", "turns": "spread"})
    requests = Plot(small.RATE, "concurrency", {"upstream": "https"})
    return {
        "streams.svg": svg.plot(SCENARIOS[sse.NAME], streams, figures),
        "small.svg": svg.plot(SCENARIOS[small.NAME], requests, figures),
        "first-byte.svg": _first_bytes(figures),
    }


def _first_bytes(figures: Figures) -> str | None:
    groups: dict[str, dict[str, float]] = {}
    for name in _NAMES:
        for client in ("kept", "fresh"):
            median = figures.median(ttfb.NAME, name, ttfb.WHOLE["p50"].key, **_first(client))
            # A connection to a proxy is plain; that without one would have TLS to shake hands for.
            if median is not None and not (name == "direct" and client == "fresh"):
                groups.setdefault(name, {})[f"{client} connection"] = median
    if not groups:
        return None
    title = "Time to the first byte of an answer, https upstream, one request at a time (p50)"
    return svg.bars(title, "ms", groups, ("#30638e", "#edae49"))


def main() -> None:
    """Write pages and charts anew."""
    sessions = read(map(Path, sys.argv[1:]))
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        before = page.read_text()
        if (after := fill(before, sessions)) != before:
            page.write_text(after)
            print(f"written: {page.relative_to(ROOT)}")
    for name, drawing in charts(sessions.figures).items():
        if drawing is not None:
            (ROOT / "docs" / "images" / name).write_text(drawing)
            print(f"drawn: docs/images/{name}")


if __name__ == "__main__":
    main()
