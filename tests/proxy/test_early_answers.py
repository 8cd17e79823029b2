"""Uploads and answers that overlap: an early answer is heard, and nobody is blamed for another."""

import pytest
import trio

from tests.support.proxy import proxy
from tests.support.upstream import take_and_answer, upstream
from tests.support.wire import End

LARGE = 6_000_000
"""More than all buffers on the way hold together."""

TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\n\r\ntoo large"


def upload_head(target: bytes, framing: str) -> bytes:
    line = b"Transfer-Encoding: chunked" if framing == "chunked" else b"Content-Length: %d" % LARGE
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (target, line)


def pieces(framing: str) -> list[bytes]:
    piece = b"x" * 60_000
    count = LARGE // len(piece)
    if framing == "chunked":
        return [b"%x\r\n%b\r\n" % (len(piece), piece)] * count + [b"0\r\n\r\n"]
    return [piece] * count


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
@pytest.mark.parametrize("then", ["hang", "close", "reset"])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_client_that_sends_all_before_it_reads_gets_an_early_answer(
    framing: str, then: str, tls: bool
) -> None:
    async def refuse(end: End) -> None:
        await end.read_head()
        await end.send(TOO_LARGE)
        if then == "reset":
            await refused.wait()
            await end.reset()
        elif then == "hang":
            await end.stream.send_all(b"")
            await refused.wait()

    refused = trio.Event()
    async with upstream(refuse, tls=tls) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(upload_head(swproxy.target(server.url, "POST"), framing))
        # The answer is complete before the upload is, and known to be under way.
        (record,) = await swproxy.recorder.wait_for(1)
        refused.set()
        for piece in pieces(framing):
            await client.send(piece)
        answer = await client.read_response()
        assert (answer.status, answer.body) == (413, b"too large")
        assert answer.headers["connection"] == "close"
        assert await client.wait_closed() == "closed"
        assert (record.outcome, record.status) == ("complete", 413)
        await server.wait_all_closed()


async def test_an_answer_may_begin_before_the_upload_ends() -> None:
    async def converse(end: End) -> None:
        await end.read_head()
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        for _ in range(3):
            piece = await end.read_exactly(2)
            await end.send(piece)
        await take_and_answer(end)

    async with upstream(converse) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url, "POST", headers=b"Content-Length: 6\r\n"))
        assert b" 200 OK\r\n" in await client.read_head()
        for piece in (b"ab", b"cd", b"ef"):
            await client.send(piece)
            assert await client.read_exactly(2) == piece
        assert await client.wait_closed() == "closed"
        (record,) = await swproxy.recorder.wait_for(1)
        assert (record.outcome, record.bytes_up, record.bytes_down) == ("complete", 6, 6)


async def test_an_upload_that_breaks_off_cuts_the_answer_that_has_begun() -> None:
    async def converse(end: End) -> None:
        await end.read_head()
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nab")
        await end.wait_closed()

    async with upstream(converse) as server, proxy() as swproxy:
        client = await swproxy.connect()
        lines = b"Transfer-Encoding: chunked\r\n"
        await client.send(swproxy.request(server.url, "POST", headers=lines))
        await client.read_until(b"\r\n\r\nab")
        await client.send(b"nonsense\r\n")
        assert await client.wait_closed() == "reset"
        await server.wait_all_closed()
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.code == "request-malformed"


async def test_a_pause_in_the_upload_is_not_the_upstream_s_silence() -> None:
    """The time to the first byte counts from the end of the request."""
    late = {"first_byte_seconds": 0.05}
    async with upstream(take_and_answer) as server, proxy(upstreams=late) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url, "POST", headers=b"Content-Length: 2\r\n"))
        await server.wait_for_connections(1)
        await client.send(b"a")
        await trio.sleep(0.2)
        await client.send(b"b")
        answer = await client.read_response()
        assert (answer.status, answer.body) == (200, b"ok")


async def test_an_upstream_that_takes_nothing_more_is_late() -> None:
    async def stall(end: End) -> None:
        await end.read_head()
        await release.wait()

    release = trio.Event()
    late = {"idle_seconds": 0.1}
    async with upstream(stall) as server, proxy(upstreams=late) as swproxy:
        client = await swproxy.connect()
        head = upload_head(swproxy.target(server.url, "POST"), "content-length")

        async def send_all() -> None:
            await client.stream.send_all(head + b"x" * LARGE)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all)
            answer = await client.read_response()
            assert answer.status == 504
            assert b"stopped reading" in answer.body
        release.set()
        await server.wait_all_closed()


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
@pytest.mark.parametrize("signed", [False, True], ids=["body free", "body signed"])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_large_upload_arrives_as_it_was_sent(framing: str, signed: bool, tls: bool) -> None:
    body = bytes(range(256)) * 4000
    received = []

    async def take(end: End) -> None:
        received.append((await end.read_request())[1])
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await take_and_answer(end)

    async with upstream(take, tls=tls) as server, proxy() as swproxy:
        client = await swproxy.connect()
        target = swproxy.target(server.url, "POST", **({"body": body} if signed else {}))
        if framing == "chunked":
            lines = b"Transfer-Encoding: chunked"
            data = b"".join(
                b"%x;n=%d\r\n%b\r\n" % (len(part), index, part)
                for index in range(0, len(body), 99_999)
                if (part := body[index : index + 99_999])
            )
            data += b"0\r\nTrailer: x\r\n\r\n"
        else:
            lines = b"Content-Length: %d" % len(body)
            data = body
        await client.send(b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (target, lines) + data)
        assert (await client.read_response()).body == b"ok"
        assert received == [body]
        await client.send(swproxy.request(server.url))
        assert (await client.read_response()).body == b"ok"
        assert len(server.connections) == 1
