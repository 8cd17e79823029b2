"""Timers: over when it is time and not before, and good for being started again."""

import sys
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from swproxy.net.timer import ClockTimer, DescriptorTimer, Timer, make_timer

KINDS = [ClockTimer, DescriptorTimer] if sys.platform == "linux" else [ClockTimer]


@pytest.mark.parametrize("make", KINDS)
async def test_ends_when_its_time_is_over_and_not_before(make: Callable[[], Timer]) -> None:
    timer = make()
    try:
        timer.start(3600)
        with trio.move_on_after(0.01) as scope:
            await timer.expired()
        assert scope.cancelled_caught
        timer.start(0.001)
        with trio.fail_after(10):
            await timer.expired()
            await timer.expired()  # what is over stays so
        timer.start(3600)
        with trio.move_on_after(0.01) as scope:
            await timer.expired()
        assert scope.cancelled_caught
    finally:
        timer.close()


async def test_a_clock_timer_goes_by_the_clock_of_trio(mock_clock: MockClock) -> None:
    timer = ClockTimer()
    timer.start(3600)
    mock_clock.jump(3600)
    await timer.expired()


@pytest.mark.skipif(sys.platform != "linux", reason="timerfd_create(2) is Linux's")
def test_linux_has_timers_of_its_own() -> None:
    timer = make_timer()
    timer.close()
    assert isinstance(timer, DescriptorTimer)
