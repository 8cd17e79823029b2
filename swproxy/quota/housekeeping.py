"""What is done for the live file once, by one keeper for all: checkpoints, snapshots, sweeping.

Whichever gets hold of a lock does it. If its process dies the lock is free for another.

Checkpoints are made with the writers' lock held by a second connection. SQLite up to 3.51.2 can
lose pages when a write begins the log anew at the moment at which a checkpoint of the finished log
begins (https://sqlite.org/wal.html#walresetbug); with no writer there is no such moment. Whoever
wants to decide meanwhile tries again, a matter of a millisecond once a second.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable
from datetime import timedelta

from swproxy.quota.database import is_corruption, reason, transaction
from swproxy.quota.figures import day_of
from swproxy.quota.files import open_lock
from swproxy.quota.ledger import LEASE_SECONDS
from swproxy.quota.livefile import Place, Tell, remove_leftovers, write_snapshot
from swproxy.quota.reports import held_by_living
from swproxy.quota.windows import MICROS

__all__ = ["Housekeeping"]

_SNAPSHOT_SECONDS = 10
_SWEEP_SECONDS = 60
_KEPT_DAYS = 400
"""How long figures of a day are kept: a year, and the month that it is compared with."""

_LAST_SNAPSHOTS = 10
"""Enough for those who end as well; whoever goes on writes snapshots of its own."""

_BATCH = 20
"""Accounts looked at at a time: others want to write in between."""


class Housekeeping:
    """A keeper's part in it. `writer` and `reader` are connections of the keeper's own."""

    def __init__(
        self, place: Place, clock: Callable[[], int], ticks: Callable[[], int], tell: Tell
    ) -> None:
        self._place = place
        self._clock = clock
        self._ticks = ticks
        self._tell = tell
        self._lock = -1
        self._writer: sqlite3.Connection
        self._reader: sqlite3.Connection
        self._kept = self._saved = -1
        self._snapshot_due = self._sweep_due = 0
        self._snapshot_failed = False

    def use(self, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        """Take the connections to a file that was opened in place of the one before."""
        self._writer, self._reader = writer, reader
        self._kept = self._saved = -1

    def elected(self) -> bool:
        """Tell whether this keeper does what is done once for all; try to become the one."""
        if self._lock < 0:
            self._lock = open_lock(self._place.live, "keeper")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def keep(self) -> None:
        """Do what is due."""
        ticks = self._ticks()
        if self._version() != self._kept:
            self._checkpoint()
            self._kept = self._version()
        if ticks >= self._snapshot_due:
            self._snapshot_due = ticks + _SNAPSHOT_SECONDS * MICROS
            self.snapshot()
        if ticks >= self._sweep_due:
            self._sweep_due = ticks + _SWEEP_SECONDS * MICROS
            self._sweep()

    def snapshot(self) -> None:
        """Write the snapshot, if there is to be one and something has changed."""
        snapshot, version = self._place.snapshot, self._version()
        if snapshot is None or version == self._saved:
            return
        try:
            write_snapshot(self._reader, snapshot)
        except (OSError, sqlite3.Error) as error:
            if isinstance(error, sqlite3.Error) and is_corruption(error):
                raise
            if not self._snapshot_failed:
                self._tell("snapshot-failed", f"{snapshot} can't be written: {reason(error)}.")
            self._snapshot_failed = True
            return
        if self._snapshot_failed:
            self._tell("snapshot-written", f"{snapshot} is written again.")
        self._snapshot_failed = False
        self._saved = version

    def finish(self) -> None:
        """Write a last snapshot unless another keeper does, and leave the lock to others.

        Workers end together. Who writes down its last figures while another writes its last
        snapshot does not get the lock; so that one looks again once it has let go of it.
        """
        seen = -1
        for _ in range(_LAST_SNAPSHOTS):
            version = self._version()
            if version == seen or not self.elected():
                return
            seen = version
            self.snapshot()
            self.close()

    def close(self) -> None:
        """Leave the lock to another."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _version(self) -> int:
        """Return a number that changes with whatever is written over another connection."""
        (version,) = self._reader.execute("PRAGMA data_version").fetchone()
        return int(version)

    def _checkpoint(self) -> None:
        db = self._writer
        db.execute("BEGIN IMMEDIATE")
        try:
            self._reader.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            db.execute("ROLLBACK")

    def _sweep(self) -> None:
        """Forget what has nothing to say any more."""
        now, ticks = self._clock(), self._ticks()
        db = self._writer
        with transaction(db):
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
        while rows := self._reader.execute(
            "SELECT key, state, expires FROM accounts WHERE key > ? AND expires < ?"
            " ORDER BY key LIMIT ?",
            (last, now, _BATCH),
        ).fetchall():
            last = rows[-1][0]
            with transaction(self._writer) as db:
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
