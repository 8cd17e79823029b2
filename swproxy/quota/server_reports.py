"""What is read out of a server, for people; `reports` says the same of a file.

Each takes `ask`, which sends commands together and returns their answers, and raises LedgerDown.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from swproxy.quota import script
from swproxy.quota.checks import Part
from swproxy.quota.ledger import Used, UsedBy

__all__ = ["Ask", "lacks", "read_parts", "read_usage"]

Ask = Callable[[Sequence[tuple[str, ...]]], Awaitable[list[Any]]]

_MOST_DAYS = 400


async def read_usage(
    ask: Ask, since: date, app: str, user: str, today: date, ticks: int
) -> list[UsedBy]:
    """Return the sums since a day; calls under way are in today's."""
    days = [since + timedelta(days=n) for n in range((today - since).days + 1)][-_MOST_DAYS:]
    found: dict[tuple[date, str, str], Used] = {}

    def of(day: date, name: str) -> Used | None:
        each_app, _, each_user = name.partition("\n")
        if app not in ("", each_app) or user not in ("", each_user):
            return None
        return found.setdefault((day, each_app, each_user), Used())

    sums = await _hashes(ask, [f"used/{day}" for day in days])
    for day, fields in zip(days, sums, strict=True):
        for name, value in fields.items():
            who, _, what = name.rpartition("\n")
            if what in script.USED and (used := of(day, who)) is not None:
                setattr(used, what, getattr(used, what) + int(value))
    for fields in await _hashes(ask, [f"node/{name}" for name in await _living(ask, ticks)]):
        for name, value in fields.items():
            if name != "batch" and (used := of(today, name)) is not None:
                used.streams += int(value)
    return [UsedBy(*who, used) for who, used in sorted(found.items())]


async def read_parts(
    ask: Ask, keys: Sequence[str], now: int, ticks: int
) -> dict[str, Mapping[str, Part]]:
    """Return accounts' states, without what the dead hold, and without those that are over."""
    living = await _living(ask, ticks)
    found: dict[str, Mapping[str, Part]] = {}
    for key, fields in zip(keys, await _hashes(ask, keys), strict=True):
        state = script.parts(fields, living)
        if state and (now < int(fields["expires"]) or script.held(state)):
            found[key] = state
    return found


async def lacks(ask: Ask) -> list[str]:
    """Return what the server lacks for keeping what is counted."""
    answers = await ask([("INFO", part) for part in ("memory", "persistence")])
    said = dict(
        line.split(":", 1) for line in b"".join(answers).decode().split("\r\n") if ":" in line
    )
    found = []
    policy = said.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        found.append(
            f"its maxmemory-policy is {policy}, which may forget what was counted: noeviction"
            " refuses calls instead"
        )
    if said.get("aof_enabled") != "1":
        found.append(
            "it keeps no append-only file (appendonly yes): a restart may bring old counts"
            " back, or none, and then one-time URLs from before are refused"
        )
    return found


async def _hashes(ask: Ask, keys: Sequence[str]) -> list[dict[str, str]]:
    answers = await ask([("HGETALL", script.PREFIX + key) for key in keys])
    return [
        {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)} for flat in answers
    ]


async def _living(ask: Ask, ticks: int) -> set[str]:
    """Return the names of all workers that are alive."""
    command = ("ZRANGEBYSCORE", f"{script.PREFIX}holders", f"({ticks}", "+inf")
    (names,) = await ask([command])
    return {name.decode() for name in names}
