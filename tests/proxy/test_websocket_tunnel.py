"""The tunnel over both wires: every byte both ways, exact backpressure, and how it ends."""

import hashlib
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from swproxy.daemon.listeners import open_listeners
from swproxy.daemon.service import Service
from swproxy.net.pump import BUFFER_SIZE
from tests.support.parts import require_descriptors
from tests.support.proxy import Proxy, Recorder, proxy
from tests.support.sockets import CLOSE, LINES, ask, frame, switching, unmasked
from tests.support.upstream import upstream
from tests.support.wire import PATIENCE, End

TLS = pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
GOING_AWAY = b"\x88\x02\x03\xe9"
LARGE = 24 * 1024 * 1024
KERNEL_BYTES = 16 * 1024 * 1024
"""More than the socket buffers of a loopback connection ever hold."""


def pattern(size: int, seed: bytes) -> bytes:
    """Return bytes of which no part is found at another place."""
    return hashlib.shake_128(seed).digest(size)


async def open_tunnel(swproxy: Proxy, url: str, *, early: bytes = b"") -> End:
    client = await swproxy.connect()
    response = await ask(client, swproxy, url.replace("http", "ws"), behind=early)
    assert response.status == 101
    return client


def reset(end: End) -> None:
    """Close with a reset."""
    stream = end.stream.transport_stream if isinstance(end.stream, trio.SSLStream) else end.stream
    assert isinstance(stream, trio.SocketStream)
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    stream.socket.close()


async def finish(end: End) -> None:
    """End our sending side only."""
    assert isinstance(end.stream, trio.SocketStream)
    await end.stream.send_eof()


@TLS
async def test_each_frame_arrives_before_the_next_is_sent(tls: bool) -> None:
    async def echo(end: End) -> None:
        for number in range(5):
            data = await end.read_exactly(len(frame(b"%d" % number, masked=True)))
            await end.send(frame(unmasked(data)[1]))
        await end.wait_closed()

    async with upstream(switching(echo), tls=tls) as server, proxy() as swproxy:
        client = await open_tunnel(swproxy, server.url)
        for number in range(5):
            await client.send(frame(b"%d" % number, masked=True))
            assert await client.read_exactly(3) == frame(b"%d" % number)
        await client.aclose()
        (record,) = await swproxy.recorder.wait_for(1)
        assert (record.kind, record.status, record.streamed) == ("websocket", 101, True)
        assert (record.bytes_up, record.bytes_down) == (5 * 7, 5 * 3)
        assert record.origin == server.url.replace("http", "ws")


@TLS
async def test_bytes_that_came_early_go_first_in_both_directions(tls: bool) -> None:
    async def talk(end: End) -> None:
        assert await end.read_exactly(15) == b"first up second"
        await end.send(b" second")
        await end.wait_closed()

    handler = switching(talk, behind=b"first")
    async with upstream(handler, tls=tls) as server, proxy() as swproxy:
        client = await open_tunnel(swproxy, server.url, early=b"first up ")
        assert await client.read_exactly(5) == b"first"
        await client.send(b"second")
        assert await client.read_exactly(7) == b" second"
        await client.aclose()
        (record,) = await swproxy.recorder.wait_for(1)
        assert (record.bytes_up, record.bytes_down) == (15, 12)


async def cross_large_messages(*, tls: bool, listener: Mapping[str, Path]) -> None:
    """Send large messages both ways at once; `tls` is the upstream's, `listener` the client's."""
    down, up = pattern(LARGE, b"down"), pattern(LARGE, b"up")

    async def cross(end: End) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end.stream.send_all, down)
            assert await end.read_exactly(LARGE) == up
        await end.wait_closed()

    async with upstream(switching(cross), tls=tls) as server, proxy(server=listener) as swproxy:
        client = await open_tunnel(swproxy, server.url)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.stream.send_all, up)
            assert await client.read_exactly(LARGE) == down
        await client.aclose()
        (record,) = await swproxy.recorder.wait_for(1)
        assert (record.bytes_up, record.bytes_down) == (LARGE, LARGE)


@TLS
async def test_large_messages_cross_each_other_unharmed(tls: bool) -> None:
    await cross_large_messages(tls=tls, listener={})


async def flood(end: End) -> None:
    """Send for ever."""
    while True:
        await end.stream.send_all(bytes(65536))


async def send_until_stuck(end: End, most: int) -> int:
    """Send until nothing is taken any more; return how many bytes were."""
    assert isinstance(end.stream, trio.SocketStream)
    block = bytes(65536)
    sent = 0
    while sent < most:
        with trio.move_on_after(0.3) as scope:
            sent += await end.stream.socket.send(block)
        if scope.cancelled_caught:
            break
    return sent


