"""Who is charged for a call, and what came of it: the values that a ledger takes and returns."""

from dataclasses import dataclass, field
from typing import Literal

from swproxy.quota.checks import Check, Part

__all__ = ["Account", "Call", "Kind", "Refused", "Taken", "account_key"]

Kind = Literal["app", "user", "url"]


@dataclass(frozen=True, slots=True)
class Account:
    """Who is charged, and by which checks. A URL's account also says from when to when it may be.

    `name` is the application's id, the user, or the URL's signature.
    """

    kind: Kind
    key: str
    checks: tuple[Check, ...]
    signed: int = 0
    """the moment at which the URL was signed"""
    expires: int = 0
    """the moment up to which the account must not be forgotten"""


def account_key(kind: Kind, app: str, name: str = "") -> str:
    """Return the key of an account; an application's id has no slash in it."""
    return f"{kind}/{app}/{name}" if name else f"{kind}/{app}"


@dataclass(frozen=True, slots=True)
class Call:
    """One call that wants to be taken. `id` is the request's id, different for every call."""

    id: str
    app: str
    accounts: tuple[Account, ...]
    user: str = ""
    tokens: int = 0
    """the most that it may use, held until it is settled"""


@dataclass(frozen=True, slots=True)
class Taken:
    """A call that was taken. Hand it to `settle`."""

    call: Call
    holder: str
    parts: tuple[tuple[Part, ...], ...] = field(repr=False)
    """what `take` returned, check by check, account by account"""


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that was not taken: by which check of which account, and for how long."""

    account: Account
    check: Check
    wait: int | None
    """microseconds until it would have been taken, everything else unchanged; None: never"""
    left: int
    """what the check would let through now, which is less than the call wants"""
