"""How much may be called: so many requests in a time, so many at once, so many tokens in a time.

    20/minute, 20/minute burst 5        requests: per second, minute, hour or day
    50000/day                           tokens: in each minute, hour, day or month of UTC

What has been used up of it is counted in `quota`.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal, cast

__all__ = [
    "NO_ALLOWANCE",
    "Allowance",
    "Pace",
    "TokenBudget",
    "Window",
    "parse_pace",
    "parse_token_budget",
]

Window = Literal["minute", "hour", "day", "month"]

_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_PACE: Final = re.compile(
    r"([1-9][0-9]{0,8})/(second|minute|hour|day)(?: burst ([1-9][0-9]{0,8}))?"
)
_TOKENS: Final = re.compile(r"([1-9][0-9]{0,12})/(minute|hour|day|month)")


@dataclass(frozen=True, slots=True)
class Pace:
    """At most `burst` requests at once, and `count` in `seconds` from then on."""

    count: int
    seconds: int
    burst: int

    @property
    def per_second(self) -> float:
        """Return how many requests a second go on for ever."""
        return self.count / self.seconds


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """At most `count` tokens in each window of the calendar."""

    count: int
    window: Window


@dataclass(frozen=True, slots=True)
class Allowance:
    """What may be used; None is as much as you like. False if all of it is."""

    requests: Pace | None = None
    concurrent: int | None = None
    tokens: TokenBudget | None = None

    def __bool__(self) -> bool:
        return self.requests is not None or self.concurrent is not None or self.tokens is not None


NO_ALLOWANCE: Final = Allowance()


def parse_pace(text: str) -> Pace:
    """Read a rate of requests; raises ValueError."""
    match = _PACE.fullmatch(text)
    if match is None:
        raise ValueError(
            'is not a rate of requests such as "20/minute" or "20/minute burst 5", per second,'
            " minute, hour or day"
        )
    count, unit, burst = match.groups()
    return Pace(int(count), _SECONDS[unit], int(burst or count))


def parse_token_budget(text: str) -> TokenBudget:
    """Read a budget of tokens; raises ValueError."""
    match = _TOKENS.fullmatch(text)
    if match is None:
        raise ValueError('is not a budget of tokens such as "50000/day", per minute to month')
    count, window = match.groups()
    return TokenBudget(int(count), cast("Window", window))