async def test_a_side_that_does_not_read_stops_the_other_and_only_that_direction() -> None:
    stuck: dict[str, int] = {}
    go_on = trio.Event()

    async def fill(end: End) -> None:
        stuck["upstream"] = await send_until_stuck(end, LARGE)
        await go_on.wait()
        assert await end.read_exactly(5) == b"alive"
        await end.read_exactly(stuck["client"])
        await end.wait_closed()

    async with upstream(switching(fill)) as server, proxy() as swproxy:
        client = await open_tunnel(swproxy, server.url)
        # Nobody reads on either side: both directions stop, and each at its own limit.
        await client.send(b"alive")
        stuck["client"] = await send_until_stuck(client, LARGE)
        with trio.fail_after(PATIENCE):
            while "upstream" not in stuck:
                await trio.sleep(0.01)
        assert 0 < stuck["client"] < KERNEL_BYTES + BUFFER_SIZE
        assert 0 < stuck["upstream"] < KERNEL_BYTES + BUFFER_SIZE
        # One side reads again: its direction runs to the last byte, then the other's does.
        await client.read_exactly(stuck["upstream"])
        go_on.set()
        await client.aclose()
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.bytes_down == stuck["upstream"]
        assert record.bytes_up == stuck["client"] + 5


@TLS
@pytest.mark.parametrize("parting", [CLOSE, b""], ids=["close frame", "no close frame"])
async def test_when_the_upstream_ends_the_client_gets_all_and_then_the_end(
    tls: bool, parting: bytes
) -> None:
    last = pattern(3 * 1024 * 1024, b"last")

    async def leave(end: End) -> None:
        await end.send(last + parting)

    async with upstream(switching(leave), tls=tls) as server, proxy() as swproxy:
        client = await open_tunnel(swproxy, server.url)
        assert await client.read_to_end() == last + parting
        await client.aclose()
        (record,) = await swproxy.recorder.wait_for(1)
        assert (record.outcome, record.code) == ("complete", "")


@TLS
@pytest.mark.parametrize("parting", [frame(b"\x03\xe8", opcode=8, masked=True), b""])
async def test_when_the_client_ends_the_upstream_gets_all_and_then_the_end(
    tls: bool, parting: bytes
) -> None:
    last = pattern(3 * 1024 * 1024, b"last")
    got: list[bytes] = []

    async def listen(end: End) -> None:
        got.append(await end.read_to_end())

    async with upstream(switching(listen), tls=tls) as server, proxy() as swproxy:
        client = await open_tunnel(swproxy, server.url)
        await client.send(frame(last, masked=True) + parting)
        await client.aclose()
        await server.wait_all_closed()
        assert got == [frame(last, masked=True) + parting]
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == ("complete" if parting else "client-gone")


@TLS
async def test_a_close_frame_survives_an_end_with_unread_bytes(tls: bool) -> None:
    sent = trio.Event()

    async def hang_up(end: End) -> None:
        # The client's bytes are never read, so closing resets the connection to swproxy.
        await sent.wait()
        await end.send(frame(b"last words") + CLOSE)
        await end.aclose()

    async with upstream(switching(hang_up), tls=tls) as server, proxy() as swproxy:
        client = await open_tunnel(swproxy, server.url)
        await client.send(bytes(1000))
        sent.set()
        assert await client.read_to_end() == frame(b"last words") + CLOSE
        # What a client says after the end is no reason to reset its connection.
        await client.send(bytes(1000))
        await client.aclose()
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "complete"


