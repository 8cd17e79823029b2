"""A ledger's database: its tables, and how a connection to it is made, used and judged."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from swproxy.quota.ledger import LedgerDown

__all__ = [
    "RENEW",
    "Gone",
    "as_down",
    "connect",
    "inspect",
    "is_corruption",
    "make_tables",
    "prepare",
    "reason",
    "transaction",
]

_APPLICATION = 0x53575131
_VERSION = 1

_OPEN_SECONDS = 5.0
"""How long a statement may wait for others while a file is opened."""

_SCHEMA = """
CREATE TABLE accounts (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE holders (id TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE streams (
    holder TEXT, app TEXT, user TEXT, count INTEGER NOT NULL,
    PRIMARY KEY (holder, app, user)) WITHOUT ROWID;
CREATE TABLE revoked (
    app TEXT, user TEXT, signature TEXT, before INTEGER NOT NULL, until INTEGER NOT NULL,
    PRIMARY KEY (app, user, signature)) WITHOUT ROWID;
CREATE TABLE used (
    day TEXT, app TEXT, user TEXT, requests INTEGER NOT NULL, refused INTEGER NOT NULL,
    tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, unknown INTEGER NOT NULL,
    PRIMARY KEY (day, app, user)) WITHOUT ROWID;
CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


class Gone(Exception):  # noqa: N818 - a state, as LedgerDown is
    """The open file is no longer the one to use; `corrupted` if it is a broken one."""

    def __init__(self, *, corrupted: bool) -> None:
        super().__init__("the file is corrupted" if corrupted else "the file is not current")
        self.corrupted = corrupted


RENEW = "REPLACE INTO holders VALUES (?, ?)"
"""Says that a holder lives, up to a moment of the clock that is never set."""


def make_tables(db: sqlite3.Connection) -> None:
    """Make an empty file a ledger's."""
    # Rows are short, and each change of one writes its page to the log, checksum and all.
    db.execute("PRAGMA page_size = 1024")
    db.executescript(f"PRAGMA user_version = {_VERSION}; {_SCHEMA}")
    db.execute(f"PRAGMA application_id = {_APPLICATION}")


def prepare(db: sqlite3.Connection) -> None:
    """Have a file written as live files are; see `livefile` and `housekeeping`."""
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("PRAGMA journal_mode = WAL")


def connect(path: Path, *, seconds: float = 0.0) -> sqlite3.Connection:
    """Open a live file, for whichever thread. `seconds` is how long a statement may wait for it.

    Checkpoints are left to whoever does them for all; see `housekeeping`.
    """
    uri = f"file:{quote(str(path))}?mode=rw"
    db = sqlite3.connect(
        uri, timeout=_OPEN_SECONDS, isolation_level=None, uri=True, check_same_thread=False
    )
    try:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("SELECT count(*) FROM marks").fetchone()
        db.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
    except BaseException:
        db.close()
        raise
    return db


def inspect(path: Path) -> None:
    """Raise LedgerDown for a file that is not ours to use, sqlite3.DatabaseError for a broken one.

    Reads the whole file: what is broken is better found now than in a decision.
    """
    with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)) as db:
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if application != _APPLICATION:
            raise LedgerDown(f"{path} is a database, but not one of swproxy's")
        if version > _VERSION:
            raise LedgerDown(f"{path} was made by a newer version of swproxy")
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            error = sqlite3.DatabaseError(verdict)
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error


def is_corruption(error: sqlite3.Error) -> bool:
    """Tell whether an error says that the file is broken, not that it can't be reached now."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Write all that follows, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


@contextlib.contextmanager
def as_down() -> Iterator[None]:
    """Turn what the system or SQLite says into LedgerDown, or Gone for a corrupted file."""
    try:
        yield
    except OSError as error:
        raise LedgerDown(reason(error)) from error
    except sqlite3.Error as error:
        if is_corruption(error):
            raise Gone(corrupted=True) from error
        raise LedgerDown(reason(error)) from error


def reason(error: OSError | sqlite3.Error) -> str:
    """Return what went wrong, for the log."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return str(error)
