"""The file behind the SQLite ledger: where it lies, how it comes to be, what happens when it fails.

    ledger.sqlite            a symbolic link to the live file
    ledger.sqlite.1f3a9c02   the live file, with its -wal and -shm beside it
    ledger.sqlite.lock       held while the link is read or changed

The live file is meant for memory (tmpfs): a disk's stalls would be a decision's. A snapshot on disk
is written every few seconds, whole, durable and renamed, and the live file is made from it when
there is none. What a power cut loses is what came after the snapshot; a killed process loses
nothing. Where the live file lies on a disk all the same, it is never synchronised, and one that an
earlier start of the machine has left is not trusted if there is a snapshot.

A live file never takes over another's name. Processes that still have the old one open would give
the new one their log, and the last to close it would remove the new one's. So each has a name of
its own, and the link says which is current. A process that finds the link changed opens anew.

Removed while it is in use, the file lives on in those who have it open: one of them copies it to a
new name, and, in the same transaction, makes the old one unusable, so that no decision is written
where nobody looks any more. A corrupted file is moved aside, and the snapshot takes its place; it
may lack what is newest, so the moment is kept, and no one-time URL from before it is taken.
"""

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from swproxy.quota.database import connect, inspect, is_corruption, make_tables, prepare
from swproxy.quota.files import companions, create, link_to, open_lock, sync
from swproxy.quota.ledger import LedgerDown

__all__ = [
    "Place",
    "Tell",
    "carry_over",
    "current",
    "ensure",
    "left_behind",
    "move_aside",
    "remove_leftovers",
    "write_snapshot",
]

Tell = Callable[[str, str], None]
"""Takes note of what an operator has to know: the event's name, and a sentence."""

_OPEN_SECONDS = 5.0
"""How long another process may take to make or mend the file."""

