"""The admin listener, and that nothing leads to it from the public one."""

from pathlib import Path

import pytest
import trio

from swproxy.config.listen_address import UnixAddress
from tests.support.wire import End, Response, proxy, upstream


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"{tmp_path}/admin"


def at(path: str) -> dict[str, UnixAddress]:
    return {"admin_listen": UnixAddress(path)}


async def ask(path: str, line: bytes, *, head_only: bool = False) -> Response:
    async with await trio.open_unix_socket(path) as stream:
        end = End(stream)
        await end.send(line + b" HTTP/1.1\r\nHost: admin\r\n\r\n")
        response = await end.read_response(head_only=head_only)
        assert await end.read_to_end() == b""
        return response


async def test_it_answers_what_it_is_for(path: str) -> None:
    async with upstream() as server, proxy(server=at(path)) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url))
        assert (await client.read_response()).status == 200
        await swproxy.recorder.wait_for(1)
        assert (await ask(path, b"GET /healthz")).body == b"alive\n"
        assert (await ask(path, b"GET /readyz?x=1")).body == b"ready\n"
        metrics = await ask(path, b"GET /metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        told = metrics.body.decode().splitlines()
        assert 'swproxy_requests_total{app="test-app",outcome="complete"} 1.0' in told
        assert 'swproxy_bytes_total{app="test-app",direction="down"} 2.0' in told
        assert "swproxy_connections 1.0" in told
        assert 'swproxy_upstream_connections{state="idle"} 1.0' in told
        assert 'swproxy_upstream_connections{state="active"} 0.0' in told


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /", 404),
        (b"GET /metrics/", 404),
        (b"POST /metrics", 405),
        (b"DELETE /healthz", 405),
    ],
)
async def test_it_answers_nothing_else(path: str, line: bytes, status: int) -> None:
    async with proxy(server=at(path)):
        assert (await ask(path, line)).status == status


async def test_a_head_has_no_body(path: str) -> None:
    async with proxy(server=at(path)):
        response = await ask(path, b"HEAD /healthz", head_only=True)
        assert (response.status, response.headers["content-length"]) == (200, "6")


async def test_noise_is_survived(path: str) -> None:
    async with proxy(server=at(path)):
        for noise in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"x" * 20000, b""):
            stream = await trio.open_unix_socket(path)
            end = End(stream)
            try:
                await end.send(noise)
                await stream.send_eof()
            except trio.BrokenResourceError:
                pass
            await end.wait_closed()
            await end.aclose()
        assert (await ask(path, b"GET /healthz")).status == 200


@pytest.mark.parametrize("page", [b"/metrics", b"/healthz", b"/readyz"])
async def test_the_public_listener_knows_nothing_of_it(path: str, page: bytes) -> None:
    async with proxy(server=at(path)) as swproxy:
        client = await swproxy.connect()
        await client.send(b"GET %b HTTP/1.1\r\nHost: admin\r\n\r\n" % page)
        response = await client.read_response()
        assert response.status == 400
        assert b"swproxy_" not in response.body
