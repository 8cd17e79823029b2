"""What one worker tells of itself when it is asked, for the frames of the live feed.

Nobody asks unless somebody looks, once a second then. What is there to be told in between is the
last hundred records, kept as they are; and, while somebody looks, a count for each first byte.
Calls under way are asked in slices, as thousands of them must not keep the loop.

Bytes of a call move from the call to the tally when it ends. Both are read in the same turn of the
loop, so that no byte is told twice, or for a while not at all: rates made of sums would leap.
"""

import itertools
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from typing import TypedDict

import trio

from swproxy.daemon.formats import JSON, MOST_PATH, timestamp
from swproxy.daemon.frame import Stream
from swproxy.daemon.metrics import FIRST_BYTE_BOUNDS, Metrics
from swproxy.daemon.repeats import Repeats
from swproxy.proxy.record import Record
from swproxy.proxy.worker import Standing

__all__ = ["MOST_REQUESTS", "MOST_STREAMS", "Moved", "Report", "Reporter", "end_call"]

MOST_REQUESTS = 100
MOST_STREAMS = 100

_SLICE = 200
_LOOKING_SECONDS = 5.0
"""After the last question nobody looks any more."""

_RECENT_SECONDS = 60.0

_ENDED = "The call was ended by hand."

_Moved = tuple[bool, int, int, int | None]


class Moved(TypedDict):
    """What has passed for an application, that of calls under way included."""

    streams: int
    up: int
    down: int
    tokens: int


class Report(TypedDict):
    """What a worker tells."""

    calls: int
    """how many are under way"""
    apps: dict[str, Moved]
    """those with calls under way"""
    oldest: list[Stream]
    first_bytes: dict[str, dict[str, int]]
    """by application and bucket, since the last question; for the first, in the last minute"""
    requests: list[str]
    """lines of the log in JSON, the oldest first"""
    last: int
    """how many requests there have been, to be given with the next question"""


class Reporter:
    """An observer that remembers what a worker may be asked for; `calls` are those under way."""

    def __init__(self, metrics: Metrics, calls: Callable[[], Mapping[Standing, None]]) -> None:
        self._metrics = metrics
        self._calls = calls
        self._recent: deque[Record] = deque(maxlen=MOST_REQUESTS)
        self._count = 0
        self._repeats = Repeats()
        self._first_bytes: dict[str, dict[str, int]] | None = None
        self._until = 0.0

    def began(self, record: Record) -> None:
        """Take note of nothing: a call under way is asked itself."""

    def ended(self, record: Record) -> None:
        """Remember a request, if it is one that the log would have a line for."""
        if not record.app:
            list(self._repeats.ended(int(record.ended)))
            if not self._repeats.passes(record.client, record.code or record.outcome):
                return
        self._recent.append(record)
        self._count += 1
        if self._first_bytes is not None:
            if record.ended > self._until:
                self._first_bytes = None
            else:
                _count_first_byte(self._first_bytes, record)

    def crashed(self, error: BaseException) -> None:
        """Take note of nothing: the log has it."""

    async def report(self, since: int) -> Report:
        """Tell how things are, and which requests there were after the first `since`."""
        moved: dict[Standing, _Moved] = {}
        sums: dict[str, list[int]] = {}
        calls = self._calls()
        for number, call in enumerate(list(calls)):
            if number % _SLICE == _SLICE - 1:
                await trio.lowlevel.checkpoint()
            how = moved[call] = (call.record.streamed, *call.progress.moved())
            _add(sums, call.app_id, how, +1)
        # From here to the end is one turn of the loop. Who has ended meanwhile is in the tally.
        for call in moved.keys() - calls.keys():
            _add(sums, call.app_id, moved.pop(call), -1)
        now = trio.current_time()
        self._until = now + _LOOKING_SECONDS
        first_bytes, self._first_bytes = self._first_bytes, {}
        if first_bytes is None:
            first_bytes = {}
            for record in self._recent:
                if record.ended >= now - _RECENT_SECONDS:
                    _count_first_byte(first_bytes, record)
        oldest = [
            _stream(call.record, how, now)
            for call, how in itertools.islice(moved.items(), MOST_STREAMS)
        ]
        return Report(
            calls=len(moved),
            apps={app: self._moved(app, *each) for app, each in sums.items() if any(each)},
            oldest=oldest,
            first_bytes=first_bytes,
            requests=self._lines(self._count - since, now),
            last=self._count,
        )

    def _moved(self, app: str, streams: int, up: int, down: int, tokens: int) -> Moved:
        counted_up, counted_down, counted_tokens = self._metrics.moved(app)
        return Moved(
            streams=streams,
            up=up + counted_up,
            down=down + counted_down,
            tokens=tokens + counted_tokens,
        )

    def _lines(self, count: int, now: float) -> list[str]:
        fresh = list(self._recent)[-count:] if count > 0 else []
        wall = time.time() - now
        return [JSON.request(record, timestamp(wall + record.ended)) for record in fresh]


def end_call(calls: Mapping[Standing, None], request_id: str) -> bool:
    """End a call under way as one that was revoked is ended; tell whether there is such a one."""
    found = [call for call in calls if call.record.request_id == request_id]
    for call in found:
        call.end("ended", _ENDED)
    return bool(found)


def _add(sums: dict[str, list[int]], app: str, how: _Moved, sign: int) -> None:
    found = sums.get(app)
    if found is None:
        found = sums[app] = [0, 0, 0, 0]
    streamed, up, down, tokens = how
    found[0] += sign * streamed
    found[1] += sign * up
    found[2] += sign * down
    found[3] += sign * (tokens or 0)


def _count_first_byte(counts: dict[str, dict[str, int]], record: Record) -> None:
    if record.streamed and record.first_byte is not None:
        bucket = str(bisect_left(FIRST_BYTE_BOUNDS, record.first_byte - record.started))
        of_app = counts.setdefault(record.app, {})
        of_app[bucket] = of_app.get(bucket, 0) + 1


def _stream(record: Record, how: _Moved, now: float) -> Stream:
    _, up, down, tokens = how
    return Stream(
        id=record.request_id,
        app=record.app,
        user=record.user,
        client=record.client,
        kind="websocket" if record.kind == "websocket" else "http",
        method=record.method,
        origin=record.origin,
        path=record.path[:MOST_PATH],
        state="streaming" if record.streamed else "waiting",
        age=round(now - record.started, 3),
        bytes_up=up,
        bytes_down=down,
        tokens=tokens,
    )
