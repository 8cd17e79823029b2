"""Clients that take their time: deadlines that no trickle moves, memory that no stall adds to.

The bounds stated here: a head in the making holds `limits.head_bytes` and one read (64 KiB); a
client that stalls within an answer holds one receive buffer (128 KiB) beside what the kernel's
socket buffers hold; an idle connection holds no buffer at all.
"""

import gc
import tracemalloc
from pathlib import Path

import pytest
import trio

from swproxy.net import pump
from swproxy.net.pump import BUFFER_SIZE
from swproxy.proxy import body
from tests.support.proxy import proxy
from tests.support.upstream import take_and_answer, upstream
from tests.support.wire import End


async def trickle(client: End, data: bytes) -> None:
    """Send a byte at a time, for as long as anybody listens."""
    try:
        for index in range(len(data)):
            await client.stream.send_all(data[index : index + 1])
            await trio.sleep(0.005)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n"])
async def test_a_head_that_trickles_in_is_refused_at_its_deadline(beginning: bytes) -> None:
    """Slowloris: bytes keep coming, and the deadline is not moved by any of them."""
    async with upstream() as server, proxy(limits={"head_seconds": 0.1}) as swproxy:
        client = await swproxy.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle, client, beginning + b"X-A: " + b"b" * 9000)
            answer = await client.read_response()
            assert answer.status == 408
            assert await client.wait_closed() == "closed"
            nursery.cancel_scope.cancel()
        assert server.connections == []


async def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    async with proxy(limits={"head_seconds": 0.05}) as swproxy:
        client = await swproxy.connect()
        assert await client.read_to_end() == b""


async def test_a_second_head_has_a_deadline_too() -> None:
    limits = {"head_seconds": 0.05}
    async with upstream() as server, proxy(limits=limits) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url) + b"GET /")
        assert (await client.read_response()).status == 200
        assert (await client.read_response()).status == 408
        assert await client.wait_closed() == "closed"


@pytest.mark.parametrize("signed", [False, True], ids=["body free", "body signed"])
@pytest.mark.parametrize("framing", ["content-length", "chunked"])
async def test_a_body_that_trickles_in_is_refused(
    signed: bool, framing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "GRACE_SECONDS", 0.1)
    data = b"x" * 9000
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        client = await swproxy.connect()
        target = swproxy.target(server.url, "POST", **({"body": data} if signed else {}))
        chunked = framing == "chunked"
        line = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 9000"
        await client.send(b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (target, line))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle, client, b"1\r\nx\r\n" * 1500 if chunked else data)
            answer = await client.read_response()
            assert answer.status == 408
            assert await client.wait_closed() == "closed"
            nursery.cancel_scope.cancel()
        await server.wait_all_closed()
        assert len(server.connections) == (0 if signed else 1)


class Flood:
    """An upstream whose answer has no end; `sent` counts what it got rid of."""

    def __init__(self) -> None:
        self.sent = 0

    async def __call__(self, end: End) -> None:
        await end.read_head()
        await end.send(b"HTTP/1.1 200 OK\r\n\r\n")
        data = b"x" * 65536
        while True:
            await end.stream.send_all(data)
            self.sent += 1

    async def settled(self) -> None:
        """Wait until nothing is taken any more: all there is to fill is full."""
        before = 0
        with trio.fail_after(20):
            while not self.sent or before != self.sent:
                before = self.sent
                await trio.sleep(0.2)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_client_that_takes_no_byte_is_cut_off(tls: bool) -> None:
    limits = {"write_seconds": 0.05}
    async with upstream(Flood(), tls=tls) as server, proxy(limits=limits) as swproxy:
        client = await swproxy.connect(receive_buffer=4096)
        await client.send(swproxy.request(server.url))
        await server.wait_for_connections(1)
        await server.wait_all_closed()
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "client-gone"
        assert await client.wait_closed() == "reset"


async def read_steadily(client: End, rate: int, seconds: float) -> None:
    """Read `rate` bytes a second."""
    end = trio.current_time() + seconds
    while trio.current_time() < end:
        assert await client.stream.receive_some(rate // 50)
        await trio.sleep(1 / 50)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_client_that_reads_slowly_and_steadily_is_never_cut(
    tls: bool, tls_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports room only when a third of its buffer is free: here, after seconds."""
    monkeypatch.setattr(pump, "SWEEP_SECONDS", 0.05)
    limits = {"write_seconds": 0.2}
    listener = tls_files if tls else {}
    async with upstream(Flood()) as server, proxy(limits=limits, server=listener) as swproxy:
        async with trio.open_nursery() as nursery:
            for buffer, rate in [(None, 600_000), (65536, 400_000), (4096, 40_000)]:
                client = await swproxy.connect(receive_buffer=buffer)
                await client.send(swproxy.request(server.url))
                await client.read_head()
                nursery.start_soon(read_steadily, client, rate, 3)
        assert not swproxy.recorder.records


async def test_a_client_that_pipelines_and_reads_nothing_is_cut_off() -> None:
    """Refusals pile up where answers can't leave; they are written under a deadline as well."""
    async with proxy(limits={"write_seconds": 0.05}) as swproxy:
        client = await swproxy.connect(receive_buffer=4096)
        refused = b"GET /?X-Sw-Algorithm=none HTTP/1.1\r\nHost: a\r\n\r\n" * 500

        async def send_for_ever() -> None:
            while True:
                await client.send(refused)

        with pytest.raises(trio.BrokenResourceError):
            await send_for_ever()


async def stall(count: int, tls: bool) -> int:
    """Return the bytes of Python objects that each of `count` stalled answers adds."""
    flood = Flood()
    async with upstream(flood, tls=tls) as server, proxy() as swproxy:
        # What the first of anything allocates is not counted.
        first = await swproxy.connect(receive_buffer=4096)
        await first.send(swproxy.request(server.url))
        await first.read_head()
        requests = [swproxy.request(server.url) for _ in range(count)]
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for request in requests:
                client = await swproxy.connect(receive_buffer=4096)
                await client.send(request)
            await server.wait_for_connections(count + 1)
            await flood.settled()
            gc.collect()
            return (tracemalloc.get_traced_memory()[0] - before) // count
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_stalled_client_holds_one_receive_buffer(tls: bool) -> None:
    # Half as much again for the objects of client, proxy and upstream, which all live here.
    assert await stall(20, tls) < BUFFER_SIZE * 1.5


HEADS = {
    "no head yet": b"",
    "half a head": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"b" * 16_000,
}


@pytest.mark.parametrize("name", HEADS)
async def test_waiting_connections_hold_little(name: str) -> None:
    """At most head_bytes, one read, and 16 KiB for all the objects on both sides."""
    count = 200
    data = HEADS[name]
    async with proxy() as swproxy:
        warm = await swproxy.connect()
        await warm.send(b"GET /")
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(count):
                client = await swproxy.connect()
                if data:
                    await client.send(data)
            gc.collect()
            held = (tracemalloc.get_traced_memory()[0] - before) // count
        finally:
            tracemalloc.stop()
        assert held < len(data) + 16384
