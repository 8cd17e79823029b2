"""From an admitted request to the end of its answer: dial or reuse, send up, relay down.

A request with a small body, which is nearly every one, is one write and one answer. A larger body
is sent by a task of its own while the answer is awaited and relayed, so an upstream that answers
early (a 413, a model that starts to talk) is heard at once.

A reused connection may have been closed by the upstream just as the request was sent. If it closes
without having answered a byte, the request is sent again, once, over a new connection, provided
that its body is still at hand, and that this can do no harm: the method is idempotent, or the
kernel had not taken a byte. Browsers send a POST again as well, on the guess that the connection
was closed before; nginx does not (proxy_next_upstream), nor may a proxy (RFC 9110 section 9.2.2).
An upstream may have read it, and a model be at work; a page that knows better can try again.

A connection carries no other request after one whose end the upstream may see elsewhere than we do:
it would take the rest for the beginning of the next client's request, and put that one's key behind
it. So not after a HEAD, nor after a body that comes as a surprise, nor if an answer began before
the whole request had been taken.

Request and answer overlap, so each has a state of its own. A request that goes up a second time
is SENDING again. The answer's states, and what may follow each:

    AWAITED     no head has been read                       HEARD
    HEARD       its head has been read                      RELAYED, TUNNELLED
    RELAYED     its head has begun to leave for the client  (terminal)
    TUNNELLED   so has a 101: both sides are a WebSocket    (terminal)

Before a terminal state whatever goes wrong can be told to the client; in one, the client's
connection can only be cut. Nobody waits for a first byte unless the request is SENT.
"""

import enum
import math
import time
from typing import Final

import httpcore
import trio

from swproxy.http.framing import FramingError, PayloadBody
from swproxy.http.respond import dated, render_head
from swproxy.http.websocket import Handshake, check_switch
from swproxy.net.failure import CallEnded, DownstreamGone, TimeSpent, UpstreamFailure
from swproxy.net.flow import BUFFER_SIZE, RECORD_SIZE, Flow, Heartbeat
from swproxy.net.pool import UpstreamConnection
from swproxy.net.stream import unsent_bytes
from swproxy.policy.headers import downstream_headers
from swproxy.policy.methods import idempotent, in_doubt
from swproxy.proxy.admit import Admission
from swproxy.proxy.call import Call
from swproxy.proxy.charge import revoked
from swproxy.proxy.drain import drain
from swproxy.proxy.heads import SWITCH, request_head, response_head
from swproxy.proxy.heartbeat import make_heartbeat
from swproxy.proxy.metering import Metering
from swproxy.proxy.progress import Progress
from swproxy.proxy.record import Outcome, Record
from swproxy.proxy.tunnel import Tunnel
from swproxy.proxy.upstream import ResponseHead, UpstreamSilent, read_response_head
from swproxy.quota.revocations import Revocations
from swproxy.sw1.refusal import Refusal

__all__ = ["Forward"]


class _Request(enum.Enum):
    SENDING = enum.auto()
    SENT = enum.auto()


class _Answer(enum.Enum):
    AWAITED = enum.auto()
    HEARD = enum.auto()
    RELAYED = enum.auto()
    TUNNELLED = enum.auto()


_NEXT: Final = {
    _Answer.AWAITED: (_Answer.HEARD,),
    _Answer.HEARD: (_Answer.RELAYED, _Answer.TUNNELLED),
    _Answer.RELAYED: (),
    _Answer.TUNNELLED: (),
}


