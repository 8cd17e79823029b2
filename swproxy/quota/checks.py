"""The arithmetic of limits: what each remembers between calls, and what it answers.

A check is a frozen value. What it remembers, its part of an account's state, is handed in and out,
and so is the moment; a part is what JSON can hold, None at first, and never changed in place.

Rate is GCRA (ITU-T I.371): its one number is the moment at which all that was taken would have come
at the steady pace. That lies at most a burst ahead of now, so it tells exactly how long to wait.

Places and budgets keep what a call has at hand until it is settled, under the name of its holder, a
worker. Workers say every few seconds that they live, and what the dead hold counts for nothing: a
worker that is killed takes nothing with it for longer than that. A counter that goes up and down
would leak.

Clocks are set back. A moment further ahead than it can be is taken for the furthest that it can be;
a window that has not begun ends with the one that the clock says it is now, unless it comes next.
So nobody gets a call more, and nobody is locked out for longer than a burst or two windows take.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from swproxy.quota.windows import FOREVER, MICROS, Period

__all__ = ["Budget", "Check", "End", "Moment", "Part", "Places", "Rate", "Uses"]

Part = Any

Wait = int | None
"""In how many microseconds a call could be taken: 0 is now, None is never."""

_SOON = MICROS
"""How long to wait for a place. Nobody knows when one will be free."""


@dataclass(slots=True)
class Moment:
    """The circumstances of a decision: when, who takes, and which holders are alive."""

    now: int
    holder: str
    alive: Callable[[str], bool]
    tokens: int = 0
    """how many the call may use, and so are held for it"""


@dataclass(frozen=True, slots=True)
class End:
    """How a call ended."""

    returned: bool = False
    """nothing of it reached the API, so all is given back"""
    tokens: int | None = None
    """how many it used; None: nobody knows, so what was held is taken for used"""


class Check:
    """One limit. `name` is the key of its part in an account's state."""

    __slots__ = ()
    name: str
    count: int
    label: ClassVar[str]
    """what it is about, for people"""
    holds: ClassVar[bool] = False
    """whether a call has something at hand until it is settled"""

    def take(self, part: Part, at: Moment) -> tuple[Wait, Part]:
        """Return 0 and the part with the call in it, or how long to wait and the part without it.

        The latter is another one than was given only where the clock has been set back.
        """
        raise NotImplementedError

    def settle(self, part: Part, taken: Part, at: Moment, end: End) -> Part:
        """Return the part behind the call's end; `at.holder` and `at.tokens` as it was taken.

        `taken` is what `take` returned for it.
        """
        raise NotImplementedError

    def left(self, part: Part, at: Moment) -> int:
        """Return how much could be taken now: calls, places, or tokens."""
        raise NotImplementedError

    def until(self, part: Part) -> int:  # noqa: ARG002 - most parts say it
        """Return when the part is as good as None, but for what the living hold."""
        return 0


