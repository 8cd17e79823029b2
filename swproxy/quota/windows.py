"""Windows of time that begin when the clock in UTC says so: at the full minute, hour, day, month.

A budget of a day is a budget of a calendar day, as every API's bill has it, and everybody's ends at
the same moment. Moments are whole microseconds since the epoch, so that sums are exact.
"""

from datetime import UTC, datetime, timedelta
from enum import Enum

__all__ = ["FOREVER", "MICROS", "Period"]

MICROS = 1_000_000
"""Microseconds in a second."""

FOREVER = 2**62
"""A moment that never comes (the year 148,000); still a whole number of 64 bits."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Period(Enum):
    """How long a window is. LIFE never ends: the budget of a URL."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    LIFE = "life"

    def window(self, now: int) -> tuple[int, int]:
        """Return the first moment of the window that `now` is in, and of the one behind it."""
        if self is Period.LIFE:
            return 0, FOREVER
        if self is Period.MONTH:
            day = _EPOCH + timedelta(microseconds=now)
            first = day.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            after = (first + timedelta(days=31)).replace(day=1)
            return _micros(first), _micros(after)
        length = _LENGTHS[self]
        start = now - now % length
        return start, start + length


_LENGTHS = {
    Period.MINUTE: 60 * MICROS,
    Period.HOUR: 3600 * MICROS,
    Period.DAY: 86400 * MICROS,
}


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
