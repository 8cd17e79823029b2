"""What `swproxy top` shows: a frame of the live feed as tables that fit the terminal.

A table has as many rows as there is room for: one more for each in turn, so that a long one does
not push out the others. Texts are plain texts to rich, never markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from swproxy.daemon.frame import App, Frame, Limit, Percentiles, Stream, Worker

__all__ = ["render"]

_HEAD_LINES = 5
_TOTALS_IN_A_LINE = 3
_GAP_LINES = 2
"""a blank line, and the names of the columns"""

_CELL_WIDTH = 32
"""of all columns but the last, so that one long name leaves room for the others"""

Justify = Literal["left", "right"]
Row = Sequence[str | Text]


@dataclass(frozen=True, slots=True)
class _Section:
    """A table: its name stands over its first column; columns that begin with > are numbers."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Row]
    more: int = 0
    """rows that the frame left out"""

    def table(self, count: int, *, wide: bool) -> Table:
        """Return the first `count` rows, as wide as the terminal or as they have to be."""
        total = len(self.rows) + self.more
        name = self.name if count == total else f"{self.name} {count}/{total}"
        table = Table(
            box=None, expand=wide, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0)
        )
        for position, column in enumerate((name, *self.columns)):
            right: Justify = "right" if column.startswith(">") else "left"
            last = position == len(self.columns)
            table.add_column(
                Text(column.lstrip(">")),
                justify=right,
                no_wrap=True,
                overflow="ellipsis",
                ratio=1 if last and wide else None,
                max_width=None if last else _CELL_WIDTH,
            )
        for row in self.rows[:count]:
            table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
        return table


def render(
    frame: Frame,
    requests: Sequence[dict[str, Any]],
    *,
    height: int | None = None,
    notice: str = "",
) -> RenderableType:
    """Return a frame, and the `requests` that have ended, the oldest first, in `height` lines."""
    sections = [
        _workers(frame["workers"]),
        _apps(frame["apps"], frame["more_apps"]),
        _refusals(frame),
        _streams(frame["streams"], frame["more_streams"]),
        _requests(requests),
    ]
    shown = [section for section in sections if section.rows]
    parts: list[RenderableType] = [_title(frame, notice), _totals(frame)]
    for section, count in zip(shown, _share_out(shown, height), strict=True):
        if count:
            parts += [Text(""), section.table(count, wide=height is not None)]
    return Group(*parts)


def _share_out(sections: Sequence[_Section], height: int | None) -> list[int]:
    """Return how many rows each table gets."""
    wanted = [len(section.rows) for section in sections]
    if height is None:
        return wanted
    room = height - _HEAD_LINES
    counts = [0] * len(wanted)
    while room > 0 and counts != wanted:
        for number, most in enumerate(wanted):
            cost = 1 if counts[number] else 1 + _GAP_LINES
            if counts[number] < most and cost <= room:
                counts[number] += 1
                room -= cost
            elif counts[number] < most:
                wanted[number] = counts[number]
    return counts


def _title(frame: Frame, notice: str) -> Text:
    clock = datetime.fromtimestamp(frame["time"], UTC).strftime("%H:%M:%S UTC")
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"swproxy {frame['version']}", "bold")
    text.append(f"  {frame['state']}", "green" if frame["state"] == "serving" else "yellow")
    text.append(f"  up {_span(frame['uptime'])}  {clock}")
    if notice:
        text.append(f"  {notice}", "bold red")
    return text


def _totals(frame: Frame) -> Table:
    total, first = frame["total"], frame["total"]["first_byte"]
    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(_TOTALS_IN_A_LINE):
        grid.add_column(no_wrap=True, overflow="ellipsis")
    bad = {
        "faults": frame["faults"],
        "log lines dropped": frame["log_lines_dropped"],
        "store errors": frame["ledger_errors"],
    }
    up, down = _bytes_rate(total["bytes_up_rate"]), _bytes_rate(total["bytes_down_rate"])
    cells = [
        ("streams", f"{total['streams']:,}"),
        ("requests", f"{_rate(total['requests_rate'])} ({total['requests']:,})"),
        ("refused", f"{_rate(total['refused_rate'])} ({total['refused']:,})"),
        ("failed", f"{total['failed']:,}"),
        ("p50 p95 p99", _percentiles(first)),
        ("up, down", f"{up}, {down}"),
        ("tokens", f"{_rate(total['tokens_rate'])} ({total['tokens_out']:,})"),
        ("clients", f"{frame['connections']:,}"),
        (
            "upstream",
            f"{frame['upstream_active']:,} active, {frame['upstream_idle']:,} idle",
        ),
    ]
    texts = [Text.assemble((f"{label} ", "dim"), value) for label, value in cells]
    texts += [
        Text.assemble((f"{label} ", "dim"), (f"{count:,}", "bold red" if count else ""))
        for label, count in bad.items()
    ]
    for start in range(0, len(texts), _TOTALS_IN_A_LINE):
        grid.add_row(*texts[start : start + _TOTALS_IN_A_LINE])
    return grid


