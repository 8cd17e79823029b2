"""What connections cost a worker when there are many: idle ones, ones that stall, ones that upload.

The daemon is a process of its own, so that its memory is its own; sizes are of its resident set.
`--thorough` makes it ten thousand connections.
"""

from pathlib import Path

import pytest
import trio

from tests.support.daemon import Daemon, daemon
from tests.support.parts import require_descriptors
from tests.support.upstream import take_and_answer, upstream
from tests.support.wire import End

KIB = 1024


def resident(served: Daemon) -> int:
    """Return the daemon's resident set, in bytes."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * KIB


@pytest.fixture
def many(request: pytest.FixtureRequest) -> int:
    """Return how many connections to make."""
    count = 10_000 if request.config.getoption("thorough") else 1_000
    require_descriptors(count + 500)
    return count


LIMITS = "connections = 12000\nhead_seconds = 300.0\nkeepalive_seconds = 300.0\n"


async def test_idle_connections_cost_little_and_do_not_slow_others(
    tmp_path: Path, many: int
) -> None:
    """Under 16 KiB each, and no buffer among that; whoever comes last is served like the first."""
    async with upstream(take_and_answer) as server, daemon(tmp_path, limits=LIMITS) as served:
        first = await served.connect()
        await first.send(served.request(server.url))
        assert (await first.read_response()).body == b"ok"
        before = resident(served)
        request = served.request(server.url)
        for _ in range(many):
            client = await served.connect()
            await client.send(request)
            assert (await client.read_response()).body == b"ok"
        assert (resident(served) - before) / many < 16 * KIB
        last = await served.connect()
        await last.send(request)
        assert (await last.read_response()).body == b"ok"
        assert server.open == 1


async def _all_accepted(served: Daemon) -> None:
    """Return when all connections so far have been read from: this one came last."""
    last = await served.connect()
    await last.send(b"GET / HTTP/1.1\r\n\r\n")
    assert (await last.read_response()).status == 400


async def test_heads_in_the_making_cost_their_bytes(tmp_path: Path, many: int) -> None:
    """At most head_bytes and 16 KiB each: slowloris pays with its own connections."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"b" * 8000
    async with daemon(tmp_path, limits=LIMITS) as served:
        warm = await served.connect()
        await warm.send(head)
        before = resident(served)
        for number in range(1, many + 1):
            client = await served.connect()
            await client.send(head)
            if number % 500 == 0:
                await _all_accepted(served)
        assert (resident(served) - before) / many < 24 * KIB


async def test_large_signed_bodies_wait_on_disk(tmp_path: Path) -> None:
    """Of each 64 KiB are held in memory, and what one read brings; the rest is in a file."""
    count, size = 40, 2_000_000
    body = b"x" * size
    async with upstream(take_and_answer) as server, daemon(tmp_path, limits=LIMITS) as served:
        requests = [served.request(server.url, "POST", body=body, body_signed=True)] * count
        warm = await served.connect()
        await warm.send(requests[0])
        assert (await warm.read_response()).body == b"ok"
        before = resident(served)
        clients: list[End] = []
        for request in requests:
            clients.append(await served.connect())
            await clients[-1].send(request[:-1])
        held = resident(served) - before
        assert held < count * 512 * KIB < count * size / 2
        for client in clients:
            await client.send(body[-1:])
            assert (await client.read_response()).body == b"ok"


async def test_a_flood_of_refusals_is_let_go(tmp_path: Path) -> None:
    """Requests that are refused leave nothing: not their heads, their URLs, nor their names."""
    async with daemon(tmp_path, limits=LIMITS, server="access_log = false") as served:

        async def refuse(start: int) -> None:
            client = await served.connect()
            for number in range(start, start + 400):
                path = f"/{number}?X-Sw-Algorithm=none&{number}=".encode() + b"x" * 6000
                await client.send(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await client.read_response()).status == 400
                client.forget()
            await client.aclose()

        await refuse(0)
        before = resident(served)
        for start in (400, 800, 1200):
            await refuse(start)
        assert resident(served) - before < 2 * KIB * KIB
        await trio.lowlevel.checkpoint()