async def test_the_client_s_close_frame_survives_bytes_that_it_did_not_read() -> None:
    got: list[bytes] = []
    talked = trio.Event()

    async def talk(end: End) -> None:
        await end.send(bytes(KERNEL_BYTES // 4))
        talked.set()
        got.append(await end.read_to_end())

    async with upstream(switching(talk)) as server, proxy() as swproxy:
        client = await open_tunnel(swproxy, server.url)
        await talked.wait()
        parting = frame(b"\x03\xe8", opcode=8, masked=True)
        await client.send(parting)
        await finish(client)
        await server.wait_all_closed()
        assert got == [parting]


@TLS
async def test_an_upstream_that_breaks_off_breaks_the_client_s_connection(tls: bool) -> None:
    async def break_off(end: End) -> None:
        await end.send(frame(b"half")[:3])
        await trio.sleep(0.05)
        reset(end)

    async with upstream(switching(break_off), tls=tls) as server, proxy() as swproxy:
        client = await open_tunnel(swproxy, server.url)
        assert await client.read_exactly(3) == frame(b"half")[:3]
        assert await client.wait_closed() == "reset"
        (record,) = await swproxy.recorder.wait_for(1)
        assert (record.outcome, record.code) == ("upstream-failed", "upstream-closed")


@TLS
async def test_a_client_that_breaks_off_ends_the_upstream(tls: bool) -> None:
    got: list[bytes] = []

    async def listen(end: End) -> None:
        await end.wait_closed()
        got.append(bytes(end.received).partition(b"\r\n\r\n")[2])

    async with upstream(switching(listen), tls=tls) as server, proxy() as swproxy:
        client = await open_tunnel(swproxy, server.url)
        await client.send(b"before")
        await trio.sleep(0.05)
        reset(client)
        await server.wait_all_closed()
        assert got == [b"before"]
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "client-gone"


@TLS
async def test_a_client_that_breaks_off_while_it_is_flooded_ends_the_upstream(tls: bool) -> None:
    async with upstream(switching(flood), tls=tls) as server, proxy() as swproxy:
        client = await open_tunnel(swproxy, server.url)
        await client.read_exactly(1024)
        reset(client)
        await server.wait_all_closed()
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "client-gone"


async def test_an_upstream_that_breaks_off_while_it_is_flooded_ends_the_client() -> None:
    async def break_off(end: End) -> None:
        await end.read_exactly(65536)
        reset(end)

    async with upstream(switching(break_off)) as server, proxy() as swproxy:
        client = await open_tunnel(swproxy, server.url)
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(PATIENCE):
            await flood(client)
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "upstream-failed"


@pytest.mark.parametrize("side", ["client", "upstream"])
async def test_a_side_that_takes_nothing_for_too_long_is_given_up(side: str) -> None:
    async def ignore(end: End) -> None:
        await trio.sleep_forever()

    limits = {"write_seconds": 0.2}
    async with (
        upstream(switching(flood if side == "client" else ignore)) as server,
        proxy(limits=limits, upstreams={"idle_seconds": 0.5}) as swproxy,
    ):
        client = await open_tunnel(swproxy, server.url)
        if side == "upstream":
            with pytest.raises(trio.BrokenResourceError), trio.fail_after(PATIENCE):
                await flood(client)
        (record,) = await swproxy.recorder.wait_for(1)
        gone = {"client": "client-gone", "upstream": "upstream-failed"}
        assert record.outcome == gone[side]


@TLS
async def test_a_tunnel_without_bytes_is_closed_on_both_sides_with_1001(tls: bool) -> None:
    got: list[bytes] = []

    async def listen(end: End) -> None:
        got.append(await end.read_to_end())

    async with (
        upstream(switching(listen), tls=tls) as server,
        proxy(upstreams={"idle_seconds": 0.2}) as swproxy,
    ):
        client = await open_tunnel(swproxy, server.url)
        assert await client.read_to_end() == GOING_AWAY
        await client.aclose()
        await server.wait_all_closed()
        assert unmasked(got[0]) == (8, b"\x03\xe9")
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "aborted"
        assert "0.2 s" in record.detail


@pytest.mark.parametrize("talker", ["client", "upstream"])
async def test_bytes_of_either_side_keep_a_tunnel_open(talker: str) -> None:
    async def talk(end: End) -> None:
        if talker == "upstream":
            for _ in range(10):
                await trio.sleep(0.1)
                await end.send(frame(b"x"))
            await end.send(CLOSE)
            return
        await end.wait_closed()

    async with (
        upstream(switching(talk)) as server,
        proxy(upstreams={"idle_seconds": 0.4}) as swproxy,
    ):
        client = await open_tunnel(swproxy, server.url)
        if talker == "client":
            for _ in range(10):
                await trio.sleep(0.1)
                await client.send(frame(b"x", masked=True))
            await client.send(frame(b"", opcode=8, masked=True))
            await client.aclose()
        else:
            assert await client.read_to_end() == 10 * frame(b"x") + CLOSE
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "complete"


async def test_inside_a_frame_there_is_no_room_for_a_goodbye() -> None:
    async def stop_halfway(end: End) -> None:
        await end.send(frame(bytes(1000))[:500])
        await end.wait_closed()

    async with (
        upstream(switching(stop_halfway)) as server,
        proxy(upstreams={"idle_seconds": 0.2}) as swproxy,
    ):
        client = await open_tunnel(swproxy, server.url)
        assert await client.read_to_end() == frame(bytes(1000))[:500]
        await client.aclose()
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "aborted"


@asynccontextmanager
async def service(base: Proxy, seconds: float) -> AsyncIterator[tuple[Proxy, Service, trio.Event]]:
    """Run a service that can be drained, configured as `base` is."""
    server = base.config.server.model_copy(update={"drain_seconds": seconds})
    config = replace(base.config, server=server)
    listeners = open_listeners(config.server.listen, [])
    recorder = Recorder()
    drained = Service(config, listeners, recorder)
    ended = trio.Event()

    async def run(task_status: trio.TaskStatus[None]) -> None:
        await drained.run(task_status=task_status)
        ended.set()

    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            address = listeners[0].sock.getsockname()
            yield Proxy([address], recorder, config), drained, ended
            nursery.cancel_scope.cancel()
    finally:
        listeners[0].close()
    assert not recorder.faults


@pytest.mark.parametrize("moment", ["before", "during"])
async def test_a_drain_closes_tunnels_politely_before_its_time_is_over(moment: str) -> None:
    got: list[bytes] = []

    async def listen(end: End) -> None:
        await end.send(frame(b"busy"))
        got.append(await end.read_to_end())

    async with (
        upstream(switching(listen)) as server,
        proxy() as base,
        service(base, 1.0) as (swproxy, draining, ended),
    ):
        if moment == "before":
            client = await open_tunnel(swproxy, server.url)
            await client.read_exactly(6)
            draining.drain()
        else:
            client = await swproxy.connect()
            await trio.testing.wait_all_tasks_blocked(0.05)
            draining.drain()
            assert (await ask(client, swproxy, server.url)).status == 101
            await client.read_exactly(6)
        # It is still a tunnel: the drain leaves it its time.
        await client.send(frame(b"more", masked=True))
        assert await client.read_to_end() == GOING_AWAY
        await client.send(frame(b"\x03\xe9", opcode=8, masked=True))
        await client.aclose()
        with trio.fail_after(PATIENCE):
            await ended.wait()
        await server.wait_all_closed()
        assert got[0].startswith(frame(b"more", masked=True))
        assert unmasked(got[0][len(frame(b"more", masked=True)) :]) == (8, b"\x03\xe9")
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "aborted"


async def test_a_tunnel_that_opens_when_a_drain_is_over_is_closed_at_once() -> None:
    asked = trio.Event()
    answer = trio.Event()

    async def wait(end: End) -> None:
        request = await end.read_head()
        asked.set()
        await answer.wait()
        await switching(request=request)(end)

    async with (
        upstream(wait) as server,
        proxy() as base,
        service(base, 0.0) as (swproxy, draining, ended),
    ):
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url, headers=LINES))
        await asked.wait()
        draining.drain()
        answer.set()
        assert b" 101 " in await client.read_head()
        assert await client.read_to_end() == GOING_AWAY
        await client.aclose()
        with trio.fail_after(PATIENCE):
            await ended.wait()


