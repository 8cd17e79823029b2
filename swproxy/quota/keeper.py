"""What has to be done for the live file beside decisions, in a thread, with connections of its own.

Each worker has a keeper, for what is the worker's own: it says that the worker lives, writes its
figures and looks for revocations. One of them, whichever gets hold of a lock, does what is to be
done once: checkpoints, snapshots, sweeping. If its process dies the lock is free for another.

Checkpoints are made with the writers' lock held by a second connection. SQLite up to 3.51.2 can
lose pages when a write begins the log anew at the moment at which a checkpoint of the finished log
begins (https://sqlite.org/wal.html#walresetbug); with no writer there is no such moment. Whoever
wants to decide meanwhile tries again, a matter of a millisecond once a second.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from swproxy.quota.figures import Figures, day_of
from swproxy.quota.ledger import LEASE_SECONDS, LedgerDown
from swproxy.quota.livefile import (
    RENEW,
    Gone,
    Place,
    Tell,
    carry_over,
    connect,
    current,
    ensure,
    is_corruption,
    make_directories,
    move_aside,
    open_lock,
    remove_leftovers,
    write_snapshot,
)
from swproxy.quota.reports import held_by_living, read_revocations
from swproxy.quota.revocations import Revocation, Revocations
from swproxy.quota.windows import MICROS

__all__ = ["Keeper", "Turn"]

T = TypeVar("T")

_SNAPSHOT_SECONDS = 10
_SWEEP_SECONDS = 60
_KEPT_DAYS = 400
"""How long figures of a day are kept: a year, and the month that it is compared with."""

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
        self._lock = -1
        self._serial = -1
        self._holder = ""
        self._streams: Mapping[tuple[str, str], int] = {}
        self._kept = self._saved = -1
        self._snapshot_due = self._sweep_due = 0
        self._snapshot_failed = False

    def open(self, holder: str, *, corrupted: bool) -> tuple[sqlite3.Connection, bool]:
        """Open the current file, made or mended where needed; `corrupted` if the open one is.

        Return a connection for decisions, and whether the file knows of `holder`; one that was made
        from a snapshot knows nobody. Raises LedgerDown, Gone.
        """
        if self._writer is None and self._path == Path():
            make_directories(self._place)
        with _as_down():
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
        with _as_down():
            return ask(self._db)

    def revoke(self, each: Revocation) -> None:
        """Write a revocation down, for all keepers to find. Raises LedgerDown, Gone."""
        with _as_down(), _transaction(self._db) as db:
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
        with _as_down():
            if current(self._place) != self._path:
                return Turn(moved=True)
            if renew:
                self._db.execute(RENEW, (holder, self._ticks() + LEASE_SECONDS * MICROS))
            self._write(holder, figures)
            if self._elected():
                self._keep()
            return self._look()

    def close(self, holder: str, figures: Figures) -> None:
        """Write what is left and, if nobody else will, a last snapshot. Raises LedgerDown, Gone."""
        try:
            with _as_down():
                if self._writer is not None and current(self._place) == self._path:
                    self._write(holder, figures)
                    self._writer.execute("DELETE FROM streams WHERE holder = ?", (holder,))
                    if self._elected():
                        self._snapshot()
        finally:
            self._close()
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    def _open(self, path: Path) -> sqlite3.Connection:
        self._close()
        self._serial = self._kept = self._saved = -1
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
            with _transaction(self._db):
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
            with _transaction(self._db):
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

    def _elected(self) -> bool:
        """Tell whether this keeper does what is done once for all; try to become the one."""
        if self._lock < 0:
            self._lock = open_lock(self._place, "keeper")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _keep(self) -> None:
        ticks = self._ticks()
        if self._version() != self._kept:
            self._checkpoint()
            self._kept = self._version()
        if ticks >= self._snapshot_due:
            self._snapshot_due = ticks + _SNAPSHOT_SECONDS * MICROS
            self._snapshot()
        if ticks >= self._sweep_due:
            self._sweep_due = ticks + _SWEEP_SECONDS * MICROS
            self._sweep()

    def _version(self) -> int:
        """Return a number that changes with whatever is written over another connection."""
        (version,) = self._view.execute("PRAGMA data_version").fetchone()
        return int(version)

    def _checkpoint(self) -> None:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            self._view.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            db.execute("ROLLBACK")

    def _snapshot(self) -> None:
        snapshot, version = self._place.snapshot, self._version()
        if snapshot is None or version == self._saved:
            return
        try:
            write_snapshot(self._view, snapshot)
        except (OSError, sqlite3.Error) as error:
            if isinstance(error, sqlite3.Error) and is_corruption(error):
                raise
            if not self._snapshot_failed:
                self._tell("snapshot-failed", f"{snapshot} can't be written: {_reason(error)}.")
            self._snapshot_failed = True
            return
        if self._snapshot_failed:
            self._tell("snapshot-written", f"{snapshot} is written again.")
        self._snapshot_failed = False
        self._saved = version

    def _sweep(self) -> None:
        """Forget what has nothing to say any more."""
        now, ticks = self._clock(), self._ticks()
        db = self._db
        with _transaction(db):
            # After a restart of the machine its ticks begin anew, and a lease lies far ahead.
            most = ticks + LEASE_SECONDS * MICROS
            db.execute("UPDATE holders SET until = ? WHERE until > ?", (most, most))
            db.execute("DELETE FROM holders WHERE until < ?", (ticks - LEASE_SECONDS * MICROS,))
            db.execute("DELETE FROM streams WHERE holder NOT IN (SELECT id FROM holders)")
            db.execute("DELETE FROM revoked WHERE until < ?", (now,))
            oldest = day_of(now) - timedelta(days=_KEPT_DAYS)
            db.execute("DELETE FROM used WHERE day < ?", (oldest.isoformat(),))
        self._sweep_accounts(now)
        remove_leftovers(self._place)

    def _sweep_accounts(self, now: int) -> None:
        last = ""
        while rows := self._view.execute(
            "SELECT key, state, expires FROM accounts WHERE key > ? AND expires < ?"
            " ORDER BY key LIMIT ?",
            (last, now, _BATCH),
        ).fetchall():
            last = rows[-1][0]
            with _transaction(self._db) as db:
                living = {holder for (holder,) in db.execute("SELECT id FROM holders")}
                dead = [
                    (key, expires)
                    for key, state, expires in rows
                    if not held_by_living(state, living)
                ]
                db.executemany("DELETE FROM accounts WHERE key = ? AND expires = ?", dead)
                # A URL that is valid again when the clock is set back must not begin anew.
                swept = max((until for key, until in dead if key.startswith("url/")), default=0)
                db.execute(
                    "INSERT INTO marks VALUES ('swept', ?)"
                    " ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
                    (swept,),
                )


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


@contextlib.contextmanager
def _as_down() -> Iterator[None]:
    """Turn what the system or SQLite says into LedgerDown, or Gone for a corrupted file."""
    try:
        yield
    except OSError as error:
        raise LedgerDown(_reason(error)) from error
    except sqlite3.Error as error:
        if is_corruption(error):
            raise Gone(corrupted=True) from error
        raise LedgerDown(_reason(error)) from error


def _reason(error: OSError | sqlite3.Error) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return str(error)