def _workers(workers: Sequence[Worker]) -> _Section:
    columns = ("STATE", ">PID", ">CPU", ">MEMORY", ">STREAMS", ">RESTARTS", ">BEAT", "UP")
    rows = [
        (
            each["name"],
            Text(each["state"], "green" if each["state"] == "up" else "bold red"),
            str(each["pid"] or "-"),
            "-" if each["cpu"] is None else f"{each['cpu']:.0%}",
            "-" if each["memory"] is None else _bytes(each["memory"]),
            f"{each['streams']:,}",
            Text(str(each["restarts"]), "yellow" if each["restarts"] else ""),
            f"{each['beat']:.1f} s",
            _span(each["uptime"]),
        )
        for each in workers
    ]
    return _Section("WORKER", columns, rows)


def _apps(apps: Sequence[App], more: int) -> _Section:
    columns = (
        *(">STREAMS", ">REQ/S", ">REFUSED", ">FAILED", ">UP/S", ">DOWN/S", ">TOKENS/S"),
        *(">P95", ">SECRET AGE", "LIMITS USED"),
    )
    rows = [
        (
            each["id"] or "(none)",
            f"{each['streams']:,}",
            _number(each["requests_rate"]),
            f"{each['refused']:,}",
            f"{each['failed']:,}",
            _bytes_rate(each["bytes_up_rate"], unit=""),
            _bytes_rate(each["bytes_down_rate"], unit=""),
            _number(each["tokens_rate"]),
            _seconds(each["first_byte"]["p95"]),
            _secret_age(each),
            _limits(each["limits"]),
        )
        for each in apps
    ]
    return _Section("APP", columns, rows, more)


def _limits(limits: Sequence[Limit]) -> Text:
    text = Text()
    for each in limits:
        full = each["used"] / each["of"] if each["of"] else 0.0
        style = "bold red" if full >= 0.9 else "yellow" if full >= 0.75 else ""
        text.append(f"{each['kind']} {each['used']:,}/{each['of']:,}  ", style)
    return text


def _secret_age(app: App) -> str:
    keys = app["keys"]
    return "-" if keys is None or keys["secret_age"] is None else _span(keys["secret_age"])


def _refusals(frame: Frame) -> _Section:
    columns = (">STATUS", ">COUNT", ">A SECOND", "WHAT TO DO")
    rows = [
        (
            each["code"],
            str(each["status"]),
            f"{each['count']:,}",
            _number(each["rate"]),
            each["remedy"],
        )
        for each in frame["refusals"]
    ]
    return _Section("REFUSED", columns, rows)


def _streams(streams: Sequence[Stream], more: int) -> _Section:
    columns = ("APP", "USER", "STATE", ">UP", ">DOWN", ">TOKENS", "WHERE")
    rows = [
        (
            _span(each["age"]),
            each["app"],
            each["user"] or "-",
            "websocket" if each["kind"] == "websocket" else each["state"],
            _bytes(each["bytes_up"]),
            _bytes(each["bytes_down"]),
            "-" if each["tokens"] is None else f"{each['tokens']:,}",
            f"{each['method']} {each['origin']}{each['path']}",
        )
        for each in streams
    ]
    return _Section("STREAM", columns, rows, more)


_ENDINGS = {"complete": "green", "refused": "yellow", "upstream-failed": "red", "aborted": "red"}


def _requests(requests: Sequence[dict[str, Any]]) -> _Section:
    columns = ("APP", "USER", ">STATUS", "OUTCOME", ">FIRST", ">TOOK", ">DOWN", "WHERE")
    rows = []
    for each in reversed(requests):
        outcome = str(each.get("outcome", ""))
        rows.append(
            (
                str(each.get("time", ""))[11:19],
                str(each.get("app") or "-"),
                str(each.get("user") or "-"),
                str(each.get("status", "")),
                Text(str(each.get("code") or outcome), _ENDINGS.get(outcome, "")),
                _seconds(each.get("time_to_first_byte")),
                _seconds(each.get("duration")),
                _bytes(each.get("bytes_down") or 0),
                f"{each.get('method', '')} {each.get('origin', '')}{each.get('path', '')}",
            )
        )
    return _Section("REQUEST", columns, rows)


def _percentiles(of: Percentiles) -> str:
    return ", ".join(map(_seconds, (of["p50"], of["p95"], of["p99"])))


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _rate(value: float | None) -> str:
    return f"{_number(value)}/s"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return (
        f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s" if value < 100 else _span(value)
    )


_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def _span(seconds: float) -> str:
    whole = int(seconds)
    for unit, length, below, lesser in (
        ("d", 86400, 3600, "h"),
        ("h", 3600, 60, "m"),
        ("m", 60, 1, "s"),
    ):
        if whole >= length:
            return f"{whole // length}{unit} {whole % length // below}{lesser}"
    return f"{whole}s"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _bytes_rate(value: float | None, unit: str = "/s") -> str:
    return "-" if value is None else f"{_bytes(value)}{unit}"
