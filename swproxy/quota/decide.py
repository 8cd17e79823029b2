"""One decision over all checks of a call: taken by all of them, or by none.

Stores that run their own language (a script within the server) say the same there; the tests of
stores hold them to it.
"""

from collections.abc import Mapping, Sequence

from swproxy.quota.accounts import Account, Call, Refused, Taken
from swproxy.quota.checks import End, Moment, Part

__all__ = ["State", "decide", "expiry", "settled"]

State = dict[str, Part]
"""What an account remembers: the names of its checks, and their parts."""


def decide(call: Call, states: Sequence[State], at: Moment) -> tuple[Taken | Refused, list[State]]:
    """Return the call as taken, or by what it is refused; and its accounts' states, if changed.

    If several checks refuse, it is the one that does so for longest: a call that waits for it finds
    the others open, unless others come first.
    """
    worst: Refused | None = None
    taken: list[tuple[Part, ...]] = []
    after: list[State] = []
    mended: list[tuple[int, str, Part]] = []
    for account, state in zip(call.accounts, states):  # noqa: B905 - they are as many
        new = state.copy()
        parts: list[Part] = []
        for check in account.checks:
            part = state.get(check.name)
            wait, changed = check.take(part, at)
            new[check.name] = changed
            parts.append(changed)
            if wait != 0:
                if worst is None or _longer(wait, worst.wait):
                    worst = Refused(account, check, wait, check.left(part, at))
                if changed is not part:
                    mended.append((len(after), check.name, changed))
        taken.append(tuple(parts))
        after.append(new)
    if worst is None:
        return Taken(call, at.holder, tuple(taken)), after
    if not mended:
        return worst, []
    # Refused, but the clock was set back, and from when on that counts has to be remembered.
    after = [dict(state) for state in states]
    for i, name, part in mended:
        after[i][name] = part
    return worst, after


def settled(
    taken: Taken, states: Sequence[Mapping[str, Part]], at: Moment, end: End
) -> list[State]:
    """Return the accounts' states behind the end of a call."""
    after: list[State] = []
    for account, state, parts in zip(taken.call.accounts, states, taken.parts, strict=True):
        new = dict(state)
        for check, part in zip(account.checks, parts, strict=True):
            if check.name in new:
                new[check.name] = check.settle(new[check.name], part, at, end)
        after.append(new)
    return after


def expiry(account: Account, state: Mapping[str, Part]) -> int:
    """Return when the account may be forgotten, unless somebody alive holds something of it."""
    latest = account.expires
    for check in account.checks:
        until = check.until(state.get(check.name))
        latest = max(until, latest)
    return latest


def _longer(wait: int | None, other: int | None) -> bool:
    return other is not None and (wait is None or wait > other)
