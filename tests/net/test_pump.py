"""The pump: exact bytes, exact backpressure, exact ends, and nothing left registered."""

import contextlib
import math
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from swproxy.http.framing import Body, ChunkedBody, ContentLengthBody, UntilCloseBody
from swproxy.net.failure import DownstreamGone, UpstreamFailure
from swproxy.net.flow import EVENT_BYTES, Endpoint, Flow
from swproxy.net.poller import Poller, PortablePoller, ReadinessPoller
from swproxy.net.pump import BUFFER_SIZE, GATHER_FLOWS, GATHER_SECONDS, Pump
from swproxy.net.timer import ClockTimer
from tests.support.wire import authority, server_context


class CountingPoller(Poller):
    """Counts how often the pump looks, and what it leaves behind."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.registered = 0

    def register(self, sock: socket.socket, interest: int) -> None:
        super().register(sock, interest)
        self.registered += 1

    def unregister(self, sock: socket.socket) -> None:
        super().unregister(sock)
        self.registered -= 1

    def ready(self) -> list[tuple[int, int]]:
        self.looks += 1
        return super().ready()


@dataclass
class Bench:
    """A pump between two socket pairs: upstream -> source, sink -> downstream."""

    pump: Pump
    upstream: trio.SocketStream
    downstream: trio.SocketStream
    source: socket.socket
    sink: socket.socket
    endpoint: Endpoint
    ended: list[BaseException | None] = field(default_factory=list)

    def flow(
        self, body: Body, idle_seconds: float = math.inf, write_seconds: float = math.inf
    ) -> Flow:
        return Flow(
            self.source,
            self.endpoint,
            body,
            idle_seconds=idle_seconds,
            write_seconds=write_seconds,
        )

    async def relay(self, flow: Flow) -> None:
        """Relay and note how it ended."""
        try:
            await self.pump.relay(flow)
        except (DownstreamGone, UpstreamFailure) as error:
            self.ended.append(error)
        else:
            self.ended.append(None)


@asynccontextmanager
async def bench(make: Callable[[], ReadinessPoller] = Poller) -> AsyncIterator[Bench]:
    upstream, source = socket.socketpair()
    sink, downstream = socket.socketpair()
    pump = Pump(make())
    for sock in (source, sink):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        ends = [
            trio.SocketStream(trio.socket.from_stdlib_socket(s)) for s in (upstream, downstream)
        ]
        endpoint = pump.attach(sink)
        yield Bench(pump, ends[0], ends[1], source, sink, endpoint)
        pump.detach(endpoint)
        nursery.cancel_scope.cancel()
    for sock in (upstream, source, sink, downstream):
        sock.close()


async def read_all(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    with trio.fail_after(10):
        while len(data) < size:
            data += await stream.receive_some(65536)
    return data


@pytest.mark.parametrize("make", [Poller, PortablePoller])
async def test_moves_every_byte_in_order(make: Callable[[], ReadinessPoller]) -> None:
    payload = bytes(range(256)) * 4096
    async with bench(make) as b, trio.open_nursery() as nursery:
        flow = b.flow(ContentLengthBody(len(payload)))
        nursery.start_soon(b.relay, flow)
        nursery.start_soon(b.upstream.send_all, payload)
        assert await read_all(b.downstream, len(payload)) == payload
        await wait_all_tasks_blocked()
        assert b.ended == [None]
        assert (flow.received, flow.sent) == (len(payload), len(payload))


async def test_a_flow_ends_at_the_last_byte_and_keeps_the_excess_off_the_wire() -> None:
    async with bench() as b, trio.open_nursery() as nursery:
        flow = b.flow(ContentLengthBody(3))
        nursery.start_soon(b.relay, flow)
        await b.upstream.send_all(b"abcdef")
        assert await read_all(b.downstream, 3) == b"abc"
        await wait_all_tasks_blocked()
        assert b.ended == [None]
        assert flow.body.excess == b"def"


async def test_a_flow_that_is_over_already_is_not_waited_for() -> None:
    async with bench() as b:
        flow = b.flow(ContentLengthBody(2))
        flow.push(flow.body.feed(b"ok"))
        await b.relay(flow)
        assert b.ended == [None]
        assert await read_all(b.downstream, 2) == b"ok"


@pytest.mark.parametrize(
    ("body", "sent", "ending"),
    [
        (UntilCloseBody, b"all there is", None),
        (lambda: ContentLengthBody(100), b"too short", UpstreamFailure),
        (ChunkedBody, b"5\r\nhel", UpstreamFailure),
        (ChunkedBody, b"5\r\nhello\r\n", UpstreamFailure),
        (ChunkedBody, b"nonsense\r\n", UpstreamFailure),
    ],
)
async def test_an_upstream_that_closes(
    body: Callable[[], Body], sent: bytes, ending: type[Exception] | None
) -> None:
    async with bench() as b, trio.open_nursery() as nursery:
        nursery.start_soon(b.relay, b.flow(body()))
        await b.upstream.send_all(sent)
        await b.upstream.aclose()
        await wait_all_tasks_blocked()
        assert [type(end) for end in b.ended] == [ending or type(None)]


async def test_a_client_that_goes_ends_its_flow_at_once() -> None:
    async with bench() as b, trio.open_nursery() as nursery:
        nursery.start_soon(b.relay, b.flow(UntilCloseBody()))
        await wait_all_tasks_blocked()
        await b.downstream.aclose()
        await wait_all_tasks_blocked()
        assert [type(end) for end in b.ended] == [DownstreamGone]
        assert b.endpoint.gone
        # And whoever comes later is told at once.
        await b.relay(b.flow(UntilCloseBody()))
        assert [type(end) for end in b.ended] == [DownstreamGone] * 2


async def test_a_client_that_goes_before_the_answer_cancels_what_is_done_for_it() -> None:
    async with bench() as b:
        with trio.CancelScope() as scope:
            b.endpoint.on_gone = scope.cancel
            await b.downstream.aclose()
            await trio.sleep_forever()
        assert scope.cancelled_caught


async def test_a_client_that_stops_reading_costs_bounded_bytes_and_no_work() -> None:
    poller = CountingPoller()
    async with bench(lambda: poller) as b, trio.open_nursery() as nursery:
        flow = b.flow(UntilCloseBody())
        nursery.start_soon(b.relay, flow)
        nursery.start_soon(b.upstream.send_all, bytes(8 << 20))
        await wait_all_tasks_blocked(0.05)
        held = flow.received - flow.sent
        assert 0 < held <= BUFFER_SIZE
        assert len(flow.pending) == held
        looks = poller.looks
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked(0.05)
        assert poller.looks == looks
        # Reading makes it move again.
        before = flow.received
        await read_all(b.downstream, 1 << 20)
        assert flow.received > before
        nursery.cancel_scope.cancel()


async def test_an_upstream_that_resets_while_the_client_stalls_costs_no_work() -> None:
    poller = CountingPoller()
    async with bench(lambda: poller) as b, trio.open_nursery() as nursery:
        nursery.start_soon(b.relay, b.flow(UntilCloseBody()))
        with trio.move_on_after(0.1):
            await b.upstream.send_all(bytes(8 << 20))
        await b.upstream.aclose()
        await wait_all_tasks_blocked(0.05)
        looks = poller.looks
        await wait_all_tasks_blocked(0.05)
        assert poller.looks == looks
        nursery.cancel_scope.cancel()


async def test_cancelling_a_request_withdraws_its_flow() -> None:
    poller = CountingPoller()
    async with bench(lambda: poller) as b:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.relay, b.flow(UntilCloseBody()))
            await wait_all_tasks_blocked()
            assert (b.pump.active, poller.registered) == (1, 2)
            nursery.cancel_scope.cancel()
        assert (b.pump.active, poller.registered) == (0, 1)


async def test_a_silent_upstream_is_given_up(mock_clock: MockClock) -> None:
    async with bench() as b, trio.open_nursery() as nursery:
        nursery.start_soon(b.relay, b.flow(UntilCloseBody(), idle_seconds=30))
        await wait_all_tasks_blocked()
        mock_clock.jump(29)
        await wait_all_tasks_blocked()
        await b.upstream.send_all(b"still here")
        assert await read_all(b.downstream, 10) == b"still here"
        mock_clock.jump(29)
        await wait_all_tasks_blocked()
        assert b.ended == []
        mock_clock.jump(2)
        await wait_all_tasks_blocked()
        assert [end.code for end in b.ended if isinstance(end, UpstreamFailure)] == [
            "upstream-timeout"
        ]


async def test_a_client_that_takes_nothing_is_given_up(mock_clock: MockClock) -> None:
    async with bench() as b, trio.open_nursery() as nursery:
        flow = b.flow(UntilCloseBody(), idle_seconds=10, write_seconds=60)
        nursery.start_soon(b.relay, flow)
        nursery.start_soon(b.upstream.send_all, bytes(8 << 20))
        await wait_all_tasks_blocked(0.05)
        mock_clock.jump(59)
        await wait_all_tasks_blocked(0.05)
        assert b.ended == []  # the upstream's deadline does not run while the client is awaited
        mock_clock.jump(3)
        await wait_all_tasks_blocked(0.05)
        assert [type(end) for end in b.ended] == [DownstreamGone]
        nursery.cancel_scope.cancel()


async def test_a_fault_in_one_flow_leaves_the_others_alone() -> None:
    class Broken(UntilCloseBody):
        def feed(self, data: bytes | memoryview) -> bytes | memoryview:
            raise RuntimeError("a bug")

    async with bench() as good, trio.open_nursery() as nursery:
        upstream, source = socket.socketpair()
        sink, downstream = socket.socketpair()
        for sock in (source, sink):
            sock.setblocking(False)
        nursery.start_soon(good.relay, good.flow(ContentLengthBody(4)))
        endpoint = good.pump.attach(sink)
        upstream.send(b"x")
        with pytest.raises(RuntimeError, match="a bug"):
            await good.pump.relay(Flow(source, endpoint, Broken()))
        good.pump.detach(endpoint)
        await good.upstream.send_all(b"fine")
        assert await read_all(good.downstream, 4) == b"fine"
        for sock in (upstream, source, sink, downstream):
            sock.close()


Pairs = list[tuple[socket.socket, ...]]


@asynccontextmanager
async def many_flows(
    pump: Pump, count: int, urgent_bytes: int = EVENT_BYTES
) -> AsyncIterator[Pairs]:
    """Run flows without an end; each is (upstream, downstream)."""
    pairs = [(*socket.socketpair(), *socket.socketpair()) for _ in range(count)]
    with contextlib.ExitStack() as open_sockets:
        for sock in (sock for pair in pairs for sock in pair):
            open_sockets.enter_context(sock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump.run)
            await wait_all_tasks_blocked()
            endpoints = []
            for _, source, sink, downstream in pairs:
                for sock in (source, sink, downstream):
                    sock.setblocking(False)
                endpoints.append(pump.attach(sink))
                flow = Flow(source, endpoints[-1], UntilCloseBody(), urgent_bytes=urgent_bytes)
                nursery.start_soon(pump.relay, flow)
            await wait_all_tasks_blocked()
            yield [(upstream, downstream) for upstream, _, _, downstream in pairs]
            nursery.cancel_scope.cancel()


def received(flows: Pairs) -> list[bytes]:
    """Return what has come out of every flow."""
    found = []
    for _, downstream in flows:
        try:
            found.append(downstream.recv(65536))
        except BlockingIOError:
            found.append(b"")
    return found


async def send(flows: Pairs, data: bytes = b"event") -> None:
    """Send on each flow, and let the pump do what it does without the clock moving."""
    for upstream, _ in flows:
        upstream.sendall(data)
    await wait_all_tasks_blocked(0.01)


async def test_what_a_look_has_no_time_for_comes_before_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each flow has its turn, however much comes for the first; and the loop goes round between."""
    monkeypatch.setattr("swproxy.net.pump.MOVE_SECONDS", -1.0)
    poller = CountingPoller()
    async with many_flows(Pump(poller), 5) as flows:
        for upstream, _ in flows:
            upstream.sendall(b"x")
        looks, found = poller.looks, b""
        while len(found) < 4:
            await trio.lowlevel.checkpoint()
            found += b"".join(received(flows[1:]))
        assert poller.looks <= looks + 2


