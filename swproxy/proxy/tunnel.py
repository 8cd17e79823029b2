"""A WebSocket between client and upstream: two flows over the same two sockets.

    down: upstream -> client        up: client -> upstream

The pump moves both like any answer, so a chunk costs what it costs there, and each direction has
its own backpressure: a side that stops reading stops its direction, and only that.

How it ends, whoever begins:

- A side ends its stream. What it sent before has been handed on by then, since a source is read
  only when nothing is pending. Both connections are closed, each with FIN first and then a while of
  reading (`SocketStream.linger`): to close with unread bytes would be a reset, which takes a Close
  frame back that the peer has not read yet.
- A side can't be written to any more. What it sent before it broke off may still wait in its
  socket, often its Close frame, so the other direction goes on until it has read that.
- Nothing came from either side for `idle_seconds`, a drain is about to run out, the terms allow no
  longer call, or the URL has been revoked. Both sides are told with a Close frame of status 1001;
  for the latter two reasons it is 1008 to the client, whose URL it is about. It goes between two
  frames; a direction that does not get to a boundary within `_BOUNDARY_SECONDS` is closed without
  one, in the middle of a frame, so nobody takes what has come for whole.

Whether an end is in order: a side that had a Close frame pass before may end as it likes, as many
implementations do. Without one, an upstream's reset is passed on as a reset.
"""

from __future__ import annotations

import math

import trio

from swproxy.http.websocket_frames import (
    GOING_AWAY,
    POLICY_VIOLATION,
    FrameTracker,
    close_frame,
)
from swproxy.net.failure import DownstreamGone, UpstreamFailure
from swproxy.net.flow import RECORD_SIZE, Endpoint, Flow
from swproxy.net.stream import SocketStream
from swproxy.proxy.worker import Worker

__all__ = ["Tunnel"]

_READ_SIZE = 4 * RECORD_SIZE
"""Bytes received at once: they may be thousands of frames, each of which has to be followed."""

_FLUSH_SECONDS = 2.0
"""How long a side may take to take the Close frame, and what goes before it."""

_BOUNDARY_SECONDS = 0.5
_BOUNDARY_POLL_SECONDS = 0.01
"""How long a frame under way may take to end before its direction is given up, and how often that
is looked at. Only ever at the end of a tunnel that had to be ended from here."""

_LAST_WORDS_SECONDS = 1.0
"""For reading what a side sent before it broke off, which has arrived; and for an upstream to end
its stream after ours has ended."""


