"""Decisions and settlements as transactions on the live file, for one worker. Nothing here waits.

A transaction reads and writes the rows of all accounts of a call at once, under the writers' lock,
so decisions of all processes follow one another. If the lock is taken, Busy says so.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType

from swproxy.quota.accounts import Account, Call, Refused, Taken
from swproxy.quota.checks import End, Moment
from swproxy.quota.database import RENEW, Gone, is_corruption
from swproxy.quota.decide import State, decide, expiry, settled
from swproxy.quota.ledger import LEASE_SECONDS, RENEW_SECONDS, LedgerDown
from swproxy.quota.windows import MICROS

__all__ = ["Book", "Busy", "Ended", "new_holder"]

Ended = tuple[Taken, End]

_LEASE = LEASE_SECONDS * MICROS
_RENEW = RENEW_SECONDS * MICROS
_MOST_ACCOUNTS = 4

_decode = json.JSONDecoder().raw_decode

_READ = [
    "SELECT " + ", ".join(["(SELECT state FROM accounts WHERE key = ?)"] * n)  # noqa: S608
    for n in range(_MOST_ACCOUNTS + 1)
]
_WRITE = [
    f"INSERT INTO accounts VALUES {', '.join(['(?, ?, ?)'] * n)} ON CONFLICT DO UPDATE"  # noqa: S608
    " SET state = excluded.state, expires = max(expires, excluded.expires)"
    for n in range(_MOST_ACCOUNTS + 1)
]


class Busy(Exception):  # noqa: N818 - no error: it is to be tried again
    """Somebody else writes at this moment."""


def _encode(state: State) -> str:
    """Return a state as JSON: names of ours, numbers, lists and tables, so this is all it takes."""
    return repr(state).replace("'", '"')


def new_holder() -> str:
    """Return a name that no other worker has or had."""
    return os.urandom(4).hex()


class Book:
    """One worker's transactions over `db`. `holder` is its name, under which it holds things.

    `marks` are moments that the file keeps: `lost`, at which counts were lost; `swept`, up to which
    the accounts of expired URLs have been forgotten.
    """

    def __init__(self, db: sqlite3.Connection, holder: str, ticks: Callable[[], int]) -> None:
        self.holder = holder
        self.marks: Mapping[str, int] = {}
        self._db = db
        self._execute = db.cursor().execute
        self._ticks = ticks
        self._now = 0
        self._lease = self._leased = 0
        self._until: dict[str, int] = {}
        self._looked = False

    def to_renew(self) -> bool:
        """Tell whether it is time to say that the worker lives; change a name whose time is up."""
        now = self._ticks()
        if now >= self._lease:
            # The places of calls taken under it may have been given to others.
            self.holder = new_holder()
        return now >= self._lease - _LEASE + _RENEW

    def renewed(self) -> None:
        """Take note that it has been said."""
        self._lease = self._ticks() + _LEASE

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def admit(self, call: Call, now: int, late: list[Ended]) -> Taken | Refused:
        """Decide on a call, settlements that are late having been applied: `late` is emptied.

        Raises Busy, Gone, LedgerDown; nothing has changed then.
        """
        accounts = call.accounts
        with self:
            for ended in late:
                self._settle(*ended, now)
            states = self._read(accounts)
            self._check_known(accounts, states)
            at = Moment(now, self.holder, self._alive, call.tokens)
            outcome, after = decide(call, states, at)
            if after:
                self._write(accounts, after)
        late.clear()
        return outcome

    def settle(self, ended: Iterable[Ended], now: int) -> None:
        """Apply settlements. Raises Busy, Gone, LedgerDown; nothing has changed then."""
        with self:
            for taken, end in ended:
                self._settle(taken, end, now)

    def __enter__(self) -> None:
        """Begin a transaction, and say that the worker lives if it is time."""
        try:
            self._execute("BEGIN IMMEDIATE")
            self._now = now = self._ticks()
            self._looked = False
            self._leased = self._lease
            if now >= self._lease - _LEASE + _RENEW:
                self.to_renew()
                self._leased = now + _LEASE
                self._execute(RENEW, (self.holder, self._leased))
        except sqlite3.Error as error:
            self._roll_back()
            raise _translated(error) from error

    def __exit__(
        self, kind: object, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Commit, or undo everything where something has failed."""
        if error is None:
            try:
                self._execute("COMMIT")
            except sqlite3.Error as failure:
                self._roll_back()
                raise _translated(failure) from failure
            self._lease = self._leased
            return
        self._roll_back()
        if isinstance(error, sqlite3.Error):
            raise _translated(error) from error

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._execute("ROLLBACK")

    def _settle(self, taken: Taken, end: End, now: int) -> None:
        accounts = taken.call.accounts
        at = Moment(now, taken.holder, self._alive, taken.call.tokens)
        self._write(accounts, settled(taken, self._read(accounts), at, end))

    def _read(self, accounts: tuple[Account, ...]) -> list[State]:
        keys = [account.key for account in accounts]
        row = self._execute(_READ[len(keys)], keys).fetchone()
        return [_decode(text)[0] if text else {} for text in row]

    def _write(self, accounts: tuple[Account, ...], states: list[State]) -> None:
        row: list[str | int] = []
        for account, state in zip(accounts, states):  # noqa: B905 - they are as many
            row += (account.key, _encode(state), expiry(account, state))
        self._execute(_WRITE[len(accounts)], row)

    def _check_known(self, accounts: tuple[Account, ...], states: list[State]) -> None:
        """Raise LedgerDown for a URL whose count may have been lost."""
        for account, state in zip(accounts, states):  # noqa: B905 - they are as many
            if account.kind == "url" and (
                account.signed <= self.marks.get("lost", 0)
                or (not state and account.expires <= self.marks.get("swept", 0))
            ):
                raise LedgerDown("what was counted of the URL has been lost")

    def _alive(self, holder: str) -> bool:
        if holder == self.holder or self._until.get(holder, 0) > self._now:
            return True
        if not self._looked:
            self._until = dict(self._execute("SELECT id, until FROM holders").fetchall())
            self._looked = True
        return self._until.get(holder, 0) > self._now


def _translated(error: sqlite3.Error) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy()
    if is_corruption(error):
        return Gone(corrupted=True)
    if code == sqlite3.SQLITE_ERROR:
        # The table was given another name: the file has been copied, and this is the old one.
        return Gone(corrupted=False)
    return LedgerDown(str(error))
