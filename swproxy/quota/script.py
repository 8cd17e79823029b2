"""What is said to `ledger.lua`, the script within the server, and what its answers mean."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from hashlib import sha1
from pathlib import Path
from typing import Any

from swproxy.quota.accounts import Call, Refused, Taken
from swproxy.quota.checks import Budget, Check, End, Part, Places, Rate, Uses
from swproxy.quota.figures import Figures
from swproxy.quota.ledger import LedgerDown
from swproxy.quota.revocations import Revocation

__all__ = [
    "PREFIX",
    "SCRIPT",
    "SHA",
    "USED",
    "Said",
    "decision",
    "has_forgotten",
    "held",
    "keys_of",
    "outcome",
    "parts",
    "revocation",
    "turn",
]

SCRIPT = Path(__file__).with_name("ledger.lua").read_text()
SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

PREFIX = "{swproxy}:"
"""Of every key. What stands in braces says to a cluster that all belong together."""

USED = ("requests", "refused", "tokens_in", "tokens_out", "unknown")

_COMMON = 4
"""Keys that every call of the script has in front of its own."""

Said = dict[str, Any]


def keys_of(said: Said, own: Sequence[str]) -> list[str]:
    """Return the keys of a call of the script, `own` behind those that every call has."""
    common = ("meta", "holders", f"calls/{said['holder']}", "revoked")
    return [PREFIX + key for key in (*common, *own)]


def decision(call: Call, holder: str) -> tuple[list[str], Said]:
    """Return what asks for a decision: its keys, and the rest."""
    keys = [account.key for account in call.accounts]
    said: Said = {"holder": holder, "id": call.id, "tokens": call.tokens}
    return keys, said | {"accounts": _accounts(call, _COMMON + 1)}


def outcome(call: Call, holder: str, answer: Sequence[Any]) -> Taken | Refused:
    """Return the decision. Raises LedgerDown if there is none."""
    what = answer[1]
    if what == b"taken":
        return Taken(call, holder, ())
    if what == b"refused":
        account = call.accounts[answer[2] - 1]
        check = account.checks[answer[3] - 1]
        wait = int(answer[4])
        return Refused(account, check, None if wait < 0 else wait, int(answer[5]))
    if what == b"lost":
        raise LedgerDown("what was counted of the URL has been lost")
    raise LedgerDown("the store was asked too late")


def turn(
    said: Said,
    ended: Sequence[tuple[Call, str, End]],
    figures: Figures,
    streams: Mapping[tuple[str, str], int],
    revoke: Revocation | None,
) -> tuple[list[str], Said]:
    """Return what says all but decisions: its keys, and `said` with the rest.

    `ended` are calls with the holders that they were taken under.
    """
    keys = [f"node/{said['name']}"]
    said["node"] = _COMMON + 1
    said["ended"] = [_ended(call, holder, end, keys) for call, holder, end in ended]
    said["used"] = []
    for (day, app, user), sums in figures.sums.items():
        keys.append(f"used/{date(1970, 1, 1) + timedelta(days=day)}")
        more = {name: n for name in USED if (n := getattr(sums, name))}
        said["used"].append({"at": _COMMON + len(keys), "name": f"{app}\n{user}", "more": more})
    said["streams"] = {f"{app}\n{user}": n for (app, user), n in streams.items()}
    if revoke is not None:
        names = ("app", "user", "signature", "before", "until")
        said["revoke"] = {name: getattr(revoke, name) for name in names}
    return keys, said


def _ended(call: Call, holder: str, end: End, keys: list[str]) -> Said:
    """Return how a call's end is said; what it needs is appended to `keys`."""
    keys.append(f"calls/{holder}")
    said: Said = {"calls": _COMMON + len(keys), "id": call.id, "holder": holder}
    said |= {"tokens": call.tokens, "accounts": _accounts(call, _COMMON + len(keys) + 1)}
    keys += [account.key for account in call.accounts]
    if end.returned:
        said["returned"] = True
    if end.tokens is not None:
        said["used"] = end.tokens
    return said


def _accounts(call: Call, first: int) -> list[dict[str, Any]]:
    """Return a call's accounts as the script reads them; their keys begin at KEYS[first]."""
    return [
        {
            "at": at,
            "kind": account.kind,
            "signed": account.signed,
            "expires": account.expires,
            "checks": [_check(check) for check in account.checks],
        }
        for at, account in enumerate(call.accounts, first)
    ]


def _check(check: Check) -> dict[str, Any]:
    said: dict[str, Any] = {"name": check.name, "count": check.count}
    if isinstance(check, Rate):
        return said | {
            "kind": "rate",
            "interval": check.interval,
            "most": check.most,
            "burst": check.burst,
        }
    if isinstance(check, Budget):
        return said | {"kind": "budget", "period": check.period.value}
    assert isinstance(check, Places | Uses)
    return said | {"kind": "places" if isinstance(check, Places) else "uses"}


def parts(fields: Mapping[str, str], living: set[str]) -> dict[str, Part]:
    """Return an account's hash as the checks know it."""
    state: dict[str, Part] = {}
    holders: dict[str, dict[str, int]] = {}
    for name, value in fields.items():
        check, _, holder = name.rpartition("/")
        if check == "places" or check.count("/"):
            if holder in living:
                holders.setdefault(check, {})[holder] = int(value)
        elif check == "tokens":
            state[name] = [int(float(each)) for each in value.split(" ")]
        elif name != "expires":
            state[name] = int(value)
    for name, part in state.items():
        if isinstance(part, list):
            part.append(holders.get(name, {}))
    if "places" in holders:
        state["places"] = holders["places"]
    return state


def held(state: Mapping[str, Part]) -> bool:
    """Tell whether something of an account's state is held by somebody."""
    return any(
        part if isinstance(part, dict) else isinstance(part, list) and part[-1]
        for part in state.values()
    )


def has_forgotten(before: str, serial: str) -> bool:
    """Tell by two serials of its revocations whether a store knows less than before.

    It has been emptied, or is a replica that had not heard of the newest.
    """
    if not before:
        return False
    born, _, count = before.partition("/")
    born_now, _, count_now = serial.partition("/")
    return born != born_now or int(count_now) < int(count)


def revocation(name: str, moments: str) -> Revocation:
    """Return a revocation as it is written down."""
    app, user, signature = name.split("\n")
    before, until = moments.split(" ")
    return Revocation(app, int(before), int(until), user, signature)
