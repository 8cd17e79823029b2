"""From an admitted request to the end of its answer: dial or reuse, send up, relay down.

A request with a small body, which is nearly every one, is one write and one answer. A larger body
is sent by a task of its own while the answer is awaited and relayed, so an upstream that answers
early (a 413, a model that starts to talk) is heard at once.

A reused connection may have been closed by the upstream just as the request was sent. If it closes
without having answered a byte, the request is sent again, once, over a new connection, provided
that its body is still at hand.
"""

import math
from collections.abc import Callable

import httpcore
import trio

from swproxy.config.config import Config
from swproxy.http.framing import ChunkedBody, FramingError, UntilCloseBody
from swproxy.http.request import RequestHead
from swproxy.http.respond import render_head
from swproxy.http.websocket import Handshake, check_switch
from swproxy.net.failure import DownstreamGone, UpstreamFailure
from swproxy.net.flow import Endpoint, Flow
from swproxy.net.pool import UpstreamConnection
from swproxy.policy.headers import downstream_headers, upstream_headers
from swproxy.proxy.admit import Admission
from swproxy.proxy.record import Record
from swproxy.proxy.tunnel import Tunnel
from swproxy.proxy.upstream import ResponseHead, UpstreamSilent, read_response_head, render_request
from swproxy.proxy.worker import Worker
from swproxy.sw1.refusal import Refusal

__all__ = ["Forward"]

Header = tuple[bytes, bytes]

_HAS_BODY = (b"POST", b"PUT", b"PATCH")
"""Methods whose requests say Content-Length: 0 when they have no body (RFC 9110 section 8.6)."""

_SWITCH = ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))