class Forward:
    """One admitted request on its way.

    `keep_alive` says whether the client's connection may carry another request; the caller sets it
    to what the client wants, and an answer that can't keep it clears it. `outcome` is the record's,
    where nothing is raised. `reached` tells whether the upstream may have got a byte of it.
    """

    def __init__(self, call: Call, admission: Admission, *, keep_alive: bool) -> None:
        self.outcome: Outcome = "complete"
        self.reached = False
        self.keep_alive = keep_alive
        self._call = call
        self._config = call.config
        self._record = call.record
        self._endpoint = call.downstream.endpoint
        self._admission = admission
        self._upload = admission.upload
        weights = admission.app.weights
        self.metering = Metering(weights) if weights is not None else None
        self.progress = Progress(self.metering)
        # A reload may put another in its place, with other rules; what it dialled returns to it.
        self._pool = call.worker.pool
        self._request = _Request.SENDING
        self._answer = _Answer.AWAITED
        self._upload_error: Refusal | UpstreamFailure | TimeSpent | DownstreamGone | None = None
        # Cancelled when the client has gone, or by `_overdue`, at which the call may have to end.
        self._scope = trio.CancelScope()
        self._due = call.ends_at
        self._overdue: UpstreamFailure | TimeSpent | CallEnded = TimeSpent()
        self._tunnel_open: Tunnel | None = None

    def __repr__(self) -> str:
        where = self._admission.destination.origin
        return f"<Forward to {where}: request {self._request.name}, answer {self._answer.name}>"

    @property
    def started(self) -> bool:
        """Tell whether the answer's head has begun to leave, so that nothing else can be said."""
        return not _NEXT[self._answer]

    @property
    def tunnelled(self) -> bool:
        """Tell whether the connection became a WebSocket."""
        return self._answer is _Answer.TUNNELLED

    @property
    def app_id(self) -> str:
        """The application."""
        return self._admission.app.id

    @property
    def secret(self) -> str:
        """The application's secret that the URL was signed with."""
        return self._admission.secret

    @property
    def record(self) -> Record:
        """What is known of the request."""
        return self._record

    def is_revoked(self, revocations: Revocations) -> bool:
        """Tell whether the call's URL is among what is revoked."""
        return revoked(revocations, self.app_id, self._record.user, self._admission.claims)

    def end(self, code: str, detail: str) -> None:
        """End the call, which then raises CallEnded; a WebSocket is closed with the detail."""
        if self._tunnel_open is not None:
            self._tunnel_open.end(code, detail)
            return
        self._overdue = CallEnded(code, detail)
        self._scope.cancel()

    def sweep(self, now: float) -> None:
        """End the call if what it waits for has not come by `now`."""
        if now >= self._due:
            self._scope.cancel()

    def _enter(self, state: _Answer) -> None:
        assert state in _NEXT[self._answer], f"{self!r} can't become {state.name}"
        self._answer = state

    async def run(self) -> None:
        """Forward and relay.

        Raises Refusal, UpstreamFailure, TimeSpent, CallEnded or DownstreamGone.
        """
        if self._endpoint.gone:
            raise DownstreamGone
        with self._scope:
            self._endpoint.on_gone = self._client_left
            try:
                await self._attempt()
            finally:
                self._endpoint.on_gone = None
                self._call.worker.drains.leave(self)
        if self._scope.cancelled_caught:
            if self._endpoint.gone:
                raise DownstreamGone
            raise self._overdue

    def _client_left(self) -> None:
        """End the call, unless its answer is wanted all the same and can be had."""
        until = self._may_go_on_until()
        if until is None:
            self._scope.cancel()
        else:
            self._due = min(self._due, until)

    def _may_go_on_until(self) -> float | None:
        """Return how long the call may go on without its client, if it may."""
        if not self._admission.app.drains or self._request is not _Request.SENT:
            return None
        return self._call.worker.drains.enter(self)

    async def _go_on(self, upstream: UpstreamConnection, body: PayloadBody) -> None:
        """Read the rest of an answer whose client has left, where that is wanted."""
        until = self._may_go_on_until()
        if until is not None:
            self._endpoint.on_gone = None
            until = min(until, self._call.ends_at)
            await drain(upstream.stream, body, self._config.upstream.idle_seconds, until)

    async def _attempt(self) -> None:
        destination = self._admission.destination
        upstream = self._pool.take(destination)
        if upstream is not None:
            before = upstream.stream.sent
            try:
                await self._send_and_relay(upstream)
                return
            except UpstreamSilent:
                untouched = upstream.stream.sent == before
                harmless = untouched or idempotent(self._call.head.method)
                if not (harmless and self._upload.replayable):
                    raise
                self._upload.restart()
        await self._send_and_relay(await self._pool.dial(destination))

    async def _send_and_relay(self, upstream: UpstreamConnection) -> None:
        """Send the request over `upstream`, relay its answer, and keep or close the connection."""
        self._request = _Request.SENDING
        reusable = False
        before = upstream.stream.sent
        try:
            head = request_head(self._call, self._admission, metered=self.metering is not None)
            self.progress.send(upstream.stream, len(head))
            if self._upload.whole is not None:
                await self._send(upstream, head + self._upload.whole)
                self._request = _Request.SENT
                reusable = await self._relay_answer(upstream)
            else:
                reusable = await self._send_body_while_answer_comes(upstream, head)
        finally:
            self.reached = self.reached or upstream.stream.sent > before
            self._record.bytes_up = self.progress.up
            if reusable:
                self._pool.give_back(upstream)
            else:
                self._pool.discard(upstream)

    async def _send_body_while_answer_comes(
        self, upstream: UpstreamConnection, head: bytes
    ) -> bool:
        """Send a body that is large or still arriving, and take the answer meanwhile."""
        failure: Refusal | UpstreamFailure | TimeSpent | DownstreamGone | None = None
        reusable = answered = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_body, upstream, head, nursery.cancel_scope)
            try:
                reusable = await self._relay_answer(upstream)
            except (Refusal, UpstreamFailure, TimeSpent, DownstreamGone) as error:
                failure = error
            else:
                answered = True
            nursery.cancel_scope.cancel()
        if answered:
            # Whatever became of the rest of the upload, the answer is whole.
            return reusable
        failure = self._upload_error or failure
        assert failure is not None
        raise failure

    async def _send_body(
        self, upstream: UpstreamConnection, head: bytes, scope: trio.CancelScope
    ) -> None:
        chunked = self._upload.length is None
        try:
            await self._send(upstream, head)
            while piece := await self._upload.next_piece():
                framed = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
                await self._send(upstream, framed)
            if chunked:
                await self._send(upstream, b"0\r\n\r\n")
            self._request = _Request.SENT
            if self._answer is _Answer.AWAITED:
                self._expect_first_byte()
        except (Refusal, UpstreamFailure, TimeSpent, DownstreamGone) as error:
            self._upload_error = error
            scope.cancel()

    async def _send(self, upstream: UpstreamConnection, data: bytes) -> None:
        try:
            await upstream.stream.write(data, self._config.upstream.idle_seconds)
        except httpcore.WriteTimeout as error:
            raise UpstreamFailure(
                "upstream-timeout", "The upstream stopped reading the request."
            ) from error
        except httpcore.WriteError:
            # An upstream that has heard enough may have answered before it closed: reading tells.
            await trio.lowlevel.checkpoint()

    async def _relay_answer(self, upstream: UpstreamConnection) -> bool:
        """Relay the answer; return whether the upstream connection may be used again."""
        # While the upload lasts, its own deadlines hold: the client's to send, and the upstream's
        # to take.
        if self._request is _Request.SENT:
            self._expect_first_byte()
        handshake = self._admission.handshake
        response = await read_response_head(
            upstream,
            self._call.head.method,
            self._call.worker.turns.take,
            payload_only=not self._call.head.http11,
            upgrade=handshake is not None,
        )
        self._due = math.inf  # the pump has deadlines of its own
        self._enter(_Answer.HEARD)
        # What an upstream has received when it answers, its answer acknowledges.
        whole = self._request is _Request.SENT and not unsent_bytes(upstream.stream.socket)
        self._pool.remember_session(upstream)
        if self._request is _Request.SENT:
            self._admission.close()
        if response.status == 101:
            assert handshake is not None
            await self._tunnel(upstream, response, handshake)
            return False
        if self.metering is not None:
            self.metering.begin(response)
        heartbeat = make_heartbeat(response, self._admission.app.heartbeat_seconds)
        try:
            head, self.keep_alive = response_head(
                self._call, self._admission, response, keep_alive=self.keep_alive
            )
            part = bytes(response.body.feed(response.rest)) if response.rest else b""
        except (FramingError, ValueError) as error:
            raise UpstreamFailure(
                "upstream-malformed", "The upstream's answer is malformed."
            ) from error
        await self._relay(upstream, response, head, part, heartbeat)
        reusable = whole and response.keep_alive and not response.body.excess
        return reusable and not in_doubt(self._call.head.method, body=self._upload.length != 0)

    async def _relay(
        self,
        upstream: UpstreamConnection,
        response: ResponseHead,
        head: bytes,
        part: bytes,
        heartbeat: Heartbeat | None,
    ) -> None:
        flow = Flow(
            upstream.stream.socket,
            self._endpoint,
            response.body,
            idle_seconds=self._config.upstream.idle_seconds,
            write_seconds=self._config.limits.write_seconds,
            ends_at=self._call.ends_at,
            heartbeat=heartbeat,
            # To take chunks apart takes longer than to see where they end.
            read_bytes=BUFFER_SIZE if self._call.head.http11 else RECORD_SIZE,
        )
        record = self._record
        record.status = response.status
        self._enter(_Answer.RELAYED)
        self.progress.relay(flow, len(head))
        try:
            flow.push(head + part)
            record.first_byte = trio.current_time()
            record.streamed = True
            self._call.worker.observer.began(record)
            await self._call.worker.pump.relay(flow)
        except DownstreamGone:
            await self._go_on(upstream, response.body)
            raise
        finally:
            record.bytes_down = self.progress.down

    async def _tunnel(
        self, upstream: UpstreamConnection, response: ResponseHead, handshake: Handshake
    ) -> None:
        try:
            headers, chosen = check_switch(handshake, response.headers)
            headers = downstream_headers(headers, self._admission.app.headers)
        except ValueError as error:
            raise UpstreamFailure(
                "upstream-malformed", f"The upstream's WebSocket handshake is malformed: {error}."
            ) from error
        headers.extend((*chosen, *self._call.own_headers(), *SWITCH))
        head = render_head(101, dated(headers, time.time()))
        tunnel = Tunnel(
            self._call.worker,
            self._endpoint,
            upstream.stream,
            idle_seconds=self._config.upstream.idle_seconds,
            write_seconds=self._config.limits.write_seconds,
            ends_at=self._call.ends_at,
        )
        record = self._record
        record.status = 101
        record.kind = "websocket"
        self._enter(_Answer.TUNNELLED)
        self.keep_alive = False
        self._tunnel_open = tunnel
        self.progress.relay(tunnel.down, len(head), tunnel.up)
        try:
            tunnel.begin(head, response.rest, self._call.downstream.receive_now())
            record.first_byte = trio.current_time()
            record.streamed = True
            self._call.worker.observer.began(record)
            await tunnel.run()
            if tunnel.closed_here:
                self.outcome = "aborted"
                record.code = tunnel.code
                record.detail = tunnel.closed_here
        finally:
            record.bytes_down = self.progress.down

    def _expect_first_byte(self) -> None:
        seconds = self._config.upstream.first_byte_seconds
        late = f"The upstream did not answer within {seconds:g} seconds."
        deadline = trio.current_time() + seconds
        if deadline < self._call.ends_at:
            self._overdue = UpstreamFailure("upstream-timeout", late)
            self._due = deadline
