"""The main job: an answer is relayed as it comes, whatever frames it, whoever asks."""

from collections.abc import Callable

import pytest
import trio

from tests.support.proxy import proxy
from tests.support.upstream import upstream
from tests.support.wire import API_KEY, End

EVENTS = [b"data: %d\n\n" % number for number in range(5)]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


HEADS = {
    "content-length": b"Content-Length: %d\r\n" % sum(map(len, EVENTS)),
    "chunked": b"Transfer-Encoding: chunked\r\n",
    "until-close": b"Connection: close\r\n",
}


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("framing", HEADS)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_each_event_arrives_before_the_next_is_sent(
    tls: bool, framing: str, version: bytes
) -> None:
    taken = trio.Semaphore(0)
    frame: Callable[[bytes], bytes] = chunk if framing == "chunked" else bytes

    async def stream_events(end: End) -> None:
        await end.read_head()
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
        await end.send(HEADS[framing] + b"\r\n")
        for event in EVENTS:
            await end.send(frame(event))
            await taken.acquire()
        if framing == "chunked":
            await end.send(b"0\r\n\r\n")

    async with upstream(stream_events, tls=tls) as server, proxy() as swproxy:
        client = await swproxy.connect()
        request = swproxy.request(server.url + "/v1/chat/completions")
        await client.send(request.replace(b"HTTP/1.1", b"HTTP/" + version))
        head = (await client.read_head()).lower()
        assert b" 200 ok\r\n" in head
        assert b"\r\ncontent-type: text/event-stream\r\n" in head
        assert b"\r\nx-accel-buffering: no\r\n" in head
        chunked = framing == "chunked" and version == b"1.1"
        assert (b"\r\ntransfer-encoding: chunked\r\n" in head) == chunked
        for event in EVENTS:
            # Not one byte of the next event exists until this one has been seen whole.
            assert await client.read_exactly(len(chunk(event) if chunked else event)) == (
                chunk(event) if chunked else event
            )
            taken.release()
        if chunked:
            assert await client.read_exactly(5) == b"0\r\n\r\n"
        if framing == "until-close" or version == b"1.0":
            assert await client.read_to_end() == b""
        assert b"Authorization: Bearer " + API_KEY.encode() in server.received
        (record,) = await swproxy.recorder.wait_for(1)
        assert (record.outcome, record.status) == ("complete", 200)


@pytest.mark.parametrize("moment", ["before the head", "during the answer"])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_client_that_leaves_closes_the_upstream_connection(moment: str, tls: bool) -> None:
    asked = trio.Event()
    closed = trio.Event()

    async def wait_for_end(end: End) -> None:
        await end.read_head()
        if moment == "during the answer":
            await end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        asked.set()
        await end.wait_closed()
        closed.set()

    async with upstream(wait_for_end, tls=tls) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url + "/"))
        if moment == "during the answer":
            await client.read_until(b"abc\r\n")
        await asked.wait()
        await client.aclose()
        with trio.fail_after(5):
            await closed.wait()
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "client-gone"


async def test_requests_on_one_connection_share_one_upstream_connection() -> None:
    async with upstream() as server, proxy() as swproxy:
        client = await swproxy.connect()
        for _ in range(3):
            await client.send(swproxy.request(server.url + "/"))
            assert (await client.read_response()).body == b"ok"
        assert len(server.connections) == 1


async def test_pipelined_requests_are_answered_in_turn() -> None:
    async with upstream() as server, proxy() as swproxy:
        client = await swproxy.connect()
        post = swproxy.request(server.url + "/", "OPTIONS")
        await client.send(swproxy.request(server.url + "/") + post)
        assert (await client.read_response()).body == b"ok"
        assert (await client.read_response()).body == b"ok"
        assert server.received.startswith(b"GET / HTTP/1.1\r\n")
        assert b"OPTIONS / HTTP/1.1\r\n" in server.received
