"""What has to be done for the live file beside decisions, in a thread, with connections of its own.

Each worker has a keeper, for what is the worker's own: it says that the worker lives, writes its
figures and looks for revocations. One of them does what is to be done once; see `housekeeping`.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from swproxy.quota.database import RENEW, as_down, connect, transaction
from swproxy.quota.figures import Figures
from swproxy.quota.files import make_directories_of
from swproxy.quota.housekeeping import Housekeeping
from swproxy.quota.ledger import LEASE_SECONDS, LedgerDown
from swproxy.quota.livefile import Place, Tell, carry_over, current, ensure, move_aside
from swproxy.quota.reports import read_revocations
from swproxy.quota.revocations import Revocation, Revocations
from swproxy.quota.windows import MICROS

__all__ = ["Keeper", "Turn"]

T = TypeVar("T")

_BATCH = 20
"""Rows written at a time, in a tenth of a millisecond: others want to write too."""

_PATIENCE_SECONDS = 5.0


@dataclass(slots=True)
class Turn:
    """What a turn found out."""

    moved: bool = False
    """the link does not lead to the open file any more"""
    revocations: Revocations | None = None
    """if they have changed"""
    marks: Mapping[str, int] = field(default_factory=dict)


class Keeper:
    """A worker's hand on the live file. All methods are for one thread at a time."""

    def __init__(
        self, place: Place, clock: Callable[[], int], ticks: Callable[[], int], tell: Tell
    ) -> None:
        self._place = place
        self._clock = clock
        self._ticks = ticks
        self._tell = tell
        self._path = Path()
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._house = Housekeeping(place, clock, ticks, tell)
        self._serial = -1
        self._holder = ""
        self._streams: Mapping[tuple[str, str], int] = {}

    def open(self, holder: str, *, corrupted: bool) -> tuple[sqlite3.Connection, bool]:
        """Open the current file, made or mended where needed; `corrupted` if the open one is.

        Return a connection for decisions, and whether the file knows of `holder`; one that was made
        from a snapshot knows nobody. Raises LedgerDown, Gone.
        """
        if self._writer is None and self._path == Path():
            make_directories_of(filter(None, (self._place.live, self._place.snapshot)))
        with as_down():
            now = self._clock()
            if corrupted:
                path = move_aside(self._place, self._path, now, self._tell)
            else:
                if self._writer is not None and current(self._place) is None:
                    carry_over(self._place, self._writer, self._view, self._tell)
                path = ensure(self._place, now, self._tell)
            db = self._open(path)
            found = self._db.execute("SELECT 1 FROM holders WHERE id = ?", (holder,)).fetchone()
            return db, found is not None

    def read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `ask` reads. Raises LedgerDown, Gone."""
        with as_down():
            return ask(self._db)

    def revoke(self, each: Revocation) -> None:
        """Write a revocation down, for all keepers to find. Raises LedgerDown, Gone."""
        with as_down(), transaction(self._db) as db:
            db.execute(
                "INSERT INTO revoked VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " before = max(before, excluded.before), until = max(until, excluded.until)",
                (each.app, each.user, each.signature, each.before, each.until),
            )
            db.execute(
                "INSERT INTO marks VALUES ('revoked', 1)"
                " ON CONFLICT DO UPDATE SET value = value + 1"
            )

    def turn(self, holder: str, figures: Figures, *, renew: bool) -> Turn:
        """Do what is due. Figures are taken out of `figures` as they are written.

        Raises LedgerDown, Gone.
        """
        with as_down():
            if current(self._place) != self._path:
                return Turn(moved=True)
            if renew:
                self._db.execute(RENEW, (holder, self._ticks() + LEASE_SECONDS * MICROS))
            self._write(holder, figures)
            if self._house.elected():
                self._house.keep()
            return self._look()

    def close(self, holder: str, figures: Figures) -> None:
        """Write what is left and, if nobody else will, a last snapshot. Raises LedgerDown, Gone."""
        try:
            with as_down():
                if self._writer is not None and current(self._place) == self._path:
                    self._write(holder, figures)
                    self._writer.execute("DELETE FROM streams WHERE holder = ?", (holder,))
                    self._house.finish()
        finally:
            self._close()
            self._house.close()

    def _open(self, path: Path) -> sqlite3.Connection:
        self._close()
        self._serial = -1
        self._streams = {}
        with contextlib.ExitStack() as stack:
            writer = stack.enter_context(
                contextlib.closing(connect(path, seconds=_PATIENCE_SECONDS))
            )
            reader = stack.enter_context(
                contextlib.closing(connect(path, seconds=_PATIENCE_SECONDS))
            )
            db = connect(path)
            stack.pop_all()
        self._writer, self._reader, self._path = writer, reader, path
        self._house.use(writer, reader)
        return db

    def _close(self) -> None:
        for db in (self._writer, self._reader):
            if db is not None:
                db.close()
        self._writer = self._reader = None

    @property
    def _db(self) -> sqlite3.Connection:
        if self._writer is None:
            raise LedgerDown("the file is not open")
        return self._writer

    @property
    def _view(self) -> sqlite3.Connection:
        assert self._reader is not None
        return self._reader

    def _write(self, holder: str, figures: Figures) -> None:
        for batch in figures.batches(_BATCH):
            with transaction(self._db):
                self._db.executemany(
                    "INSERT INTO used VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                    " requests = requests + excluded.requests,"
                    " refused = refused + excluded.refused,"
                    " tokens_in = tokens_in + excluded.tokens_in,"
                    " tokens_out = tokens_out + excluded.tokens_out,"
                    " unknown = unknown + excluded.unknown",
                    batch,
                )
        streams = figures.streams
        if holder != self._holder:
            # Under another name nothing has been written yet; the old one's is soon forgotten.
            self._holder, self._streams = holder, {}
        changed = [
            (holder, app, user, streams.get((app, user), 0))
            for app, user in streams.keys() | self._streams.keys()
            if streams.get((app, user), 0) != self._streams.get((app, user), 0)
        ]
        for start in range(0, len(changed), _BATCH):
            with transaction(self._db):
                self._db.executemany(
                    "REPLACE INTO streams VALUES (?, ?, ?, ?)", changed[start : start + _BATCH]
                )
        self._streams = dict(streams)

    def _look(self) -> Turn:
        marks = dict(self._view.execute("SELECT name, value FROM marks").fetchall())
        turn = Turn(marks=marks)
        if marks.get("revoked", 0) != self._serial:
            turn.revocations = Revocations(read_revocations(self._view, self._clock()))
            self._serial = marks.get("revoked", 0)
        return turn
