"""The feed for many, few and slow lookers, on a clock that jumps; there are no sockets here."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from swproxy.config.config import Config
from swproxy.daemon.compose import Place
from swproxy.daemon.live import MOST_LOOKERS, TAKE_SECONDS, Live
from swproxy.daemon.metrics import FIRST_BYTE_BOUNDS
from swproxy.daemon.percentiles import FirstBytes, quantile
from swproxy.daemon.report import Report
from swproxy.daemon.tally import Tally


class Watched:
    """One worker with a new request each time that it is asked."""

    config = Config()
    draining = False

    def __init__(self) -> None:
        self.asked = 0
        self.faulty = False
        self._tally = Tally()

    def tallies(self) -> Sequence[Tally]:
        return [self._tally]

    def places(self) -> Sequence[Place]:
        return [Place("0", "up", 1, trio.current_time(), 0.0)]

    async def reports(self, since: Sequence[int]) -> Sequence[Report | None]:
        await trio.lowlevel.checkpoint()
        if self.faulty:
            raise ZeroDivisionError
        self.asked += 1
        line = json.dumps({"time": f"{self.asked:06}", "number": self.asked})
        return [
            Report(calls=0, apps={}, oldest=[], first_bytes={}, requests=[line], last=self.asked)
        ]

    async def end_call(self, request_id: str) -> bool:
        raise NotImplementedError

    def note(self, event: str, **fields: object) -> None:
        raise NotImplementedError


class Looker:
    """Takes a frame every so many seconds."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self.frames: list[dict[str, Any]] = []

    async def take(self, data: bytes) -> None:
        self.frames.append(json.loads(data.removeprefix(b"event: frame\ndata: ")))
        await trio.sleep(self._seconds)

    def requests(self) -> list[int]:
        return [each["number"] for frame in self.frames for each in frame["requests"]]


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def faults() -> list[BaseException]:
    return []


@pytest.fixture
def live(
    watched: Watched,
    faults: list[BaseException],
    nursery: trio.Nursery,
) -> Live:
    live = Live(watched, faults.append)
    nursery.start_soon(live.run)
    return live


async def test_nobody_is_asked_while_nobody_looks(
    autojump_clock: MockClock, live: Live, watched: Watched
) -> None:
    await trio.sleep(100)
    assert watched.asked == 0
    for _ in range(2):
        with trio.move_on_after(3.5):
            await live.look(Looker().take)
        before = watched.asked
        await trio.sleep(100)
        assert watched.asked == before
    assert watched.asked == 8  # at once, and at each of three seconds, twice


async def test_many_look_at_the_price_of_one(
    autojump_clock: MockClock, live: Live, watched: Watched, nursery: trio.Nursery
) -> None:
    lookers = [Looker() for _ in range(MOST_LOOKERS)]
    assert not live.full
    for each in lookers:
        nursery.start_soon(live.look, each.take)
    await trio.sleep(5.5)
    assert live.full
    assert watched.asked == 6
    assert all(each.requests() == [1, 2, 3, 4, 5, 6] for each in lookers)


async def test_who_comes_later_gets_a_frame_at_once(
    autojump_clock: MockClock, live: Live, nursery: trio.Nursery
) -> None:
    nursery.start_soon(live.look, Looker().take)
    await trio.sleep(3.5)
    late = Looker()
    nursery.start_soon(live.look, late.take)
    await trio.sleep(0.1)
    assert late.requests() == [1, 2, 3, 4]


async def test_a_slow_one_sees_fewer_frames_but_every_request(
    autojump_clock: MockClock, live: Live, nursery: trio.Nursery
) -> None:
    slow = Looker(seconds=4.2)
    nursery.start_soon(live.look, slow.take)
    await trio.sleep(20.5)
    assert len(slow.frames) == 5
    assert slow.requests() == list(range(1, slow.requests()[-1] + 1))
    assert max(len(frame["requests"]) for frame in slow.frames) < 6


async def test_one_that_takes_nothing_is_given_up(autojump_clock: MockClock, live: Live) -> None:
    began = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        await live.look(Looker(seconds=1000).take)
    assert trio.current_time() - began == pytest.approx(TAKE_SECONDS)
    assert not live.full


async def test_no_more_than_the_last_hundred_are_kept(
    autojump_clock: MockClock, live: Live, nursery: trio.Nursery
) -> None:
    nursery.start_soon(live.look, Looker().take)
    await trio.sleep(149.5)
    late = Looker()
    nursery.start_soon(live.look, late.take)
    await trio.sleep(0.1)
    assert late.requests() == list(range(51, 151))


async def test_a_fault_ends_no_feed(
    autojump_clock: MockClock,
    live: Live,
    watched: Watched,
    faults: list[BaseException],
    nursery: trio.Nursery,
) -> None:
    looker = Looker()
    nursery.start_soon(live.look, looker.take)
    await trio.sleep(1.5)
    watched.faulty = True
    await trio.sleep(2)
    watched.faulty = False
    await trio.sleep(1)
    assert [type(each) for each in faults] == [ZeroDivisionError] * 2
    assert looker.requests() == [1, 2, 3]


def test_a_quantile_is_linear_within_its_bucket() -> None:
    counts = [0] * (len(FIRST_BYTE_BOUNDS) + 1)
    assert quantile(counts, 0.5) is None
    counts[1] = 10  # from 5 to 10 ms
    assert quantile(counts, 0.5) == pytest.approx(0.0075)
    counts[0] = 90
    assert quantile(counts, 0.5) == pytest.approx(0.005 * 50 / 90, abs=1e-6)
    assert quantile([0] * len(FIRST_BYTE_BOUNDS) + [3], 0.5) == FIRST_BYTE_BOUNDS[-1]


def test_first_bytes_are_those_of_the_last_minute() -> None:
    seen = FirstBytes()
    seen.add(0.0, [{"chat": {"0": 2}}, {"chat": {"1": 1}, "search": {"3": 1}}])
    seen.add(30.0, [{"chat": {"0": 1}}])
    assert [seen.of(app)["count"] for app in (None, "chat", "search", "none")] == [5, 4, 1, 0]
    seen.add(60.0, [])
    assert [seen.of(app)["count"] for app in (None, "chat", "search")] == [1, 1, 0]
    seen.add(90.0, [])
    assert seen.of("chat") == {"p50": None, "p95": None, "p99": None, "count": 0}
