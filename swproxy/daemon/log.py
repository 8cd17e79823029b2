"""What the log says: one line a request, and one for each event in the life of the daemon.

Text for a person at a terminal; `key=value` words in systemd's journal, which people read as well
as programs; JSON objects elsewhere, for collectors. In the journal each line begins with its
priority (sd-daemon(3)), which the journal takes off again.

Nothing here ever sees a query, a header, a secret or a signature: a `Record` holds none, and of an
exception only its type and the places in our own source are written, never its message.
"""

import os
import time
import traceback
from collections.abc import Mapping

import trio

from swproxy.config.config import Server
from swproxy.daemon.formats import CONSOLE, JSON, LOGFMT, Level, timestamp
from swproxy.daemon.lines import LineWriter
from swproxy.daemon.repeats import Repeats
from swproxy.proxy.record import Record

__all__ = ["Log", "under_journal"]

_PRIORITY = {"info": "<6>", "warning": "<4>", "error": "<3>"}
_FORMATS = {"json": JSON, "logfmt": LOGFMT, "console": CONSOLE}


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
        self._in_journal = under_journal(descriptor, os.environ)
        priority = _PRIORITY if self._in_journal else dict.fromkeys(_PRIORITY, "")
        self._prefix: Mapping[str, str] = priority
        self._repeats = Repeats()
        self.configure(server)

    def configure(self, server: Server) -> None:
        """Follow `server`: whether requests are logged, and in which form."""
        self._requests = server.access_log
        by_place = CONSOLE if self._terminal else LOGFMT if self._in_journal else JSON
        self._format = _FORMATS.get(server.log_format, by_place)
        self._person = self._terminal and self._format is CONSOLE

    def event(self, level: Level, event: str, /, **fields: object) -> None:
        """Log that something happened; `fields` say more."""
        self.writer.write(self._event_line(level, event, fields))

    def began(self, record: Record) -> None:
        """Nothing is logged before a request ends."""

    def ended(self, record: Record) -> None:
        """Log a request, or count it if it is one of many that nobody signed for."""
        if not self._requests:
            return
        self.tell_repeats()
        if record.app or self._repeats.passes(record.client, record.code or record.outcome):
            self.writer.write(self._prefix["info"] + self._format.request(record, self._now()))

    def crashed(self, error: BaseException) -> None:
        """Log where the program failed, without the message, which may hold anything."""
        self.event("error", "fault", type=type(error).__name__, at=_places(error))

    def tell_repeats(self, *, last: bool = False) -> None:
        """Say what strangers repeated in a second that is over, be it cut short as the `last`."""
        for each in self._repeats.ended(-1 if last else int(time.time())):
            codes = [code for code, _ in each.codes.most_common()]
            self.event("info", "repeated", client=each.client, count=each.count, codes=codes)

    async def run(self) -> None:
        """Say once a second what strangers repeated, until cancelled."""
        while True:
            await trio.sleep(1)
            self.tell_repeats()

    def close(self) -> None:
        """Write what is left."""
        self.tell_repeats(last=True)
        self.writer.close()

    def say(self, text: str) -> None:
        """Tell a person who sits before the terminal; nobody else hears of it."""
        if self._person:
            for line in text.splitlines():
                self.writer.write(line)

    def _now(self) -> str:
        if self._in_journal and self._format is LOGFMT:
            return ""
        return timestamp(time.time())

    def _dropped_line(self, count: int) -> str:
        return self._event_line("warning", "log-lines-dropped", {"count": count})

    def _event_line(self, level: Level, event: str, fields: Mapping[str, object]) -> str:
        whole = {**self._name, **fields}
        return self._prefix[level] + self._format.event(level, event, whole, self._now())


def _places(error: BaseException) -> list[str]:
    """Return where an exception, and those in its group, came from: file, line and function."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            places += [f"{type(each).__name__}:", *_places(each)]
    return places
