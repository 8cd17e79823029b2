"""Reading a request body: its deadline in virtual time, its limits, and the spool's books."""

import math
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from swproxy.config.config import Limits
from swproxy.http.request import RequestHead, take_head
from swproxy.net.failure import DownstreamGone
from swproxy.proxy.body import GRACE_SECONDS, MIN_RATE, RequestBody, Upload
from swproxy.proxy.spool import Spool, SpoolBudget
from swproxy.sw1.refusal import Refusal


class Source:
    """A client: (seconds to wait, bytes that come then), and after the last nothing, for ever."""

    def __init__(self, *arrivals: tuple[float, bytes]) -> None:
        self.arrivals = list(arrivals)
        self.left = b""
        self.invited = 0

    async def receive(self) -> bytes:
        if not self.arrivals:
            await trio.sleep(math.inf)
        seconds, data = self.arrivals.pop(0)
        await trio.sleep(seconds)
        return data

    def receive_now(self) -> bytes:
        return b""

    async def invite(self) -> None:
        self.invited += 1

    def put_back(self, data: bytes) -> None:
        self.left = data


def head(*lines: bytes) -> RequestHead:
    data = b"POST / HTTP/1.1\r\nHost: a\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    found, _ = take_head(data, 0, Limits())
    assert found is not None
    return found


def body_of(source: Source, length: int, *lines: bytes, limit: int = 1 << 30) -> RequestBody:
    return RequestBody(source, head(b"Content-Length: %d" % length, *lines), limit=limit)


async def read_all(body: RequestBody) -> bytes:
    data = b""
    while piece := await body.read():
        data += piece
    return data


async def test_a_body_is_read_to_its_end_and_no_further(autojump_clock: MockClock) -> None:
    source = Source((0, b"he"), (1, b"l"), (1, b"loGET /"))
    assert await read_all(body_of(source, 5)) == b"hello"
    assert source.left == b"GET /"


@pytest.mark.parametrize("more", range(8))
async def test_a_large_piece_is_read_to_the_end_of_the_body_and_no_further(more: int) -> None:
    """Wherever the body ends: within a step, with it, or just behind it."""
    data = b"x" * (3 * 16384 - 20 + more)
    source = Source((0, b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) + b"GET /next"))
    body = RequestBody(source, head(b"Transfer-Encoding: chunked"), limit=1 << 30)
    assert await read_all(body) == data
    assert source.left == b"GET /next"


@pytest.mark.parametrize("seconds", [0.0, GRACE_SECONDS - 1])
async def test_a_client_may_take_its_time_to_begin(
    autojump_clock: MockClock, seconds: float
) -> None:
    assert await read_all(body_of(Source((seconds, b"hello")), 5)) == b"hello"


@pytest.mark.parametrize(
    "arrivals",
    [
        [],
        [(GRACE_SECONDS + 1, b"hello")],
        [(1.0, b"h")] * 40,
        [(GRACE_SECONDS / 2, b"hell"), (GRACE_SECONDS / 2 + 1, b"o")],
        [(0.0, b"x" * 99)],
    ],
    ids=["nothing", "all too late", "a byte a second", "the last too late", "all but the last"],
)
async def test_a_client_that_keeps_us_waiting_is_refused(
    autojump_clock: MockClock, arrivals: Sequence[tuple[float, bytes]]
) -> None:
    with pytest.raises(Refusal) as refused:
        await read_all(body_of(Source(*arrivals), 100))
    assert refused.value.code == "request-timeout"
    assert trio.current_time() <= GRACE_SECONDS + 5


async def test_a_steady_client_is_never_late(autojump_clock: MockClock) -> None:
    piece = b"x" * MIN_RATE
    source = Source(*[(1.0, piece)] * 1000)
    assert len(await read_all(body_of(source, 1000 * MIN_RATE))) == 1000 * MIN_RATE


async def test_who_has_sent_megabytes_may_not_pause_for_hours(autojump_clock: MockClock) -> None:
    source = Source(*[(0.0, b"x" * 65536)] * 255)
    with pytest.raises(Refusal) as refused:
        await read_all(body_of(source, 256 * 65536))
    assert refused.value.code == "request-timeout"
    assert trio.current_time() <= GRACE_SECONDS + 1


async def test_chunk_framing_buys_no_time(autojump_clock: MockClock) -> None:
    """What counts is payload: size lines and trailers can be sent for ever."""
    source = Source((0, b"0\r\n"), *[(1.0, b"a: b\r\n")] * 1000)
    body = RequestBody(source, head(b"Transfer-Encoding: chunked"), limit=100)
    with pytest.raises(Refusal) as refused:
        await read_all(body)
    assert refused.value.code == "request-timeout"


async def test_the_upstream_s_time_is_not_the_client_s(autojump_clock: MockClock) -> None:
    body = body_of(Source(*[(0.0, b"x")] * 10), 10)
    for _ in range(10):
        assert await body.read() == b"x"
        await trio.sleep(GRACE_SECONDS)  # it is being sent on
    assert await body.read() == b""


async def test_a_client_that_ends_early_is_gone(autojump_clock: MockClock) -> None:
    with pytest.raises(DownstreamGone):
        await read_all(body_of(Source((0, b"hell"), (0, b"")), 5))


async def test_a_client_is_invited_once_and_only_if_it_waits(autojump_clock: MockClock) -> None:
    source = Source((0, b"hel"), (0, b"lo"))
    assert await read_all(body_of(source, 5, b"Expect: 100-continue")) == b"hello"
    assert source.invited == 1
    source = Source((0, b"lo"))
    body = body_of(source, 5, b"Expect: 100-continue")
    assert body.take(b"hel") == b"hel"
    assert await read_all(body) == b"lo"
    assert source.invited == 0


def test_a_body_too_large_is_refused_as_soon_as_that_is_known() -> None:
    with pytest.raises(Refusal) as refused:
        body_of(Source(), 11, limit=10)
    assert refused.value.code == "body-too-large"
    body = RequestBody(Source(), head(b"Transfer-Encoding: chunked"), limit=10)
    assert body.take(b"5\r\nhello\r\n") == b"hello"
    with pytest.raises(Refusal) as refused:
        body.take(b"6\r\n")
    assert refused.value.code == "body-too-large"


async def test_an_upload_of_a_spool_can_be_sent_again(autojump_clock: MockClock) -> None:
    spool = Spool(SpoolBudget(1 << 20))
    data = bytes(range(256)) * 1024
    spool.write(data)
    upload = Upload.of_spool(spool)
    assert upload.replayable
    assert upload.length == len(data)
    for _ in range(2):
        sent = b""
        while piece := await upload.next_piece():
            sent += piece
        assert sent == data
        upload.restart()
    spool.close()


async def test_a_small_upload_is_whole_and_can_be_forgotten() -> None:
    spool = Spool(SpoolBudget(1 << 20))
    spool.write(b"hello")
    upload = Upload.of_spool(spool)
    assert upload.whole == b"hello"
    upload.forget()
    assert upload.whole == b""
    assert upload.length == 5
    spool.close()
