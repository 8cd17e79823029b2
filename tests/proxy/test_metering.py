"""Bytes in the log and in the metrics, against what went over the wires, however a request ends."""

from pathlib import Path

import pytest
import trio

from swproxy.config.listen_address import UnixAddress
from tests.support.proxy import Proxy, proxy
from tests.support.upstream import upstream
from tests.support.wire import APP_ID, End

HEAD = b"HTTP/1.1 200 OK\r\n"


async def metered(swproxy: Proxy, admin: str) -> tuple[int, int]:
    """Return the bytes up and down of the one request, alike in its record and in the metrics."""
    (record,) = await swproxy.recorder.wait_for(1)
    async with await trio.open_unix_socket(admin) as stream:
        end = End(stream)
        await end.send(b"GET /metrics HTTP/1.1\r\nHost: admin\r\n\r\n")
        told = (await end.read_response()).body.decode().splitlines()
    for way, count in (("up", record.bytes_up), ("down", record.bytes_down)):
        labels = f'app="{record.app}",direction="{way}"'
        assert f"swproxy_bytes_total{{{labels}}} {float(count)}" in told
    return record.bytes_up, record.bytes_down


def body_of(received: bytes | bytearray) -> bytes:
    """Return what came behind the head of the last message, which is the only one with a body."""
    return bytes(received).partition(b"\r\n\r\n")[2]


@pytest.fixture
def admin(tmp_path: Path) -> str:
    return f"{tmp_path}/admin"


def serving(admin: str) -> dict[str, UnixAddress]:
    return {"admin_listen": UnixAddress(admin)}


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize(
    "answer",
    [
        b"Content-Length: 300000\r\n\r\n" + b"x" * 300000,
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n",
        b"Connection: close\r\n\r\n" + b"until the end",
        b"Content-Length: 0\r\n\r\n",
    ],
    ids=["length", "chunked", "until-close", "empty"],
)
async def test_a_whole_answer(tls: bool, answer: bytes, admin: str) -> None:
    async def serve(end: End) -> None:
        await end.read_head()
        await end.send(HEAD + answer)

    async with upstream(serve, tls=tls) as server, proxy(server=serving(admin)) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url, headers=b"Connection: close\r\n"))
        await client.wait_closed()
        assert await metered(swproxy, admin) == (0, len(body_of(client.received)))
        assert len(body_of(client.received)) == len(body_of(answer))


async def test_an_answer_that_the_upstream_breaks_off(admin: str) -> None:
    async def serve(end: End) -> None:
        await end.read_head()
        await end.send(HEAD + b"Content-Length: 100\r\n\r\nonly this")

    async with upstream(serve) as server, proxy(server=serving(admin)) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url))
        await client.read_until(b"only this")
        assert await client.wait_closed() == "reset"
        assert await metered(swproxy, admin) == (0, 9)
        assert swproxy.recorder.records[0].outcome == "upstream-failed"


async def test_an_answer_that_the_client_leaves(admin: str) -> None:
    async def serve(end: End) -> None:
        await end.read_head()
        await end.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await end.wait_closed()

    async with upstream(serve) as server, proxy(server=serving(admin)) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url))
        await client.read_until(b"hello\r\n")
        await client.aclose()
        assert await metered(swproxy, admin) == (0, 10)
        assert swproxy.recorder.records[0].outcome == "client-gone"


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [5, 200_000])
async def test_a_whole_upload(chunked: bool, size: int, admin: str) -> None:
    async def serve(end: End) -> None:
        await end.read_head()
        if chunked and size > 5:
            await end.read_until(b"\r\n0\r\n\r\n")
        elif chunked:
            await end.read_until(b"x")
        else:
            await end.read_exactly(size)
        await end.send(HEAD + b"Content-Length: 2\r\n\r\nok")
        await end.wait_closed()

    async with upstream(serve) as server, proxy(server=serving(admin)) as swproxy:
        client = await swproxy.connect()
        framing = b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: %d\r\n" % size
        head = swproxy.request(server.url, "POST", headers=framing + b"Connection: close\r\n")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size) if chunked else b"x" * size
        await client.send(head + body)
        assert (await client.read_response()).body == b"ok"
        up, down = await metered(swproxy, admin)
        assert down == 2
        await client.wait_closed()
    assert up == len(body_of(server.received))


async def test_an_upload_that_the_client_leaves(admin: str) -> None:
    async def serve(end: End) -> None:
        await end.read_head()
        await end.read_exactly(1000)
        await end.wait_closed()

    async with upstream(serve) as server, proxy(server=serving(admin)) as swproxy:
        client = await swproxy.connect()
        head = swproxy.request(server.url, "POST", headers=b"Content-Length: 5000\r\n")
        await client.send(head + b"x" * 1000)
        with trio.fail_after(5):
            while b"x" * 1000 not in server.received:
                await trio.sleep(0.002)
        await client.aclose()
        up, down = await metered(swproxy, admin)
        assert (up, down) == (1000, 0)
        assert len(body_of(server.received)) == 1000


async def test_a_refusal(admin: str) -> None:
    async with proxy(server=serving(admin)) as swproxy:
        client = await swproxy.connect()
        await client.send(b"GET /?a=b HTTP/1.1\r\nHost: swproxy\r\nConnection: close\r\n\r\n")
        await client.wait_closed()
        assert await metered(swproxy, admin) == (0, len(body_of(client.received)))
        assert swproxy.recorder.records[0].app != APP_ID
