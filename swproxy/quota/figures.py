"""Figures that are gathered in memory and written down now and then.

They are for people, who look at them; no decision depends on them. A worker that is killed loses
what it gathered since the last time, a second's worth.
"""

from collections.abc import Iterator
from datetime import date, timedelta

from swproxy.quota.accounts import Call
from swproxy.quota.checks import End
from swproxy.quota.ledger import Used
from swproxy.quota.windows import MICROS

__all__ = ["Figures", "day_of"]

_EPOCH = date(1970, 1, 1)
_DAY = 86400 * MICROS


def day_of(now: int) -> date:
    """Return the day, in UTC, of a moment in microseconds since the epoch."""
    return _EPOCH + timedelta(days=now // _DAY)


class Figures:
    """Sums by day, application and user; and how many calls of each are under way."""

    def __init__(self) -> None:
        self.sums: dict[tuple[int, str, str], Used] = {}
        self.streams: dict[tuple[str, str], int] = {}

    def of(self, now: int, app: str, user: str) -> Used:
        """Return the sum that `now` counts for, to be added to."""
        key = (now // _DAY, app, user)
        found = self.sums.get(key)
        if found is None:
            found = self.sums[key] = Used()
        return found

    def decided(self, now: int, call: Call, *, taken: bool) -> None:
        """Count a decision."""
        sums = self.of(now, call.app, call.user)
        if taken:
            sums.requests += 1
            key = (call.app, call.user)
            self.streams[key] = self.streams.get(key, 0) + 1
        else:
            sums.refused += 1

    def ended(self, now: int, call: Call, end: End, used: Used | None) -> None:
        """Count a call that is over; `used` is what it adds."""
        key = (call.app, call.user)
        remaining = self.streams[key] - 1
        if remaining:
            self.streams[key] = remaining
        else:
            del self.streams[key]
        sums = self.of(now, *key)
        if used is not None:
            sums.add(used)
        if end.returned:
            sums.requests -= 1

    def detach(self) -> "Figures":
        """Return the sums so far, for somebody to write, and begin them anew."""
        taken = Figures()
        taken.sums, self.sums = self.sums, {}
        taken.streams = dict(self.streams)
        return taken

    def take(self, most: int) -> "Figures":
        """Take out `most` of the sums, and return them."""
        taken = Figures()
        for key in list(self.sums)[:most]:
            taken.sums[key] = self.sums.pop(key)
        return taken

    def merge(self, rest: "Figures") -> None:
        """Take back sums that could not be written."""
        for key, more in rest.sums.items():
            self.sums.setdefault(key, Used()).add(more)

    def batches(self, size: int) -> Iterator[list[tuple[str, str, str, int, int, int, int, int]]]:
        """Yield rows of `used`, `size` at a time; each is dropped as the next one is asked for."""
        while self.sums:
            keys = list(self.sums)[:size]
            yield [
                (
                    (_EPOCH + timedelta(days=day)).isoformat(),
                    app,
                    user,
                    used.requests,
                    used.refused,
                    used.tokens_in,
                    used.tokens_out,
                    used.unknown,
                )
                for (day, app, user), used in ((key, self.sums[key]) for key in keys)
            ]
            for key in keys:
                del self.sums[key]
