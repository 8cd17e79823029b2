"""The life of one request: admit it, forward it, and say so when that can't be done.

Refusals (the client's doing), upstream failures and a client that goes away are exceptions that
end here, each in one of two ways: before the answer's head has left, the client is told in a
problem document; after it, the connection is cut, since a cut answer must never look whole.
"""

import os
import time

import httpcore
import trio

from swproxy.http.request import RequestHead
from swproxy.http.respond import render_head, render_problem
from swproxy.net.failure import DownstreamGone, UpstreamFailure
from swproxy.policy.clients import client_address
from swproxy.policy.cors import CorsPolicy
from swproxy.proxy.admit import admit
from swproxy.proxy.downstream import Downstream
from swproxy.proxy.forward import Forward
from swproxy.proxy.record import Record
from swproxy.proxy.worker import Worker
from swproxy.sw1.refusal import Refusal

__all__ = ["Exchange"]


_CLIENT_LOST = (DownstreamGone, httpcore.NetworkError, httpcore.TimeoutException)
"""What a write to the client, or a read of its body, ends with when it has gone or stalls."""


class Exchange:
    """One request and its answer.

    Afterwards `keep_alive` tells whether the connection may go on, `request_ended` whether all of
    the request has been read, and `cut` whether the client has to learn that its answer is broken.
    """

    def __init__(self, worker: Worker, downstream: Downstream, head: RequestHead | None) -> None:
        self._worker = worker
        self._downstream = downstream
        self._head = head
        self._cors: CorsPolicy = self._worker.config.open_cors
        self.keep_alive = (
            head is not None
            and head.keep_alive
            and self._worker.config.limits.keepalive_seconds > 0
        )
        self.request_ended = head is not None and head.content_length == 0
        self.cut = False
        self.record = Record(
            request_id=os.urandom(8).hex(),
            client=client_address(
                downstream.client,
                head.get(b"x-forwarded-for") if head else None,
                self._worker.config.server.trusted_proxies,
            ),
            method=head.method.decode("ascii") if head else "",
            started=trio.current_time(),
        )

    async def run(self) -> None:
        """Answer the request. Raises DownstreamGone when there is nobody left to answer to."""
        try:
            await self._run()
        except DownstreamGone:
            self.record.outcome = "client-gone"
            raise
        finally:
            self._end()

    async def refuse(self, refusal: Refusal) -> None:
        """Answer a head that could not be read, and close."""
        try:
            self.record.outcome = "refused"
            await self._fail(refusal.code, refusal.detail, None)
        finally:
            self._end()

    async def _run(self) -> None:
        head = self._head
        assert head is not None
        if head.method == b"OPTIONS" and head.get(b"access-control-request-method") is not None:
            await self._answer_preflight(head)
            return
        forward: Forward | None = None
        try:
            if head.expects_other:
                raise Refusal("expectation-failed", "Only Expect: 100-continue is understood.")
            admission = await admit(self._worker, head, self._downstream)
            try:
                self.record.app = admission.app.id
                self.record.origin = admission.destination.origin
                self.record.path = admission.destination.path
                self._cors = admission.app.cors
                forward = Forward(
                    self._worker,
                    self._downstream.endpoint,
                    head,
                    admission,
                    self.record,
                    self._extra_headers(),
                    keep_alive=self.keep_alive and not self._downstream.draining,
                    early=self._downstream.receive_now,
                )
                await forward.run()
                self.keep_alive = forward.keep_alive
                self.record.outcome = forward.outcome
            finally:
                # Of a WebSocket nobody knows: the client may still be sending.
                tunnelled = forward is not None and forward.tunnelled
                self.request_ended = admission.upload.ended and not tunnelled
                admission.close()
        except Refusal as refusal:
            self.record.outcome = "refused"
            await self._fail(refusal.code, refusal.detail, forward)
        except UpstreamFailure as failure:
            self.record.outcome = "upstream-failed"
            await self._fail(failure.code, failure.detail, forward)
        except Exception as error:
            if isinstance(error, _CLIENT_LOST):
                raise
            # A fault of ours must not take the other requests down with it.
            self._worker.observer.crashed(error)
            self.record.outcome = "aborted"
            self.keep_alive = False
            await self._fail("internal", "The proxy failed; its log says more.", forward)

    async def _answer_preflight(self, head: RequestHead) -> None:
        """Answer a CORS preflight; it carries no proof of anything, so none is asked for."""
        headers = [
            *self._worker.config.open_cors.preflight_headers(head.headers),
            (b"x-request-id", self.record.request_id.encode()),
        ]
        self.keep_alive &= self.request_ended and not self._downstream.draining
        if not self.keep_alive:
            headers.append((b"connection", b"close"))
        self.record.status = 204
        self.record.outcome = "preflight"
        await self._write(render_head(204, headers))

    async def _fail(self, code: str, detail: str, forward: Forward | None) -> None:
        self.record.code = code
        self.record.detail = detail
        if forward is not None and forward.started:
            self.cut = True
        else:
            await self._tell(code, detail)

    async def _tell(self, code: str, detail: str) -> None:
        self.keep_alive &= self.request_ended and not self._downstream.draining
        status, head, body = render_problem(
            code,
            detail,
            extra=self._extra_headers(),
            now=time.time(),
            keep_alive=self.keep_alive,
            with_body=self._head is None or self._head.method != b"HEAD",
        )
        self.record.status = status
        stream = self._downstream.stream
        head_end = stream.sent + len(head)
        try:
            await self._write(head + body)
        finally:
            self.record.bytes_down = max(0, stream.sent - head_end)

    async def _write(self, data: bytes) -> None:
        self.record.first_byte = trio.current_time()
        await self._downstream.stream.write(data, self._worker.config.limits.write_seconds)

    def _extra_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        origin = self._head.get(b"origin") if self._head else None
        request_id = self.record.request_id.encode()
        return (*self._cors.response_headers(origin), (b"x-request-id", request_id))

    def _end(self) -> None:
        self.record.ended = trio.current_time()
        self._worker.observer.ended(self.record)
