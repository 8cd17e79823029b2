"""The access log: one line a request, when it ends."""

import json
import sys
import time
import traceback
from typing import TextIO

from swproxy.proxy.record import Record

__all__ = ["AccessLog"]


class AccessLog:
    """Writes records as JSON lines, or as aligned text for a person at a terminal."""

    def __init__(self, stream: TextIO | None = None, *, enabled: bool, console: bool) -> None:
        self._stream = stream or sys.stderr
        self._enabled = enabled
        self._console = console

    def began(self, record: Record) -> None:
        """Nothing is logged before a request ends."""

    def ended(self, record: Record) -> None:
        """Write the request's line."""
        if not self._enabled:
            return
        first = record.first_byte
        fields = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "level": "info",
            "event": "request",
            "request_id": record.request_id,
            "client": record.client,
            "app": record.app,
            "method": record.method,
            "origin": record.origin,
            "path": record.path,
            "status": record.status,
            "outcome": record.outcome,
            "code": record.code,
            "bytes_up": record.bytes_up,
            "bytes_down": record.bytes_down,
            "time_to_first_byte": None if first is None else round(first - record.started, 6),
            "duration": round(record.ended - record.started, 6),
        }
        self._write(fields)

    def crashed(self, error: BaseException) -> None:
        """Write where the program failed, without the message, which may hold anything."""
        where = "".join(traceback.format_tb(error.__traceback__))
        self._write({"level": "error", "event": "fault", "type": type(error).__name__, "at": where})

    def _write(self, fields: dict[str, object]) -> None:
        if self._console:
            line = " ".join(str(value) for value in fields.values() if value not in ("", None))
        else:
            line = json.dumps(fields, separators=(",", ":"))
        self._stream.write(line + "\n")
        self._stream.flush()