class Forward:
    """One admitted request on its way. `started` once the answer's head has begun to leave.

    `keep_alive` says whether the client's connection may carry another request; the caller sets it
    to what the client wants, and an answer that can't keep it clears it. `outcome` is the record's,
    where nothing is raised. `tunnelled` says that the connection became a WebSocket; `early` then
    returns what its client has sent too early.
    """

    def __init__(
        self,
        worker: Worker,
        endpoint: Endpoint,
        head: RequestHead,
        admission: Admission,
        record: Record,
        extra: tuple[Header, ...],
        *,
        keep_alive: bool,
        early: Callable[[], bytes],
    ) -> None:
        self.started = False
        self.tunnelled = False
        self.outcome = "complete"
        self.keep_alive = keep_alive
        self._early = early
        self._worker = worker
        # A reload may put another in its place, with other rules; what it dialled returns to it.
        self._pool = worker.pool
        self._config: Config = worker.config
        self._endpoint = endpoint
        self._head = head
        self._admission = admission
        self._handshake = admission.handshake
        self._upload = admission.upload
        self._record = record
        self._extra = extra
        self._sent = False
        self._upload_error: Refusal | UpstreamFailure | DownstreamGone | None = None
        self._answering = False
        # Cancelled when the client has gone; its deadline is the first byte's, while that is due.
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Forward and relay. Raises Refusal, UpstreamFailure or DownstreamGone."""
        if self._endpoint.gone:
            raise DownstreamGone
        with self._scope:
            self._endpoint.on_gone = self._scope.cancel
            try:
                await self._attempt()
            finally:
                self._endpoint.on_gone = None
        if self._scope.cancelled_caught:
            if self._endpoint.gone:
                raise DownstreamGone
            late = self._config.upstream.first_byte_seconds
            raise UpstreamFailure(
                "upstream-timeout", f"The upstream did not answer within {late:g} seconds."
            )

    async def _attempt(self) -> None:
        destination = self._admission.destination
        upstream = self._pool.take(destination)
        if upstream is not None:
            try:
                await self._converse(upstream)
                return
            except UpstreamSilent:
                if not self._upload.replayable:
                    raise
                self._upload.restart()
        await self._converse(await self._pool.dial(destination))

    async def _converse(self, upstream: UpstreamConnection) -> None:
        """Send the request over `upstream`, relay its answer, and keep or close the connection."""
        self._sent = False
        reusable = False
        head_end = upstream.stream.sent
        try:
            head = self._request_head()
            head_end += len(head)
            if self._upload.whole is not None:
                await self._send(upstream, head + self._upload.whole)
                self._sent = True
                reusable = await self._answer(upstream)
            else:
                reusable = await self._converse_both_ways(upstream, head)
        finally:
            self._record.bytes_up = max(0, upstream.stream.sent - head_end)
            if reusable and self._sent:
                self._pool.give_back(upstream)
            else:
                self._pool.discard(upstream)

    async def _converse_both_ways(self, upstream: UpstreamConnection, head: bytes) -> bool:
        """Send a body that is large or still arriving, and take the answer meanwhile."""
        failure: Refusal | UpstreamFailure | DownstreamGone | None = None
        reusable = answered = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_body, upstream, head, nursery.cancel_scope)
            try:
                reusable = await self._answer(upstream)
            except (Refusal, UpstreamFailure, DownstreamGone) as error:
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
            self._sent = True
            if not self._answering:
                self._scope.deadline = self._first_byte_deadline()
        except (Refusal, UpstreamFailure, DownstreamGone) as error:
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

    async def _answer(self, upstream: UpstreamConnection) -> bool:
        """Relay the answer; return whether the upstream connection may be used again."""
        # While the upload lasts, its own deadlines hold: the client's to send, and the upstream's
        # to take.
        if self._sent:
            self._scope.deadline = self._first_byte_deadline()
        response = await read_response_head(
            upstream,
            self._head.method,
            payload_only=not self._head.http11,
            upgrade=self._handshake is not None,
        )
        self._scope.deadline = math.inf
        self._answering = True
        self._pool.remember_session(upstream)
        if self._sent:
            self._admission.close()
        if response.status == 101:
            assert self._handshake is not None
            await self._tunnel(upstream, response, self._handshake)
            return False
        try:
            head = self._response_head(response)
            part = bytes(response.body.feed(response.rest)) if response.rest else b""
        except (FramingError, ValueError) as error:
            raise UpstreamFailure(
                "upstream-malformed", "The upstream's answer is malformed."
            ) from error
        await self._relay(upstream, response, head, part)
        return response.keep_alive and not response.body.excess

    async def _relay(
        self, upstream: UpstreamConnection, response: ResponseHead, head: bytes, part: bytes
    ) -> None:
        flow = Flow(
            upstream.stream.socket,
            self._endpoint,
            response.body,
            idle_seconds=self._config.upstream.idle_seconds,
            write_seconds=self._config.limits.write_seconds,
        )
        record = self._record
        record.status = response.status
        self.started = True
        try:
            flow.push(head + part)
            record.first_byte = trio.current_time()
            record.streamed = True
            self._worker.observer.began(record)
            await self._worker.pump.relay(flow)
        finally:
            record.bytes_down = max(0, flow.sent - len(head))

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
        headers.extend((*chosen, *self._extra, *_SWITCH))
        head = render_head(101, headers)
        tunnel = Tunnel(
            self._worker,
            self._endpoint,
            upstream.stream,
            idle_seconds=self._config.upstream.idle_seconds,
            write_seconds=self._config.limits.write_seconds,
        )
        record = self._record
        record.status = 101
        record.kind = "websocket"
        self.started = self.tunnelled = True
        self.keep_alive = False
        try:
            tunnel.begin(head, response.rest, self._early())
            record.first_byte = trio.current_time()
            record.streamed = True
            self._worker.observer.began(record)
            await tunnel.run()
            if tunnel.closed_here:
                self.outcome = "aborted"
                record.detail = tunnel.closed_here
        finally:
            upstream.stream.sent += tunnel.up.sent
            record.bytes_down = max(0, tunnel.down.sent - len(head))

    def _request_head(self) -> bytes:
        admission = self._admission
        headers = upstream_headers(
            self._head.headers,
            admission.claims.signed_headers,
            admission.app.headers,
            admission.destination.authority,
            websocket=self._handshake is not None,
        )
        length = self._upload.length
        if self._handshake is not None:
            framing = b"".join([b"%b: %b\r\n" % header for header in _SWITCH])
        elif length is None:
            framing = b"Transfer-Encoding: chunked\r\n"
        elif length or self._head.method in _HAS_BODY:
            framing = b"Content-Length: %d\r\n" % length
        else:
            framing = b""
        return render_request(self._head.method, admission.destination.target, headers, framing)

    def _response_head(self, response: ResponseHead) -> bytes:
        headers = downstream_headers(response.headers, self._admission.app.headers)
        headers.extend(self._extra)
        body = response.body
        if isinstance(body, ChunkedBody):
            if self._head.http11:
                headers.append((b"transfer-encoding", b"chunked"))
            else:
                self.keep_alive = False
        elif isinstance(body, UntilCloseBody):
            self.keep_alive = False
        elif response.status not in (204, 304) and response.content_length is not None:
            headers.append((b"content-length", b"%d" % response.content_length))
        if not self._upload.ended:
            self.keep_alive = False
        if not self.keep_alive:
            headers.append((b"connection", b"close"))
        return render_head(response.status, headers)

    def _first_byte_deadline(self) -> float:
        return trio.current_time() + self._config.upstream.first_byte_seconds
