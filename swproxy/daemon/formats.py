"""The three forms of a log line: `json` for collectors, `logfmt` for both, `console` for people.

Each writes a request and an event; `time` is RFC 3339, in UTC. Where the time is "" the reader has
it already, and the level too: systemd's journal keeps both beside the line.

What stands in a line is the same in `json` and `logfmt`, name for name. `console` is shorter.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from time import gmtime, strftime
from typing import Literal, Protocol

from swproxy.proxy.record import Record

__all__ = ["CONSOLE", "JSON", "LOGFMT", "MOST_PATH", "Format", "Level", "timestamp"]

Level = Literal["info", "warning", "error"]

MOST_PATH = 1024
"""Characters of a path that are logged; with all the rest a line stays below `ATOMIC_BYTES`."""

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_text = json.encoder.encode_basestring_ascii
_PLAIN = re.compile(r"[^\s\"'=\\\x00-\x1f\x7f]+")


def timestamp(moment: float) -> str:
    """Return a moment, in seconds since the epoch, as lines have it."""
    second = int(moment)
    return f"{_whole_seconds(second)}.{int((moment - second) * 1000):03d}Z"


@lru_cache(maxsize=2)
def _whole_seconds(second: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))


class Format(Protocol):
    """A form of lines."""

    def request(self, record: Record, time: str) -> str:
        """Return the line of a request that has ended."""

    def event(self, level: Level, event: str, fields: Mapping[str, object], time: str) -> str:
        """Return the line of something else that happened."""


class _Json:
    def request(self, record: Record, time: str) -> str:
        # Written out by hand, at a third of what an encoder takes: this is done for every request.
        # Ids, codes, outcomes and times are ours and hold nothing that JSON would have to escape.
        first = record.first_byte
        since = "null" if first is None else f"{first - record.started:.6f}"
        said = "".join([f"{_text(name)}:{_text(text)}," for name, text in _said(record)])
        line = (
            f'{{"time":"{time}","level":"info","event":"request",'
            f'"request_id":"{record.request_id}","client":{_text(record.client)},'
            f'"app":{_text(record.app)},{said}"method":{_text(record.method)},'
            f'"origin":{_text(record.origin)},"path":{_text(_short(record.path))},'
            f'"status":{record.status},"outcome":"{record.outcome}","bytes_up":{record.bytes_up},'
            f'"bytes_down":{record.bytes_down},"time_to_first_byte":{since},'
            f'"duration":{record.ended - record.started:.6f}'
        )
        if record.metered:
            line += f',"tokens_in":{_number(record.tokens_in)}'
            line += f',"tokens_out":{_number(record.tokens_out)},"model":{_text(record.model)}'
        if record.code:
            line += f',"code":"{record.code}"'
        if detail := _detail(record):
            line += f',"detail":{_text(detail)}'
        return line + "}"

    def event(self, level: Level, event: str, fields: Mapping[str, object], time: str) -> str:
        return _encode({"time": time, "level": level, "event": event, **fields})


class _Logfmt:
    """Words `key=value`, quoted as in JSON where need be; what is empty is left out."""

    def request(self, record: Record, time: str) -> str:
        first = record.first_byte
        line = f"time={time} level=info event=request" if time else "event=request"
        for name, text in (
            ("app", record.app),
            *_said(record),
            ("method", record.method),
            ("origin", record.origin),
            ("path", _short(record.path)),
        ):
            if text:
                line += f" {name}={_plain(text)}"
        line += f" status={record.status} outcome={record.outcome}"
        if record.code:
            line += f" code={record.code}"
        if detail := _detail(record):
            line += f" detail={_plain(detail)}"
        line += f" bytes_up={record.bytes_up} bytes_down={record.bytes_down}"
        if first is not None:
            line += f" time_to_first_byte={first - record.started:.6f}"
        line += f" duration={record.ended - record.started:.6f}"
        if record.tokens_in is not None:
            line += f" tokens_in={record.tokens_in} tokens_out={record.tokens_out}"
        if record.model:
            line += f" model={_plain(record.model)}"
        if record.client:
            line += f" client={_plain(record.client)}"
        return f"{line} request_id={record.request_id}"

    def event(self, level: Level, event: str, fields: Mapping[str, object], time: str) -> str:
        words = [f"time={time} level={level}"] if time else []
        words += [f"event={event}", *_words(fields)]
        return " ".join(words)


class _Console:
    def request(self, record: Record, time: str) -> str:
        first = record.first_byte
        words = [
            time[11:19],
            str(record.status),
            record.method or "-",
            (record.origin + _short(record.path)) or "-",
            record.app and f"app={_plain(record.app)}",
            *[f"{name}={_plain(text)}" for name, text in _said(record)],
            f"up={record.bytes_up} down={record.bytes_down}",
            "" if first is None else f"first={first - record.started:.3f}s",
            f"took={record.ended - record.started:.3f}s",
            "" if record.tokens_in is None else f"tokens={record.tokens_in}+{record.tokens_out}",
            record.model and f"model={_plain(record.model)}",
            record.client and f"client={_plain(record.client)}",
            "" if record.outcome == "complete" else record.outcome,
            record.code,
            _detail(record),
        ]
        return " ".join(filter(None, words))

    def event(self, level: Level, event: str, fields: Mapping[str, object], time: str) -> str:
        words = [time[11:19], level.upper() if level != "info" else "", event, *_words(fields)]
        return " ".join(filter(None, words))


JSON: Format = _Json()
LOGFMT: Format = _Logfmt()
CONSOLE: Format = _Console()


def _said(record: Record) -> list[tuple[str, str]]:
    """Return the names and texts that the terms of the URL, and limits, have for the log."""
    if not (record.user or record.plan or record.tags or record.limit):
        return []
    said = [("user", record.user), ("plan", record.plan), ("limit", record.limit)]
    said += [(f"tag.{name}", text) for name, text in record.tags]
    return [(name, text) for name, text in said if text]


def _detail(record: Record) -> str:
    """Return what a line says about a fault besides its code, "" where the code says it all."""
    if record.outcome == "upstream-failed":
        return record.detail
    return record.for_operator


def _number(count: int | None) -> str:
    return "null" if count is None else str(count)


def _short(path: str) -> str:
    return path if len(path) <= MOST_PATH else path[:MOST_PATH] + "..."


def _words(fields: Mapping[str, object]) -> list[str]:
    return [f"{key}={_plain(value)}" for key, value in fields.items()]


def _plain(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if text.isprintable() and _PLAIN.fullmatch(text) else json.dumps(text)
