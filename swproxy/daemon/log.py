"""What the log says: one line a request, and one for each event in the life of the daemon.

JSON objects for collectors, one a line; aligned text for a person at a terminal. Under systemd's
journal each line begins with its priority (sd-daemon(3)), which the journal takes off again.

Nothing here ever sees a query, a header, a secret or a signature: a `Record` holds none, and of an
exception only its type and the places in our own source are written, never its message.
"""

import json
import os
import time
import traceback
from collections.abc import Mapping
from typing import Literal

from swproxy.config.config import Server
from swproxy.daemon.lines import LineWriter
from swproxy.proxy.record import Record

__all__ = ["Log", "under_journal"]

Level = Literal["info", "warning", "error"]

_PRIORITY = {"info": "<6>", "warning": "<4>", "error": "<3>"}
_MOST_PATH = 1024
"""Characters of a path that are logged; with all the rest a line stays below `ATOMIC_BYTES`."""

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_text = json.encoder.encode_basestring_ascii


def under_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Tell whether `descriptor` leads to systemd's journal (JOURNAL_STREAM in systemd.exec(5))."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{status.st_dev}:{status.st_ino}"


class Log:
    """The log of one process: an observer of requests, and where the daemon says what it does."""

    def __init__(self, server: Server, *, descriptor: int = 2, name: str = "") -> None:
        """Log to `descriptor`; `name` is put into every event, to tell workers apart."""
        self.writer = LineWriter(descriptor, dropped_line=self._dropped_line)
        self._name: dict[str, object] = {"worker": name} if name else {}
        self._terminal = os.isatty(descriptor)
        prefixed = under_journal(descriptor, os.environ)
        self._prefix: Mapping[str, str] = _PRIORITY if prefixed else dict.fromkeys(_PRIORITY, "")
        self._second = 0
        self._clock = ""
        self.configure(server)

    def configure(self, server: Server) -> None:
        """Follow `server`: whether requests are logged, and in which form."""
        self._requests = server.access_log
        self._console = server.log_format == "console" or (
            server.log_format == "auto" and self._terminal
        )

    def event(self, level: Level, event: str, /, **fields: object) -> None:
        """Log that something happened; `fields` say more."""
        self.writer.write(self._event_line(level, event, fields))

    def began(self, record: Record) -> None:
        """Nothing is logged before a request ends."""

    def ended(self, record: Record) -> None:
        """Log a request."""
        if self._requests:
            line = self._request_console(record) if self._console else self._request_json(record)
            self.writer.write(self._prefix["info"] + line)

    def crashed(self, error: BaseException) -> None:
        """Log where the program failed, without the message, which may hold anything."""
        self.event("error", "fault", type=type(error).__name__, at=_places(error))

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()

    def _now(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._clock}.{int((now - second) * 1000):03d}Z"

    def _dropped_line(self, count: int) -> str:
        return self._event_line("warning", "log-lines-dropped", {"count": count})

    def _event_line(self, level: Level, event: str, fields: Mapping[str, object]) -> str:
        prefix = self._prefix[level]
        if not self._console:
            whole = {"time": self._now(), "level": level, "event": event, **self._name, **fields}
            return prefix + _encode(whole)
        words = [self._now()[11:19], level.upper() if level != "info" else "", event]
        words += [f"{key}={_plain(value)}" for key, value in {**self._name, **fields}.items()]
        return prefix + " ".join(filter(None, words))

    def _request_json(self, record: Record) -> str:
        # Written out by hand, at a third of what an encoder takes: this is done for every request.
        # Ids, codes, outcomes and times are ours and hold nothing that JSON would have to escape.
        first = record.first_byte
        since = "null" if first is None else f"{first - record.started:.6f}"
        line = (
            f'{{"time":"{self._now()}","level":"info","event":"request",'
            f'"request_id":"{record.request_id}","client":"{record.client}",'
            f'"app":{_text(record.app)},"method":{_text(record.method)},'
            f'"origin":{_text(record.origin)},"path":{_text(_short(record.path))},'
            f'"status":{record.status},"outcome":"{record.outcome}","bytes_up":{record.bytes_up},'
            f'"bytes_down":{record.bytes_down},"time_to_first_byte":{since},'
            f'"duration":{record.ended - record.started:.6f}'
        )
        if record.code:
            line += f',"code":"{record.code}"'
        if record.outcome == "upstream-failed":
            line += f',"detail":{_text(record.detail)}'
        return line + "}"

    def _request_console(self, record: Record) -> str:
        first = record.first_byte
        words = [
            self._now()[11:19],
            str(record.status),
            record.method or "-",
            (record.origin + _short(record.path)) or "-",
            record.app and f"app={record.app}",
            f"up={record.bytes_up} down={record.bytes_down}",
            "" if first is None else f"first={first - record.started:.3f}s",
            f"took={record.ended - record.started:.3f}s",
            record.client and f"client={record.client}",
            "" if record.outcome == "complete" else record.outcome,
            record.code,
            record.detail if record.outcome == "upstream-failed" else "",
        ]
        return " ".join(filter(None, words))


def _short(path: str) -> str:
    return path if len(path) <= _MOST_PATH else path[:_MOST_PATH] + "..."


def _plain(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if text.isprintable() and " " not in text else json.dumps(text)


def _places(error: BaseException) -> list[str]:
    """Return where an exception, and those in its group, came from: file, line and function."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            places += [f"{type(each).__name__}:", *_places(each)]
    return places