@dataclass(frozen=True, slots=True)
class Rate(Check):
    """At most `burst` calls at once, and `count` in `seconds` from then on."""

    count: int
    seconds: int
    burst: int
    interval: int = field(init=False, repr=False)
    """microseconds from one call to the next at the steady pace"""
    most: int = field(init=False, repr=False)
    """how far ahead the part may lie"""
    label: ClassVar[str] = "requests"
    name: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Paces are counted apart: what is far ahead for one may be what another allows.
        name = f"requests-{self.count}-{self.seconds}-{self.burst}"
        object.__setattr__(self, "name", name)
        # Rounded up: a little less is never more than is allowed.
        object.__setattr__(self, "interval", -(-self.seconds * MICROS // self.count))
        object.__setattr__(self, "most", self.burst * self.interval)

    def take(self, part: Part, at: Moment) -> tuple[Wait, Part]:
        """Move the moment when everything is paid off by an interval."""
        now, interval = at.now, self.interval
        paid = self._paid(part, now)
        wait = paid - now + interval - self.most
        if wait > 0:
            return wait, part if part == paid else paid
        return 0, paid + interval

    def settle(self, part: Part, taken: Part, at: Moment, end: End) -> Part:  # noqa: ARG002
        """Return the part unchanged, or one interval earlier."""
        return part - self.interval if end.returned and part else part

    def left(self, part: Part, at: Moment) -> int:
        """Return how many calls would be taken at once."""
        return self.burst + (at.now - self._paid(part, at.now)) // self.interval

    def until(self, part: Part) -> int:
        """Return the moment when everything is paid off."""
        return part or 0

    def _paid(self, part: Part, now: int) -> int:
        return now if part is None or part <= now else min(part, now + self.most)


@dataclass(frozen=True, slots=True)
class Places(Check):
    """At most `count` calls under way. The part: holder to number."""

    count: int
    name: str = field(default="places", init=False)
    label: ClassVar[str] = "concurrent"
    holds: ClassVar[bool] = True

    def take(self, part: Part, at: Moment) -> tuple[Wait, Part]:
        """Add one for the holder."""
        living, held = _living(part, at)
        if held >= self.count:
            return _SOON, part
        living[at.holder] = living.get(at.holder, 0) + 1
        return 0, living

    def settle(self, part: Part, taken: Part, at: Moment, end: End) -> Part:  # noqa: ARG002
        """Return the part with one less for the holder."""
        return _released(part, at.holder, 1)

    def left(self, part: Part, at: Moment) -> int:
        """Return how many places are free."""
        return max(0, self.count - _living(part, at)[1])


@dataclass(frozen=True, slots=True)
class Budget(Check):
    """At most `count` tokens in a window. The part: its begin and end, tokens used, and held."""

    count: int
    period: Period
    name: str = field(init=False)
    label: ClassVar[str] = "tokens"
    holds: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"tokens/{self.period.value}")

    def take(self, part: Part, at: Moment) -> tuple[Wait, Part]:
        """Hold the call's tokens, or wait for the next window if they fit into one at all."""
        current = self._current(part, at.now)
        start, end, used, held = current
        living, sum_held = _living(held, at)
        tokens = at.tokens
        if used >= self.count or used + sum_held + tokens > self.count:
            never = end == FOREVER or tokens > self.count
            # A window that begins is written down with the first call in it.
            same = part is not None and part[0] == start
            return None if never else end - at.now, current if same else part
        living[at.holder] = living.get(at.holder, 0) + tokens
        return 0, [start, end, used, living]

    def settle(self, part: Part, taken: Part, at: Moment, end: End) -> Part:
        """Return the window with tokens used instead of held, if it is still the same."""
        if part[0] != taken[0]:
            return part
        used = 0 if end.returned else at.tokens if end.tokens is None else end.tokens
        return [part[0], part[1], part[2] + used, _released(part[3], at.holder, at.tokens)]

    def left(self, part: Part, at: Moment) -> int:
        """Return how many tokens are neither used nor held."""
        _, _, used, held = self._current(part, at.now)
        return max(0, int(self.count - used - _living(held, at)[1]))

    def until(self, part: Part) -> int:
        """Return the end of the window; of a URL's, its account says how long it matters."""
        return int(part[1]) if part and self.period is not Period.LIFE else 0

    def _current(self, part: Part, now: int) -> Part:
        if part is None or now >= part[1]:
            return [*self.period.window(now), 0, None]
        if now < part[0]:
            end = self.period.window(now)[1]
            return [part[0], end, *part[2:]] if end < part[0] else part
        return part


@dataclass(frozen=True, slots=True)
class Uses(Check):
    """At most `count` calls, ever. The account has to outlive the URL that it is about."""

    count: int
    name: str = field(default="uses", init=False)
    label: ClassVar[str] = "uses"

    def take(self, part: Part, at: Moment) -> tuple[Wait, Part]:  # noqa: ARG002
        """Count one more."""
        used = int(part or 0)
        return (0, used + 1) if used < self.count else (None, part)

    def settle(self, part: Part, taken: Part, at: Moment, end: End) -> Part:  # noqa: ARG002
        """Return the part unchanged, or one less."""
        return part - 1 if end.returned and part else part

    def left(self, part: Part, at: Moment) -> int:  # noqa: ARG002
        """Return how many calls remain."""
        return max(0, self.count - int(part or 0))


def _living(held: Mapping[str, int] | None, at: Moment) -> tuple[dict[str, int], int]:
    """Return what the living hold, and its sum."""
    if not held:
        return {}, 0
    living = {holder: n for holder, n in held.items() if at.alive(holder)}
    return living, sum(living.values())


def _released(held: Mapping[str, int] | None, holder: str, less: int) -> dict[str, int]:
    rest = dict(held or {})
    remaining = rest.pop(holder, 0) - less
    if remaining > 0:
        rest[holder] = remaining
    return rest