class Tunnel:
    """The two flows of one WebSocket; `run` moves them to their end.

    `closed_here` says why, where the end was neither side's doing; `code` names it if it is a
    problem's.
    """

    def __init__(
        self,
        worker: Worker,
        client: Endpoint,
        upstream: SocketStream,
        *,
        idle_seconds: float,
        write_seconds: float,
        ends_at: float = math.inf,
    ) -> None:
        self.closed_here = ""
        self.code = ""
        self._ends_at = ends_at
        self._worker = worker
        self._upstream = upstream
        self._idle_seconds = idle_seconds
        self._frames_down = FrameTracker()
        self._frames_up = FrameTracker()
        self.down = Flow(
            upstream.socket,
            client,
            self._frames_down,
            write_seconds=write_seconds,
            urgent_bytes=0,
            read_bytes=_READ_SIZE,
        )
        self.up = Flow(
            client.sock,
            self.down.source,
            self._frames_up,
            write_seconds=idle_seconds,
            urgent_bytes=0,
            read_bytes=_READ_SIZE,
        )
        self.up.source = client
        self._scope = trio.CancelScope()
        self._alarm = trio.CancelScope()
        self._drained_at = math.inf
        self._told: tuple[str, str] | None = None
        self._first: tuple[Flow, bool] | None = None  # the flow that ended first; was it in order

    def begin(self, head: bytes, came_down: bytes, came_up: bytes) -> None:
        """Send the head of the 101 and what came behind it; `came_up` is the client's early bytes.

        Raises DownstreamGone.
        """
        if came_down:
            self._frames_down.feed(came_down)
        if came_up:
            self._frames_up.feed(came_up)
            self.up.pending = came_up
        self.down.moved = self.up.moved = trio.current_time()
        self.down.push(head + came_down)

    async def run(self) -> None:
        """Relay until either side ends, or this side has to.

        Raises DownstreamGone or UpstreamFailure where the end was not in order.
        """
        self._worker.tunnels.add(self)
        self.end_by(self._worker.tunnels_end)
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                nursery.start_soon(self._relay, self.down)
                nursery.start_soon(self._relay, self.up)
                await self._wait_for_alarm()
                await self._say_goodbye()
        finally:
            self._worker.tunnels.discard(self)
        await self._close_upstream()
        self._judge()

    def end(self, code: str, reason: str) -> None:
        """Close politely now, for a reason that the client's URL gives, or the client."""
        self._told = (code, reason)
        self._alarm.deadline = trio.current_time()

    def end_by(self, moment: float) -> None:
        """Close politely when the clock is at `moment`, should the tunnel live that long."""
        self._drained_at = moment
        self._alarm.deadline = min(self._alarm.deadline, moment)

    async def _relay(self, flow: Flow) -> None:
        sink_lost = False
        in_order = True
        try:
            await self._worker.pump.relay(flow)
        except DownstreamGone:
            sink_lost = True
        except UpstreamFailure:
            in_order = False
        if self.closed_here:
            return
        if not sink_lost:
            self._first = self._first or (flow, in_order)
            self._scope.cancel()
            return
        # The socket that this flow could not write to is the one that the other reads. That one's
        # end looks like any, where the write that failed has taken the error away with it.
        opposite = self._opposite(flow)
        if self._first is None:
            self._scope.deadline = trio.current_time() + _LAST_WORDS_SECONDS
        else:
            self._scope.cancel()
        if self._first is None or self._first[0] is opposite:
            self._first = (opposite, False)

    def _opposite(self, flow: Flow) -> Flow:
        return self.up if flow is self.down else self.down

    async def _wait_for_alarm(self) -> None:
        """Return when the tunnel is to be ended from here, with the reason in `closed_here`."""
        idle_at = trio.current_time() + self._idle_seconds
        while not self.closed_here:
            deadline = -math.inf if self._told else min(idle_at, self._drained_at, self._ends_at)
            with trio.CancelScope(deadline=deadline) as self._alarm:
                await trio.sleep_forever()
            now = trio.current_time()
            idle_at = max(self.down.moved, self.up.moved) + self._idle_seconds
            if self._told:
                self.code, self.closed_here = self._told
            elif now >= self._ends_at:
                self.closed_here = "The call has lasted as long as it may."
                self.code = "seconds-spent"
            elif now >= self._drained_at:
                self.closed_here = "The server is going down."
            elif self.down.pending or self.up.pending:
                # Somebody does not take what has come: the flow's own deadline is about that.
                idle_at = now + self._idle_seconds
            elif now >= idle_at:
                self.closed_here = f"Nothing came from either side for {self._idle_seconds:g} s."

    async def _say_goodbye(self) -> None:
        now = trio.current_time()
        self._scope.deadline = now + _FLUSH_SECONDS
        if self.code:
            to_client = close_frame(POLICY_VIOLATION, self.closed_here, masked=False)
        else:
            to_client = close_frame(GOING_AWAY, masked=False)
        to_upstream = close_frame(GOING_AWAY, masked=True)
        for flow, frames, close in (
            (self.down, self._frames_down, to_client),
            (self.up, self._frames_up, to_upstream),
        ):
            with trio.move_on_at(now + _BOUNDARY_SECONDS):
                while not frames.at_boundary:  # noqa: ASYNC110 - an event would cost every chunk
                    await trio.sleep(_BOUNDARY_POLL_SECONDS)
            owed = frames.at_boundary and not frames.closing
            self._worker.pump.finish(flow, close if owed else b"")

    @property
    def _parted(self) -> bool:
        return self._frames_down.closing or self._frames_up.closing

    async def _close_upstream(self) -> None:
        """Let an upstream read the end of what it was sent, unless there is nobody to read it."""
        flow, in_order = self._first or (self.up, True)
        if flow is self.up and (in_order or self._parted):
            await self._upstream.linger(_LAST_WORDS_SECONDS)

    def _judge(self) -> None:
        """Raise what the end of the tunnel was, unless it was in order."""
        if self._first is None or self._parted:
            return
        flow, in_order = self._first
        if flow is self.up:
            raise DownstreamGone
        if not in_order:
            raise UpstreamFailure("upstream-closed", "The upstream broke off the WebSocket.")