_LEFTOVER_SECONDS = 60.0

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the link to the live file is, and the snapshot, if there is to be one."""

    live: Path
    snapshot: Path | None = None


def ensure(place: Place, now: int, tell: Tell) -> Path:
    """Return the path of a sound live file, made if there is none. Raises LedgerDown, OSError."""
    with _locked(place):
        path = current(place)
        if path is not None:
            try:
                inspect(path)
            except sqlite3.DatabaseError as error:
                if not is_corruption(error):
                    raise
                return _replace(place, path, now, tell)
            if place.snapshot is None or not place.snapshot.exists() or _made_since_boot(path):
                return path
        return _make(place, now, tell, lost=0)


def move_aside(place: Place, path: Path, now: int, tell: Tell) -> Path:
    """Return the live file to use instead of `path`, which was found corrupted."""
    with _locked(place):
        path_now = current(place)
        if path_now is None or path_now == path:
            return _replace(place, path, now, tell)
        return path_now


def carry_over(
    place: Place, db: sqlite3.Connection, reader: sqlite3.Connection, tell: Tell
) -> None:
    """Give a file that was removed, but is open as `db`, a new name, and leave the old one.

    `reader` is another connection to it: nothing is copied over one that is about to write.
    """
    with _locked(place):
        if current(place) is not None:
            return
        db.execute("PRAGMA busy_timeout = 5000")
        db.execute("BEGIN IMMEDIATE")
        try:
            path = _new_name(place)
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as copy:
                reader.backup(copy)
                prepare(copy)
            link_to(path, place.live)
            db.execute("ALTER TABLE accounts RENAME TO moved")
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
            db.execute("PRAGMA busy_timeout = 0")
    tell("ledger-removed", f"{place.live} was removed while in use; it was written again.")


def current(place: Place) -> Path | None:
    """Return the file that the link leads to, if it is there."""
    path = Path(os.path.realpath(place.live))
    try:
        return path if path.stat().st_size else None
    except FileNotFoundError:
        return None


def left_behind(place: Place) -> bool:
    """Tell whether there is a file from before, or a snapshot of one."""
    return any(path is not None and os.path.exists(path) for path in (place.live, place.snapshot))  # noqa: PTH110 - Path's raises where it may not look


def write_snapshot(db: sqlite3.Connection, snapshot: Path) -> None:
    """Copy what `db` holds at this moment to `snapshot`: whole, or not at all."""
    fresh = snapshot.with_name(snapshot.name + ".new")
    create(fresh, exclusive=False)
    try:
        with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as copy:
            # The file is seen by nobody until it is renamed, and made durable as a whole then.
            copy.execute("PRAGMA synchronous = OFF")
            db.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        sync(fresh)
        fresh.replace(snapshot)
        sync(snapshot.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise


def remove_leftovers(place: Place) -> None:
    """Remove live files of former times, which nobody has a use for."""
    with _locked(place):
        kept = current(place)
        for path in place.live.parent.glob(f"{place.live.name}.????????"):
            if path == kept or path.stat().st_mtime > time.time() - _LEFTOVER_SECONDS:
                continue
            for name in (path, *companions(path)):
                name.unlink(missing_ok=True)


def _made_since_boot(path: Path) -> bool:
    """Tell whether a file was made since the machine was started, or may have been.

    A hardened service may not see the start's number, while a command of root's does.
    """
    with contextlib.closing(connect(path)) as db:
        found = db.execute("SELECT value FROM marks WHERE name = 'boot'").fetchone()
    made, now = found[0] if found else 0, _boot()
    return made == now or 0 in (made, now)


def _boot() -> int:
    """Return a number for this start of the machine, 0 where the system does not tell."""
    try:
        return int(_BOOT_ID.read_text()[:8], 16)
    except (OSError, ValueError):
        return 0


def _replace(place: Place, path: Path, now: int, tell: Tell) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now / 1e6))
    aside = place.live.with_name(f"{place.live.name}.corrupted-{stamp}")
    with contextlib.suppress(FileNotFoundError):
        path.replace(aside)
        for name in companions(path):
            name.unlink(missing_ok=True)
    tell(
        "ledger-corrupted",
        f"{place.live} is corrupted and was moved to {aside}; URLs signed before now that may be"
        " used a number of times are refused from here on.",
    )
    return _make(place, now, tell, lost=now)


def _make(place: Place, now: int, tell: Tell, *, lost: int) -> Path:
    """Make a live file from the snapshot, or an empty one, and have the link lead to it."""
    path = _new_name(place)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        if not _restore(place, db, tell):
            lost = max(lost, now if place.snapshot and place.snapshot.exists() else 0)
            if place.snapshot and lost:
                _set_aside(place.snapshot, now)
            make_tables(db)
        prepare(db)
        # Whoever held something then is not there any more, or will ask for another name.
        db.execute("DELETE FROM holders")
        db.execute("DELETE FROM streams")
        db.execute("REPLACE INTO marks VALUES ('boot', ?)", (_boot(),))
        if lost:
            db.execute("REPLACE INTO marks VALUES ('lost', ?)", (lost,))
    link_to(path, place.live)
    return path


def _restore(place: Place, db: sqlite3.Connection, tell: Tell) -> bool:
    """Copy the snapshot into `db`; tell whether there was one, and it was sound."""
    snapshot = place.snapshot
    if snapshot is None or not snapshot.exists():
        return False
    try:
        inspect(snapshot)
        with contextlib.closing(sqlite3.connect(snapshot)) as source:
            source.backup(db)
    except sqlite3.DatabaseError as error:
        if not is_corruption(error):
            raise
        tell("ledger-corrupted", f"{snapshot} is corrupted, so all counts begin anew.")
        return False
    return True


def _set_aside(snapshot: Path, now: int) -> None:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now / 1e6))
    with contextlib.suppress(FileNotFoundError):
        snapshot.replace(snapshot.with_name(f"{snapshot.name}.corrupted-{stamp}"))


def _new_name(place: Place) -> Path:
    path = place.live.with_name(f"{place.live.name}.{os.urandom(4).hex()}")
    create(path, exclusive=True)
    return path


@contextlib.contextmanager
def _locked(place: Place) -> Iterator[None]:
    """Keep everybody else from opening or changing the file. Raises LedgerDown if it takes long."""
    descriptor = open_lock(place.live, "lock")
    try:
        end = time.monotonic() + _OPEN_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise LedgerDown(f"{place.live}.lock is held by another process") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)
