"""The demo's small HTTP server, over memory streams."""

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from swproxy.demo.web import BODY_BYTES, IDLE_SECONDS, Exchange, Request, converse


async def echo(exchange: Exchange) -> None:
    await exchange.answer(200, "text/plain", exchange.request.body)


async def talk(data: bytes, *, then_wait: bool = False) -> bytes:
    """Send `data` to an echoing server and return all that it answers until it closes."""
    ours, theirs = memory_stream_pair()
    answer = b""
    async with trio.open_nursery() as nursery, ours:
        nursery.start_soon(converse, theirs, echo)
        await ours.send_all(data)
        if not then_wait:
            await ours.send_eof()
        async for part in ours:
            answer += part
    return answer


async def test_requests_on_one_connection_are_answered_in_order() -> None:
    first = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none"
    second = (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
    )
    answer = await talk(first + second)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.index(b"one") < answer.index(b"two")


async def test_close_is_honoured() -> None:
    request = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\n1"
    assert (await talk(request + request, then_wait=True)).count(b"HTTP/1.1 200") == 1


async def test_a_body_is_waited_for_only_after_100_continue() -> None:
    ours, theirs = memory_stream_pair()
    head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    async with trio.open_nursery() as nursery, ours:
        nursery.start_soon(converse, theirs, echo)
        await ours.send_all(head)
        assert (await ours.receive_some()).startswith(b"HTTP/1.1 100 ")
        await ours.send_all(b"1")
        assert (await ours.receive_some()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHo",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\ncut",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n" + b"x" * (BODY_BYTES + 1),
    ],
)
async def test_what_is_no_request_ends_the_connection(data: bytes) -> None:
    assert await talk(data) == b""


async def test_a_silent_caller_is_sent_away(autojump_clock: MockClock) -> None:
    assert await talk(b"", then_wait=True) == b""
    assert trio.current_time() == pytest.approx(IDLE_SECONDS)


async def test_the_request_is_read_as_sent() -> None:
    seen: list[Request] = []

    async def note(exchange: Exchange) -> None:
        seen.append(exchange.request)
        await exchange.answer(200, "text/plain", b"")

    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery, ours:
        nursery.start_soon(converse, theirs, note)
        await ours.send_all(b"GET /a?b HTTP/1.1\r\nHost: x\r\nX-Y: z\r\n\r\n")
        assert (await ours.receive_some()).startswith(b"HTTP/1.1 200 ")
    head = b"GET /a?b HTTP/1.1\r\nHost: x\r\nX-Y: z\r\n\r\n"
    assert seen == [Request("GET", "/a", {"host": "x", "x-y": "z"}, b"", head)]


@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 3\r\n\r\none", b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n"],
)
async def test_a_connection_is_handed_over_with_its_request(body: bytes) -> None:
    near, front = memory_stream_pair()
    back, far = memory_stream_pair()
    request = b"POST /sw/?a=%20b HTTP/1.1\r\nHost: x\r\nX-UP: y\r\n" + body
    async with trio.open_nursery() as nursery, near, far:
        nursery.start_soon(converse, front, lambda exchange: exchange.hand_over(back))
        await near.send_all(request)
        assert await far.receive_some() == request
        await far.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        assert (await near.receive_some()).startswith(b"HTTP/1.1 101 ")
        await near.send_all(b"whatever")
        assert await far.receive_some() == b"whatever"
        await far.send_eof()
        assert await near.receive_some() == b""