async def test_a_tunnel_s_end_leaves_nothing_behind() -> None:
    async with (
        upstream(switching()) as server,
        proxy() as base,
        service(base, 1.0) as (swproxy, running, _),
    ):
        clients = [await open_tunnel(swproxy, server.url) for _ in range(3)]
        worker = running.worker
        with trio.fail_after(PATIENCE):
            while worker.pump.active < 6:
                await trio.sleep(0.01)
        assert (len(worker.tunnels), worker.pump.active, worker.pool.active) == (3, 6, 3)
        for client in clients:
            await client.aclose()
        await swproxy.recorder.wait_for(3)
        with trio.fail_after(PATIENCE):
            while worker.connections:
                await trio.sleep(0.01)
        assert (len(worker.tunnels), worker.pump.active, worker.pool.active) == (0, 0, 0)
        assert worker.pool.idle == 0


async def test_a_thousand_idle_tunnels_and_one_that_talks() -> None:
    count = 1000
    require_descriptors(4 * count + 500)

    async def echo(end: End) -> None:
        while data := await end.stream.receive_some():
            await end.send(frame(unmasked(bytes(data))[1]))

    async with upstream(switching(echo)) as server, proxy() as swproxy:
        clients: list[End] = []
        for _ in range(count // 50):
            async with trio.open_nursery() as nursery:

                async def add() -> None:
                    clients.append(await open_tunnel(swproxy, server.url))

                for _ in range(50):
                    nursery.start_soon(add)
        assert server.open == count
        for number in (0, 499, 999):
            await clients[number].send(frame(b"?", masked=True))
            assert await clients[number].read_exactly(3) == frame(b"?")
        for client in clients:
            await client.aclose()
        records = await swproxy.recorder.wait_for(count)
        await server.wait_all_closed()
        assert sum(record.bytes_up for record in records) == 3 * 7