async def test_what_is_left_of_a_look_is_forgotten_with_its_flow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A descriptor is soon another socket's, and that one is not gone."""
    monkeypatch.setattr("swproxy.net.pump.MOVE_SECONDS", -1.0)
    pump = Pump()
    pairs = [socket.socketpair() for _ in range(2)]
    again: list[Endpoint] = []
    more: list[socket.socket] = []

    def replace(other: Endpoint) -> None:
        if not again:
            number = other.sock.fileno()
            pump.detach(other)
            other.sock.close()
            more.extend(socket.socketpair())
            again.extend(pump.attach(sock) for sock in more if sock.fileno() == number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await wait_all_tasks_blocked()
        first, second = [pump.attach(ours) for ours, _ in pairs]
        first.on_gone, second.on_gone = partial(replace, second), partial(replace, first)
        for _, theirs in pairs:
            theirs.close()
        await wait_all_tasks_blocked()
        assert [endpoint.gone for endpoint in again] == [False]
        nursery.cancel_scope.cancel()
    for sock in (*more, *(sock for sock, _ in pairs)):
        sock.close()


async def test_few_flows_wait_for_nothing(mock_clock: MockClock) -> None:
    async with many_flows(Pump(), GATHER_FLOWS - 1) as flows:
        for flow in flows * 2:
            await send([flow])
            assert received([flow]) == [b"event"]


async def test_events_of_many_flows_gather_and_move_together(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    poller = CountingPoller()
    # However late a look is over: with nothing left it is one like any other.
    monkeypatch.setattr("swproxy.net.pump.MOVE_SECONDS", -1.0)
    async with many_flows(Pump(poller, ClockTimer()), GATHER_FLOWS) as flows:
        mock_clock.jump(1)
        await send(flows[:1])
        assert received(flows[:1]) == [b"event"]
        # That one came after a pause, the next one does not.
        await send(flows[1:2])
        assert received(flows[1:2]) == [b"event"]
        looks = poller.looks
        for flow in flows:
            await send([flow])
        assert received(flows) == [b""] * GATHER_FLOWS
        monkeypatch.setattr("swproxy.net.pump.MOVE_SECONDS", 60.0)
        mock_clock.jump(GATHER_SECONDS)
        await wait_all_tasks_blocked(0.01)
        assert received(flows) == [b"event"] * GATHER_FLOWS
        assert poller.looks == looks + 1
        # A look that finds nothing ends it.
        mock_clock.jump(GATHER_SECONDS)
        await wait_all_tasks_blocked(0.01)
        assert poller.looks == looks + 2
        mock_clock.jump(1)
        await send(flows[:1])
        assert received(flows[:1]) == [b"event"]


async def test_nothing_gathers_where_events_are_urgent(mock_clock: MockClock) -> None:
    async with many_flows(Pump(), GATHER_FLOWS, urgent_bytes=1) as flows:
        for flow in flows:
            await send([flow])
            assert received([flow]) == [b"event"]


async def test_nothing_gathers_while_large_pieces_move(mock_clock: MockClock) -> None:
    large = bytes(EVENT_BYTES)
    async with many_flows(Pump(), GATHER_FLOWS) as flows:
        for _ in range(4):
            await send(flows[:1], large)
            assert received(flows[:1]) == [large]
        await send(flows[1:2])
        assert received(flows[1:2]) == [b"event"]


def tls_over(source: socket.socket, upstream: socket.socket, records: list[int]) -> ssl.SSLSocket:
    """Return `source` in TLS, with records of these sizes, and the end, on their way to it."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    source.setblocking(False)
    client = context.wrap_socket(
        source,
        server_hostname="localhost",
        do_handshake_on_connect=False,
        suppress_ragged_eofs=False,
    )
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context().wrap_bio(incoming, outgoing, server_side=True)
    sides = [client.do_handshake, server.do_handshake]
    while sides:
        for side in list(sides):
            with contextlib.suppress(ssl.SSLWantReadError):
                side()
                sides.remove(side)
            if outgoing.pending:
                upstream.sendall(outgoing.read())
            with contextlib.suppress(BlockingIOError):
                incoming.write(upstream.recv(65536, socket.MSG_DONTWAIT))
    for size in records:
        server.write(bytes(size))
    with contextlib.suppress(ssl.SSLWantReadError):
        server.unwrap()
    upstream.sendall(outgoing.read())
    return client


@pytest.mark.parametrize(
    ("records", "looks"),
    [
        # Record and close_notify are there at once, and nothing else ever announces the latter.
        ([16384], 1),
        ([1400] * 50, 1),
        ([16384, 100], 2),  # what is small may be the last for now; its end is in the second look
        ([500] * 3, 4),
        # A buffer is full when no whole record fits any more.
        ([16384] * 8 + [1400], 2),
        ([16000] * 8 + [1400], 2),
    ],
)
async def test_records_of_a_large_answer_are_read_together_with_its_end(
    records: list[int], looks: int
) -> None:
    upstream, source = socket.socketpair()
    sink, downstream = socket.socketpair()
    # The connection below TLS stays open.
    source = tls_over(source, upstream, records)
    sink.setblocking(False)
    sink.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    poller = CountingPoller()
    pump = Pump(poller)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        endpoint = pump.attach(sink)
        flow = Flow(source, endpoint, UntilCloseBody())
        with trio.fail_after(10):
            await pump.relay(flow)
        assert (flow.received, flow.sent, flow.body.ended) == (sum(records), sum(records), True)
        assert poller.looks == looks
        pump.detach(endpoint)
        nursery.cancel_scope.cancel()
    for sock in (upstream, source, sink, downstream):
        sock.close()
