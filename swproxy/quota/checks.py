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
a window that has not begun ends with the one that the clock says it is now. So nobody gets a call
more, and nobody is locked out for longer than a burst or a window takes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from swproxy.quota.windows import FOREVER, MICROS, Period

__all__ = ["Budget", "Check", "End", "Moment", "Part", "Places", "Rate", "Uses"]

Part = Any

_SOON = MICROS
"""How long to wait for a place. Nobody knows when one will be free."""


@dataclass(frozen=True, slots=True)
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
    holds: ClassVar[bool] = False
    """whether a call has something at hand until it is settled"""

    def wait(self, part: Part, at: Moment) -> int | None:
        """Return in how many microseconds the call could be taken: 0 is now, None is never."""
        raise NotImplementedError

    def take(self, part: Part, at: Moment) -> Part:
        """Return the part with the call in it."""
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
    name: str = field(default="requests", init=False)

    @property
    def interval(self) -> int:
        """Microseconds from one call to the next at the steady pace."""
        return -(-self.seconds * MICROS // self.count)

    def _paid(self, part: Part, now: int) -> int:
        """Return when all that was taken is paid off: neither past, nor further than a burst."""
        return min(max(part or 0, now), now + self.burst * self.interval)

    def wait(self, part: Part, at: Moment) -> int:
        """Return how long until one call less than a burst is to be paid off."""
        return max(0, self._paid(part, at.now) - at.now - (self.burst - 1) * self.interval)

    def take(self, part: Part, at: Moment) -> int:
        """Return a moment one interval later."""
        return self._paid(part, at.now) + self.interval

    def settle(self, part: Part, taken: Part, at: Moment, end: End) -> Part:  # noqa: ARG002
        """Return the part unchanged, or one interval earlier."""
        return part - self.interval if end.returned and part else part

    def left(self, part: Part, at: Moment) -> int:
        """Return how many calls would be taken at once."""
        return self.burst + (at.now - self._paid(part, at.now)) // self.interval

    def until(self, part: Part) -> int:
        """Return the moment when everything is paid off."""
        return part or 0


@dataclass(frozen=True, slots=True)
class Places(Check):
    """At most `count` calls under way. The part: holder to number."""

    count: int
    name: str = field(default="places", init=False)
    holds: ClassVar[bool] = True

    def wait(self, part: Part, at: Moment) -> int:
        """Return 0, or a second."""
        return 0 if _held(part, at) < self.count else _SOON

    def take(self, part: Part, at: Moment) -> dict[str, int]:
        """Return the part with one more for the holder."""
        return _hold(part, at, 1)

    def settle(self, part: Part, taken: Part, at: Moment, end: End) -> Part:  # noqa: ARG002
        """Return the part with one less for the holder."""
        return _release(part, at, 1)

    def left(self, part: Part, at: Moment) -> int:
        """Return how many places are free."""
        return max(0, self.count - _held(part, at))


@dataclass(frozen=True, slots=True)
class Budget(Check):
    """At most `count` tokens in a window. The part: its begin and end, tokens used, and held."""

    count: int
    period: Period
    name: str = field(init=False)
    holds: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"tokens/{self.period.value}")

    def _current(self, part: Part, now: int) -> Part:
        if part is None or now >= part[1]:
            return [*self.period.window(now), 0, {}]
        if now < part[0]:
            return [part[0], min(part[1], self.period.window(now)[1]), *part[2:]]
        return part

    def wait(self, part: Part, at: Moment) -> int | None:
        """Return how long until the next window, if this one has no room and the next one could."""
        if at.tokens > self.count:
            return None
        _, end, used, held = self._current(part, at.now)
        if used < self.count and used + _held(held, at) + at.tokens <= self.count:
            return 0
        return None if end == FOREVER else end - at.now

    def take(self, part: Part, at: Moment) -> Part:
        """Return the present window with the call's tokens held."""
        start, end, used, held = self._current(part, at.now)
        return [start, end, used, _hold(held, at, at.tokens)]

    def settle(self, part: Part, taken: Part, at: Moment, end: End) -> Part:
        """Return the window with tokens used instead of held, if it is still the same."""
        if part is None or part[0] != taken[0]:
            return part
        used = 0 if end.returned else at.tokens if end.tokens is None else end.tokens
        return [part[0], part[1], part[2] + used, _release(part[3], at, at.tokens)]

    def left(self, part: Part, at: Moment) -> int:
        """Return how many tokens are neither used nor held."""
        _, _, used, held = self._current(part, at.now)
        return max(0, int(self.count - used - _held(held, at)))

    def until(self, part: Part) -> int:
        """Return the end of the window."""
        return int(part[1]) if part else 0


@dataclass(frozen=True, slots=True)
class Uses(Check):
    """At most `count` calls, ever. The account has to outlive the URL that it is about."""

    count: int
    name: str = field(default="uses", init=False)

    def wait(self, part: Part, at: Moment) -> int | None:  # noqa: ARG002
        """Return 0, or None."""
        return None if part is not None and part >= self.count else 0

    def take(self, part: Part, at: Moment) -> int:  # noqa: ARG002
        """Return one more."""
        return int(part or 0) + 1

    def settle(self, part: Part, taken: Part, at: Moment, end: End) -> Part:  # noqa: ARG002
        """Return the part unchanged, or one less."""
        return part - 1 if end.returned and part else part

    def left(self, part: Part, at: Moment) -> int:  # noqa: ARG002
        """Return how many calls remain."""
        return max(0, self.count - int(part or 0))


def _held(held: Mapping[str, int] | None, at: Moment) -> int:
    return sum([n for holder, n in held.items() if at.alive(holder)]) if held else 0


def _hold(held: Mapping[str, int] | None, at: Moment, more: int) -> dict[str, int]:
    """Return what the living hold, and `more` for the taker."""
    living = {holder: n for holder, n in held.items() if at.alive(holder)} if held else {}
    if more:
        living[at.holder] = living.get(at.holder, 0) + more
    return living


def _release(held: Mapping[str, int] | None, at: Moment, less: int) -> dict[str, int]:
    rest = dict(held or {})
    remaining = rest.pop(at.holder, 0) - less
    if remaining > 0:
        rest[at.holder] = remaining
    return rest
