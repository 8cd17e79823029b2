"""A timer that costs its waiter no deadline of trio's.

`trio.sleep_until` makes a scope, files its deadline, and ends by raising and catching a Cancelled:
that is right for a timeout, which hardly ever ends so, and dear for somebody who sleeps a thousand
times a second. It also sleeps whole milliseconds, as epoll counts them. A timer descriptor
(timerfd_create(2)) is waited for like a socket, and to the microsecond.

Python has it from 3.13 on; before, it is two calls of the C library. `ClockTimer` is the same by
trio's clock, for systems without (macOS).
"""

import ctypes
import math
import os
import sys
import time
from typing import Protocol

import trio

__all__ = ["ClockTimer", "DescriptorTimer", "Timer", "make_timer"]


class Timer(Protocol):
    """Something to sleep by, for one task at a time."""

    def start(self, seconds: float) -> None:
        """Count from now; what was counted before is forgotten."""

    async def expired(self) -> None:
        """Return when the time is over, which it may be already. A checkpoint."""

    def close(self) -> None:
        """Release the descriptor."""


class ClockTimer:
    """A timer by trio's clock."""

    def __init__(self) -> None:
        self._deadline = -math.inf

    def start(self, seconds: float) -> None:
        """See Timer."""
        self._deadline = trio.current_time() + seconds

    async def expired(self) -> None:
        """See Timer."""
        await trio.sleep_until(self._deadline)

    def close(self) -> None:
        """See Timer."""


class DescriptorTimer:
    """A timer behind a descriptor."""

    def __init__(self) -> None:
        self._descriptor = _create()

    def start(self, seconds: float) -> None:
        """See Timer."""
        _set(self._descriptor, seconds)

    async def expired(self) -> None:
        """See Timer."""
        await trio.lowlevel.wait_readable(self._descriptor)

    def close(self) -> None:
        """See Timer."""
        os.close(self._descriptor)


if sys.version_info >= (3, 13) and sys.platform == "linux":

    def _create() -> int:
        return os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)

    def _set(descriptor: int, seconds: float) -> None:
        os.timerfd_settime(descriptor, initial=seconds)

else:

    class _TimerSpec(ctypes.Structure):
        # struct itimerspec. In each struct timespec, both numbers are as wide as a pointer where
        # that has 64 bits.
        _fields_ = (
            ("interval_seconds", ctypes.c_int64),
            ("interval_nanoseconds", ctypes.c_int64),
            ("seconds", ctypes.c_int64),
            ("nanoseconds", ctypes.c_int64),
        )

    _library = ctypes.CDLL(None, use_errno=True)
    _spec = _TimerSpec()
    _at_spec = ctypes.byref(_spec)

    def _create() -> int:
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        descriptor: int = _library.timerfd_create(time.CLOCK_MONOTONIC, flags)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        return descriptor

    def _set(descriptor: int, seconds: float) -> None:
        _spec.seconds, _spec.nanoseconds = divmod(int(seconds * 1e9), 1_000_000_000)
        _library.timerfd_settime(descriptor, 0, _at_spec, None)


def make_timer() -> Timer:
    """Return the best timer of this system."""
    if sys.platform == "linux" and sys.maxsize > 2**32:
        return DescriptorTimer()
    return ClockTimer()
