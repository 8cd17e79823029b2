"""What is read out of a live file, or a snapshot, for people and for keepers."""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

from swproxy.quota.checks import Part
from swproxy.quota.ledger import Used, UsedBy
from swproxy.quota.revocations import Revocation

__all__ = ["held_by_living", "read_parts", "read_revocations", "read_usage"]


def read_revocations(db: sqlite3.Connection, now: int) -> list[Revocation]:
    """Return the revocations that still matter."""
    rows = db.execute(
        "SELECT app, before, until, user, signature FROM revoked WHERE until >= ?", (now,)
    )
    return [Revocation(*row) for row in rows]


def read_usage(
    db: sqlite3.Connection, since: date, app: str, user: str, today: date, ticks: int
) -> list[UsedBy]:
    """Return the sums since a day; calls under way are in today's."""
    found: dict[tuple[str, str, str], Used] = {}
    names = {"since": since.isoformat(), "app": app, "user": user, "ticks": ticks}
    for day, each_app, each_user, *sums in db.execute(
        "SELECT day, app, user, requests, refused, tokens_in, tokens_out, unknown FROM used"
        " WHERE day >= :since AND :app IN ('', app) AND :user IN ('', user)"
        " ORDER BY day, app, user",
        names,
    ):
        requests, refused, tokens_in, tokens_out, unknown = sums
        found[day, each_app, each_user] = Used(
            requests=requests,
            refused=refused,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            unknown=unknown,
        )
    for each_app, each_user, count in db.execute(
        "SELECT app, user, sum(count) FROM streams JOIN holders ON holder = id"
        " WHERE until > :ticks AND count > 0 AND :app IN ('', app) AND :user IN ('', user)"
        " GROUP BY app, user",
        names,
    ):
        found.setdefault((today.isoformat(), each_app, each_user), Used()).streams = count
    return [
        UsedBy(date.fromisoformat(day), each_app, each_user, used)
        for (day, each_app, each_user), used in found.items()
    ]


def read_parts(
    db: sqlite3.Connection, keys: Sequence[str], ticks: int
) -> dict[str, Mapping[str, Part]]:
    """Return accounts' states, without what the dead hold."""
    living = {
        holder for (holder,) in db.execute("SELECT id FROM holders WHERE until > ?", (ticks,))
    }
    found: dict[str, Mapping[str, Part]] = {}
    for key in keys:
        row = db.execute("SELECT state FROM accounts WHERE key = ?", (key,)).fetchone()
        if row is not None:
            found[key] = {
                name: _without_dead(part, living) for name, part in json.loads(row[0]).items()
            }
    return found


def held_by_living(state: str, living: Collection[str]) -> bool:
    """Tell whether somebody alive holds something of an account."""
    return any(_held(part).keys() & living for part in json.loads(state).values())


def _held(part: Part) -> Mapping[str, int]:
    """Return what is held of a part: places are holders to numbers, budgets end with the same."""
    held: Any = part[-1] if isinstance(part, list) else part
    return held if isinstance(held, dict) else {}


def _without_dead(part: Part, living: Collection[str]) -> Part:
    held = {holder: n for holder, n in _held(part).items() if holder in living}
    if isinstance(part, list):
        return [*part[:-1], held]
    return held if isinstance(part, dict) else part
