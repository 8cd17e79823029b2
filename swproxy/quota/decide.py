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


def decide(
    call: Call, states: Sequence[Mapping[str, Part]], at: Moment
) -> tuple[Taken, list[State]] | Refused:
    """Return the call as taken, and its accounts' new states; or by what it is refused.

    If several checks refuse, it is the one that does so for longest: a call that waits for it finds
    the others open, unless others come first.
    """
    worst: Refused | None = None
    for account, state in zip(call.accounts, states, strict=True):
        for check in account.checks:
            part = state.get(check.name)
            wait = check.wait(part, at)
            if wait == 0 or (worst and (worst.wait is None or (wait and wait <= worst.wait))):
                continue
            worst = Refused(account, check, wait, check.left(part, at))
    if worst is not None:
        return worst
    taken: list[tuple[Part, ...]] = []
    after: list[State] = []
    for account, state in zip(call.accounts, states, strict=True):
        parts = [check.take(state.get(check.name), at) for check in account.checks]
        names = [check.name for check in account.checks]
        after.append({**state, **dict(zip(names, parts, strict=True))})
        taken.append(tuple(parts))
    return Taken(call, at.holder, tuple(taken)), after


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
    checks = account.checks
    return max(account.expires, *[check.until(state.get(check.name)) for check in checks])
