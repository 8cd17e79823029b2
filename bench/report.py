"""Figures for people and for programs: tables and JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence

from bench import budgets
from bench.figures import Figure, Figures, Label, Metric
from bench.scenarios import Scenario

__all__ = [
    "as_json",
    "budget_table",
    "cell",
    "figures_table",
    "number",
    "scenario_table",
    "table",
    "verdict_table",
]

_WIDTH = 100


def number(value: float) -> str:
    """Return a number with about three significant digits."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.{3 if size < 1 else 2 if size < 10 else 1}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int) -> str:
    """Return a Markdown table that is also aligned; columns after the texts are right-aligned."""
    widths = [max(len(row[index]) for row in (header, *rows)) for index in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if index < text_columns else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = (
        "-" * width if index < text_columns else "-" * (width - 1) + ":"
        for index, width in enumerate(widths)
    )
    return "\n".join([line(header), f"| {' | '.join(rule)} |", *map(line, rows)])


def scenario_table(scenario: Scenario, figures: Figures) -> str:
    """Return the table of a scenario, with its title, notes and remarks."""
    parts = [f"## {scenario.name}: {scenario.title}"]
    if measured := figures.of(scenario.name):
        parts.append(figures_table(measured))
    parts += [textwrap.fill(note, _WIDTH) for note in scenario.notes]
    remarks = [
        f"- {remark.subject}: {remark.text}"
        for remark in figures.remarks
        if remark.scenario == scenario.name
    ]
    return "\n\n".join(parts + (["\n".join(remarks)] if remarks else []))


def figures_table(measured: Sequence[Figure]) -> str:
    """Return the table of some figures, subjects side by side under the same labels."""
    metrics: dict[str, Metric] = {}
    label_names: dict[str, None] = {}
    rows: dict[tuple[tuple[Label, ...], str], dict[str, Figure]] = {}
    for figure in measured:
        metrics.setdefault(figure.metric.key, figure.metric)
        label_names.update(dict.fromkeys(figure.labels))
        rows.setdefault((tuple(figure.labels.values()), figure.subject), {})[figure.metric.key] = (
            figure
        )
    # In the order in which labels first came up.
    places = {labels: place for place, labels in enumerate(dict.fromkeys(key[0] for key in rows))}
    names = sorted({key[1] for key in rows}, key=[figure.subject for figure in measured].index)
    ordered = sorted(rows.items(), key=lambda item: (places[item[0][0]], names.index(item[0][1])))
    body = [
        [
            *map(str, labels),
            subject,
            *(cell(found[key]) if key in found else "" for key in metrics),
        ]
        for (labels, subject), found in ordered
    ]
    header = [
        *label_names,
        "subject",
        *(f"{metric.title} {metric.unit}".strip() for metric in metrics.values()),
    ]
    return table(header, body, text_columns=len(label_names) + 1)


def cell(figure: Figure) -> str:
    """Return the median of a figure, and its spread if there are several samples."""
    if len(figure.samples) == 1:
        return number(figure.median)
    low, high = figure.spread
    return f"{number(figure.median)} ({number(low)}..{number(high)})"


def budget_table(verdicts: Sequence[budgets.Verdict]) -> str:
    """Return the budgets beside what was measured, with a title."""
    return f"## Budgets\n\n{verdict_table(verdicts)}"


def verdict_table(verdicts: Sequence[budgets.Verdict]) -> str:
    """Return the budgets beside what was measured."""
    words = {True: "met", False: "MISSED", None: "not measured"}
    rows = [
        [
            str(verdict.budget.number),
            verdict.budget.text,
            "" if verdict.measured is None else number(verdict.measured),
            (
                f"{'>=' if verdict.budget.floor else '<='} "
                f"{'?' if verdict.bound is None else number(verdict.bound)}"
            ),
            verdict.budget.unit,
            words[verdict.met],
        ]
        for verdict in verdicts
    ]
    header = ["", "budget", "measured", "bound", "unit", "verdict"]
    return table(header, rows, text_columns=2)


def as_json(
    machine: Mapping[str, str], figures: Figures, verdicts: Sequence[budgets.Verdict]
) -> str:
    """Return everything that was measured, samples and all."""
    document = {
        "machine": dict(machine),
        "figures": [
            {
                "scenario": figure.scenario,
                "subject": figure.subject,
                "labels": dict(figure.labels),
                "metric": figure.metric.key,
                "unit": figure.metric.unit,
                "title": figure.metric.title,
                "median": figure.median,
                "samples": figure.samples,
            }
            for figure in figures
        ],
        "remarks": [
            {"scenario": remark.scenario, "subject": remark.subject, "text": remark.text}
            for remark in figures.remarks
        ],
        "budgets": [
            {
                "number": verdict.budget.number,
                "text": verdict.budget.text,
                "unit": verdict.budget.unit,
                "measured": verdict.measured,
                "bound": verdict.bound,
                "at_least": verdict.budget.floor,
                "met": verdict.met,
            }
            for verdict in verdicts
        ],
    }
    return json.dumps(document, indent=1)
