"""The admin listener, and that nothing leads to it from the public one."""

from pathlib import Path

import pytest
import trio

from swproxy.config.listen_address import TcpAddress, UnixAddress
from tests.support.proxy import proxy
from tests.support.upstream import upstream
from tests.support.wire import PATIENCE, End, Response


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
        (b"GET /favicon.ico", 404),
        (b"GET /metrics/", 404),
        (b"POST /metrics", 405),
        (b"DELETE /healthz", 405),
    ],
)
async def test_it_answers_nothing_else(path: str, line: bytes, status: int) -> None:
    async with proxy(server=at(path)):
        assert (await ask(path, line)).status == status


OVER_TCP = {"admin_listen": TcpAddress("127.0.0.1", 0), "admin_hosts": ("metrics.internal",)}


async def ask_as(place: tuple[str, int], *lines: bytes, version: bytes = b"1.1") -> Response:
    end = End(await trio.open_tcp_stream(*place))
    try:
        head = (
            b"GET /healthz HTTP/" + version + b"\r\n" + b"".join(each + b"\r\n" for each in lines)
        )
        await end.send(head + b"\r\n")
        return await end.read_response()
    finally:
        await end.aclose()


async def test_it_is_asked_by_an_address_or_a_known_name_only() -> None:
    """DNS rebinding: a page's own name leads to 127.0.0.1, and its script reads the answer."""
    async with proxy(server=OVER_TCP) as swproxy:
        place = swproxy.addresses[-1]
        known = [
            b"localhost",
            b"LOCALHOST:3001",
            b"127.0.0.1",
            b"127.0.0.1:1",
            b"[::1]",
            b"[::1]:1",
        ]
        known += [b"192.0.2.1:3001", b"metrics.internal", b"Metrics.Internal:80", b"localhost."]
        for host in known:
            assert (await ask_as(place, b"Host: " + host)).status == 200, host
        strange = [b"evil.test", b"evil.test:3001", b"localhost.evil.test", b"127.0.0.1.evil.test"]
        for host in [*strange, b"admin", b"internal", b"xlocalhost", b""]:
            refused = await ask_as(place, b"Host: " + host)
            assert refused.status in (400, 421), host
            assert b"alive" not in refused.body
        assert (await ask_as(place, version=b"1.0")).status == 200


@pytest.mark.parametrize("silent", [b"", b"GET /metrics HTTP/1.1\r\nHost: local"])
async def test_silent_connections_keep_nobody_out(silent: bytes) -> None:
    async with proxy(server=OVER_TCP) as swproxy:
        place = swproxy.addresses[-1]
        async with trio.open_nursery() as nursery:
            connections = [await trio.open_tcp_stream(*place) for _ in range(300)]
            for each in connections:
                if silent:
                    nursery.start_soon(each.send_all, silent)
            began = trio.current_time()
            for _ in range(10):
                assert (await ask_as(place, b"Host: localhost")).status == 200
            assert trio.current_time() - began < PATIENCE / 2
            for each in connections:
                await trio.aclose_forcefully(each)


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
