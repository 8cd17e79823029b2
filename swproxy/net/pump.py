"""One task that moves the bytes of every established stream of a worker.

A model's answer is hundreds of small chunks. What a core can carry is decided by what one chunk
costs, so a chunk here costs no task switch, no epoll_ctl, no timeout scope, no event object: the
pump waits on one epoll in which both sockets of each flow stay registered, and moves what is
ready in plain synchronous code.

    upstream readable  -> receive, let the body's framing see it, send downstream
    short send         -> keep the rest, stop watching the upstream, wait for the downstream
    downstream took it -> watch the upstream again
    downstream gone    -> end the flow at once

That the upstream is not read while a rest is kept is all the backpressure there is: a client that
stops reading holds one receive buffer (`BUFFER_SIZE`) here and what the kernel's buffers hold.

Waking up costs more than relaying a chunk. So once there are GATHER_FLOWS flows whose events come
less than GATHER_SECONDS apart, the pump sleeps that long between two looks and moves what has
gathered, as network drivers under load poll instead of taking interrupts; a look that finds nothing
ends it. It sleeps by a timer that is a descriptor (see `timer`). A chunk is late by that much at
most, and costs a third less; with fewer flows nothing waits. Nor does anything while large pieces
move, which would crawl at one a millisecond, or messages of WebSockets, which may be waited for.
The pump rather looks for the next at once, for AGAIN_SECONDS: a turn of the loop costs half as much
as a large piece.

A request's task parks itself in `relay` and is woken when its flow ends; its cancellation
withdraws the flow. Deadlines are a timestamp a flow and one sweep a second (`SWEEP_SECONDS`), so a
flow may outlive its deadline by that much.

A look moves what is ready for MOVE_SECONDS at most, and what is left in the next turn of the loop:
how much comes at once, and how many small chunks or frames it is made of, is up to whoever sends.

While no flow runs, a downstream socket stays attached for news of its peer being gone: whoever
works for that client (dials, waits for a head) hangs its cancellation on `Endpoint.on_gone`.
A client that shuts down its sending side only counts as gone, as it does for nginx.

A socket that is paused is unregistered, not watched for nothing: epoll reports errors and hang-ups
whatever the interest, and would do so forever.
"""

import socket
import ssl
from collections.abc import Callable
from time import perf_counter
from typing import cast

import trio

from swproxy.http.framing import FramingError
from swproxy.net.failure import DownstreamGone, TimeSpent, UpstreamFailure
from swproxy.net.flow import BUFFER_SIZE, RECORD_SIZE, Endpoint, Flow, Heartbeat
from swproxy.net.poller import GONE, READ, WRITE, ReadinessPoller, make_poller
from swproxy.net.timer import Timer, make_timer
from swproxy.net.tls import BLOCKED, check_end, take_failure

__all__ = ["BUFFER_SIZE", "GATHER_FLOWS", "GATHER_SECONDS", "Pump"]

SWEEP_SECONDS = 1.0

MOVE_SECONDS = 0.003
AGAIN_SECONDS = 0.0005

GATHER_SECONDS = 0.0014
GATHER_FLOWS = 32

_LARGE_RECORD = 1024
"""Less than servers put into one that begin small (1,400 bytes), more than a token takes."""
_CUT = "The upstream broke off its answer"


