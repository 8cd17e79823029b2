"""Windows of the calendar: every moment is in exactly one, and the next begins where it ends."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy.quota.windows import FOREVER, MICROS, Period

moments = st.integers(0, 10**12 * 4)  # up to the year 2096, in milliseconds
CALENDAR = [Period.MINUTE, Period.HOUR, Period.DAY, Period.MONTH]


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * MICROS


@given(moments, st.sampled_from(CALENDAR))
def test_windows_follow_each_other_without_a_gap(millis: int, period: Period) -> None:
    now = millis * 1000
    start, end = period.window(now)
    assert start <= now < end
    assert period.window(start) == period.window(end - 1) == (start, end)
    assert period.window(end)[0] == end
    if start:
        assert period.window(start - 1)[1] == start


@given(moments)
def test_a_month_is_the_calendars(millis: int) -> None:
    start, end = Period.MONTH.window(millis * 1000)
    first = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=start)
    behind = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=end)
    assert (first.day, first.hour, first.minute) == (1, 0, 0)
    assert (behind.day, behind.month) == (1, first.month % 12 + 1)


@pytest.mark.parametrize(
    ("period", "now", "start", "end"),
    [
        (Period.MINUTE, "2026-02-28T23:59:59", "2026-02-28T23:59:00", "2026-03-01T00:00:00"),
        (Period.HOUR, "2026-02-28T23:59:59", "2026-02-28T23:00:00", "2026-03-01T00:00:00"),
        (Period.DAY, "2028-02-29T12:00:00", "2028-02-29T00:00:00", "2028-03-01T00:00:00"),
        (Period.MONTH, "2028-02-29T12:00:00", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        (Period.MONTH, "2026-12-31T23:59:59", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
    ],
)
def test_known_windows(period: Period, now: str, start: str, end: str) -> None:
    assert period.window(at(now)) == (at(start), at(end))


def test_a_life_never_ends() -> None:
    assert Period.LIFE.window(at("2026-01-01T00:00:00")) == (0, FOREVER)
