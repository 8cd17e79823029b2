"""Thousands of clients that leave at random moments leave nothing behind: a proxy that works."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from tests.support.daemon import daemon
from tests.support.proxy import Proxy, proxy
from tests.support.traffic import Traffic, serve_mixed
from tests.support.upstream import upstream
from tests.support.wire import End, authority, open_descriptors

BRIEFLY = {"idle_connection_seconds": 0.05}
"""So that idle upstream connections are gone soon after the last request."""


class Signer:
    """The proxy's own requests, whose wires are kept only as long as needed."""

    def __init__(self, swproxy: Proxy) -> None:
        self._swproxy = swproxy

    def request(
        self, url: str, method: str = "GET", *, body: bytes = b"", body_signed: bool = False
    ) -> bytes:
        target = self._swproxy.target(url, method, **({"body": body} if body_signed else {}))
        head = f"{method} {target.decode()} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}"
        return head.encode() + b"\r\n\r\n" + body


async def test_churn_leaves_nothing_behind(request: pytest.FixtureRequest) -> None:
    each = 400 if request.config.getoption("thorough") else 40
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(upstream(serve_mixed, tls=tls)) for tls in (False, True)
        ]
        swproxy = await stack.enter_async_context(proxy(upstreams=BRIEFLY))

        async def connect() -> End:
            client = await swproxy.connect()
            swproxy.clients.remove(client)  # or thousands would be kept to the end
            return client

        for server in servers:
            assert (await swproxy.ask(server.url + "/ok")).body == b"ok"
        await swproxy.clients.pop().aclose()
        await swproxy.clients.pop().aclose()
        for server in servers:
            await server.wait_all_closed()
        await _at_rest(swproxy)
        tasks = trio.lowlevel.current_statistics().tasks_living
        descriptors = open_descriptors()

        traffic = Traffic(connect, Signer(swproxy), servers)
        await traffic.run(25, requests=each)

        assert traffic.counts.total() == 25 * each
        for server in servers:
            await server.wait_all_closed()
        await _at_rest(swproxy)
        with trio.fail_after(10):
            while trio.lowlevel.current_statistics().tasks_living > tasks:
                await trio.sleep(0.01)
        assert open_descriptors() == descriptors
        for server in servers:
            assert (await swproxy.ask(server.url + "/ok")).body == b"ok"


async def _at_rest(swproxy: Proxy) -> None:
    """Wait until every request that began has been recorded, and its connection is over."""
    before = -1
    with trio.fail_after(10):
        while before != (before := open_descriptors()):
            await trio.sleep(0.05)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_the_end_of_everything_closes_everything(tls: bool) -> None:
    """A worker that is cancelled, as by a second SIGTERM, cuts what it has begun, all of it."""

    async def begin(end: End) -> None:
        head = await end.read_head()
        if b"/begun" in head:
            await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
        await end.wait_closed()

    descriptors = open_descriptors()
    async with upstream(begin, tls=tls) as server:
        clients = []
        async with proxy() as swproxy:
            for path in ("/begun", "/waiting") * 5:
                client = await swproxy.connect()
                clients.append(client)
                await client.send(swproxy.request(server.url + path))
                if path == "/begun":
                    await client.read_until(b"hello")
            uploading = await swproxy.connect()
            lines = b"Content-Length: 9\r\n"
            await uploading.send(swproxy.request(server.url, "POST", headers=lines) + b"hello")
            clients.append(uploading)
            idle = await swproxy.connect()
            clients.append(idle)
            await server.wait_for_connections(11)
            swproxy.clients.clear()
        await server.wait_all_closed()
        for client in clients:
            assert await client.wait_closed() in ("closed", "reset")
            await client.aclose()
        assert not any(b"0\r\n\r\n" in client.received for client in clients)
        with trio.fail_after(5):
            while open_descriptors() > descriptors + 1:  # the upstream's listener
                await trio.sleep(0.01)


async def test_soak(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Mixed traffic for `--soak` seconds against a daemon: all ends as it began."""
    seconds: float = request.config.getoption("soak")
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(upstream(serve_mixed, tls=tls)) for tls in (False, True)
        ]
        trusted = tmp_path / "authority.pem"
        authority().cert_pem.write_to_path(str(trusted))
        lines = f'idle_connection_seconds = 0.2\nca_file = "{trusted}"'
        served = await stack.enter_async_context(
            daemon(tmp_path, upstream=lines, server="access_log = false")
        )

        async def connect() -> End:
            client = await served.connect()
            served.clients.remove(client)
            return client

        def resident() -> int:
            status = Path(f"/proc/{served.process.pid}/status").read_text()
            return int(status.partition("VmRSS:")[2].split()[0])

        def descriptors() -> int:
            return open_descriptors(served.process.pid)

        for server in servers:
            client = await connect()
            await client.send(served.request(server.url + "/ok"))
            assert (await client.read_response()).body == b"ok"
            await client.aclose()
            await server.wait_all_closed()
        open_before = descriptors()
        traffic = Traffic(connect, served, servers)
        with trio.move_on_after(seconds / 2):
            await traffic.run(20)
        halfway = resident()
        with trio.move_on_after(seconds / 2):
            await traffic.run(20)
        for server in servers:
            await server.wait_all_closed()
        with trio.fail_after(20):
            while descriptors() > open_before:
                await trio.sleep(0.05)
        assert descriptors() == open_before
        # Kilobytes; a leak of 100 bytes a request would show in ten minutes.
        assert resident() < halfway + 4096
        assert set(traffic.counts) == {"honest", "broken", "leave", "hostile", "flood"}
        metrics = (await served.fetch("/metrics")).decode()
        assert _gauge(metrics, "swproxy_active_streams") == 0
    assert not [line for line in served.logged() if line["level"] == "error"]


def _gauge(metrics: str, name: str) -> float:
    lines = [line for line in metrics.splitlines() if line.startswith(name)]
    assert lines, metrics
    return sum(float(line.rpartition(" ")[2]) for line in lines)