class Pump:
    """The mover of all flows of one worker; `run` is its task."""

    def __init__(self, poller: ReadinessPoller | None = None, timer: Timer | None = None) -> None:
        self._poller = poller or make_poller()
        self._timer = timer or make_timer()
        self._endpoints: dict[int, Endpoint] = {}
        self._flows: set[Flow] = set()
        self._view = memoryview(bytearray(BUFFER_SIZE))
        self._now = 0.0
        self._urgent = False
        self._left: dict[int, int] = {}
        self._closed = False

    @property
    def active(self) -> int:
        """The number of flows under way."""
        return len(self._flows)

    async def run(self) -> None:
        """Move bytes until cancelled."""
        self._now = trio.current_time()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sweep)
                gathering = False
                while True:
                    if gathering:
                        await self._timer.expired()
                    else:
                        await trio.lowlevel.wait_readable(self._poller.fileno())
                    before, self._now = self._now, trio.current_time()
                    close = gathering or self._now - before < GATHER_SECONDS
                    gathering = close and len(self._flows) >= GATHER_FLOWS
                    if gathering:
                        self._timer.start(GATHER_SECONDS)
                    gathering = self._move() and gathering
        finally:
            # Connections that end in the same stroke detach from what is no more there.
            self._closed = True
            self._poller.close()
            self._timer.close()

    def attach(self, sock: socket.socket) -> Endpoint:
        """Watch a downstream socket for its peer being gone, until `detach`."""
        endpoint = Endpoint(sock, 0)
        self._watch(endpoint, GONE)
        return endpoint

    def detach(self, endpoint: Endpoint) -> None:
        """Watch the socket no more; to be called before it is closed."""
        self._watch(endpoint, 0)

    async def relay(self, flow: Flow) -> None:
        """Move a flow to its end, which may be now.

        Raises DownstreamGone, UpstreamFailure (also for a body that breaks its framing), TimeSpent,
        or whatever went wrong inside; either way the flow is withdrawn.
        """
        if flow.finished:
            return
        if flow.sink.gone:
            raise DownstreamGone
        flow.moved = trio.current_time()
        flow.task = trio.lowlevel.current_task()
        flow.source.reader = flow
        flow.sink.writer = flow
        self._flows.add(flow)
        self._watch_what_is_due(flow)

        def withdraw(_: object) -> trio.lowlevel.Abort:
            self._withdraw(flow)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(withdraw)
        if flow.error is not None:
            raise flow.error

    def finish(self, flow: Flow, last: bytes) -> None:
        """Read no more for a flow, send `last` behind what is pending, and let it end there."""
        flow.body.ended = True
        flow.pending = bytes(flow.pending) + last
        if flow not in self._flows:
            return  # it has ended, or is about to begin and will find what is pending
        if flow.pending:
            self._attempt(self._writable, flow)
            if flow in self._flows:
                self._watch_what_is_due(flow)
        else:
            self._end(flow, None)

    def _move(self) -> bool:
        """Move what is ready now; tell whether what comes next had better gather."""
        now = perf_counter()
        until, again_until = now + MOVE_SECONDS, now + AGAIN_SECONDS
        self._urgent = False
        while True:
            ready = list(self._left.items()) if self._left else self._poller.ready()
            self._left = {}
            for place, (descriptor, events) in enumerate(ready, 1):
                endpoint = self._endpoints.get(descriptor)
                if endpoint is None:
                    continue
                flow = endpoint.reader
                if flow is None or events & WRITE:
                    self._dispatch(endpoint, events)
                else:
                    # Nearly every chunk's way; a frame less for it than for the rest.
                    try:
                        self._readable(flow)
                    except Exception as error:  # noqa: BLE001 - see `_fail`
                        self._fail(flow, error)
                if place < len(ready) and perf_counter() > until:
                    self._left = {
                        each: news for each, news in ready[place:] if each in self._endpoints
                    }
                    return False
            if not (ready and self._urgent and self._flows) or perf_counter() > again_until:
                return bool(ready) and not self._urgent

    def _dispatch(self, endpoint: Endpoint, events: int) -> None:
        if events & WRITE and endpoint.writer is not None:
            self._attempt(self._writable, endpoint.writer)
        if not events & ~WRITE:
            return
        if endpoint.reader is not None:
            self._attempt(self._readable, endpoint.reader)
        elif not endpoint.gone:
            endpoint.gone = True
            self._watch(endpoint, 0)
            if endpoint.writer is not None:
                self._end(endpoint.writer, DownstreamGone())
            elif endpoint.on_gone is not None:
                endpoint.on_gone()

    def _attempt(self, step: Callable[[Flow], None], flow: Flow) -> None:
        try:
            step(flow)
        except Exception as error:  # noqa: BLE001 - see `_fail`
            self._fail(flow, error)

    def _fail(self, flow: Flow, error: Exception) -> None:
        """End a flow by what went wrong in it, which must not stop the others."""
        if isinstance(error, FramingError):
            error = UpstreamFailure("upstream-malformed", f"{_CUT} ({error}).")
        self._end(flow, error)

    def _readable(self, flow: Flow) -> None:
        if flow.pending:
            return  # only in a tunnel is a socket watched for writing while it must not be read
        source = flow.source.sock
        try:
            # Of OpenSSL, not recv_into, which is the same with a detour.
            if isinstance(source, ssl.SSLSocket):
                size = cast(int, source.read(flow.read_bytes, self._view))
            else:
                size = source.recv_into(self._view, flow.read_bytes)
            ended = not size
            if size >= _LARGE_RECORD and isinstance(source, ssl.SSLSocket):
                size, ended = self._receive_more(source, size, flow.read_bytes)
            if ended:
                check_end(source)
        except BLOCKED:
            return
        except OSError as error:
            take_failure(source)
            raise UpstreamFailure("upstream-closed", f"{_CUT}.") from error
        flow.moved = self._now
        body = flow.body
        if size:
            self._urgent |= size >= flow.urgent_bytes
            flow.received += size
            if part := body.feed(self._view[:size]):
                flow.push(part)
        if ended:
            body.eof()
        if flow.pending:
            self._watch_what_is_due(flow)
        elif body.ended or ended:
            self._end(flow, None)

    def _receive_more(self, source: ssl.SSLSocket, size: int, most: int) -> tuple[int, bool]:
        """Receive behind a large record; return how much there is, and whether the stream ended.

        OpenSSL hands out a record at a time. A large one means that more of an answer is likely to
        wait already; without room for a whole one, what is left of it would not be announced.
        """
        record = size
        while record >= _LARGE_RECORD and size <= most - RECORD_SIZE:
            try:
                record = cast(int, source.read(most - size, self._view[size:]))
            except BLOCKED:
                break
            except OSError:
                take_failure(source)
                break  # it shows again at the next read
            if not record:
                return size, True  # nothing else might ever announce it
            size += record
        return size, False

    def _writable(self, flow: Flow) -> None:
        before = flow.sent
        flow.push(flow.pending)
        if flow.sent != before:
            flow.moved = self._now
        if not flow.pending:
            if flow.body.ended:
                self._end(flow, None)
            else:
                self._watch_what_is_due(flow)

    def _watch_what_is_due(self, flow: Flow) -> None:
        # In a tunnel each socket is the source of one flow and the sink of the other.
        other = flow.source.interest & WRITE
        if flow.pending:
            self._watch(flow.source, other)
            self._watch(flow.sink, flow.sink.interest | WRITE)
        else:
            self._watch(flow.source, other | READ)
            self._watch(flow.sink, flow.sink.interest & ~WRITE)

    def _watch(self, endpoint: Endpoint, interest: int) -> None:
        if interest == endpoint.interest or self._closed:
            return
        if not endpoint.interest:
            self._endpoints[endpoint.sock.fileno()] = endpoint
            self._poller.register(endpoint.sock, interest)
        elif interest:
            self._poller.modify(endpoint.sock, interest)
        else:
            descriptor = endpoint.sock.fileno()
            del self._endpoints[descriptor]
            self._left.pop(descriptor, None)  # the next to have it is another socket
            self._poller.unregister(endpoint.sock)
        endpoint.interest = interest

    def _end(self, flow: Flow, error: Exception | None) -> None:
        if flow not in self._flows:
            return
        flow.error = error
        self._withdraw(flow)
        assert flow.task is not None
        trio.lowlevel.reschedule(flow.task)

    def _withdraw(self, flow: Flow) -> None:
        self._flows.discard(flow)
        flow.source.reader = None
        flow.sink.writer = None
        self._watch(flow.source, flow.source.interest & WRITE)
        self._watch(flow.sink, flow.sink.interest & ~WRITE)

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP_SECONDS)
            now = trio.current_time()
            for flow in list(self._flows):
                if now >= flow.ends_at:
                    self._end(flow, TimeSpent())
                elif flow.pending:
                    if flow.stalled(now):
                        self._end(flow, DownstreamGone())
                elif now - flow.moved > flow.idle_seconds:
                    late = f"The upstream sent nothing for {flow.idle_seconds:g} seconds."
                    self._end(flow, UpstreamFailure("upstream-timeout", late))
                elif flow.heartbeat is not None:
                    self._beat(flow, flow.heartbeat, now)

    def _beat(self, flow: Flow, heartbeat: Heartbeat, now: float) -> None:
        if now - max(flow.moved, heartbeat.beaten) < heartbeat.seconds or not heartbeat.ready():
            return
        heartbeat.beaten = now

        def push(flow: Flow) -> None:
            flow.push(heartbeat.data)
            if flow.pending:
                flow.moved = now  # from now on it is the sink that is waited for
                self._watch_what_is_due(flow)

        self._attempt(push, flow)
