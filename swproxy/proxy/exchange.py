"""The life of one request: admit it, forward it, and say so when that can't be done.

Refusals (the client's doing), upstream failures and a client that goes away are exceptions that
end here, each in one of two ways: before the answer's head has left, the client is told in a
problem document; after it, the connection is cut, since a cut answer must never look whole.
"""

import os
import time
from dataclasses import replace

import httpcore
import trio

from swproxy.http.request import UNREAD, RequestHead, hops_left
from swproxy.http.respond import ALLOW, own_headers, render_head, render_problem
from swproxy.net.failure import CallEnded, DownstreamGone, TimeSpent, UpstreamFailure
from swproxy.policy.clients import client_address
from swproxy.proxy.admit import Admission, admit
from swproxy.proxy.call import Call, Downstream
from swproxy.proxy.charge import LimitReached, charge, reserve
from swproxy.proxy.forward import Forward
from swproxy.proxy.metering import Spent
from swproxy.proxy.record import Outcome, Record
from swproxy.proxy.worker import Worker
from swproxy.quota import accounts as quota
from swproxy.quota.accounts import Taken
from swproxy.quota.checks import End
from swproxy.quota.ledger import Used
from swproxy.sw1.refusal import Refusal

__all__ = ["Exchange"]


_CLIENT_LOST = (DownstreamGone, httpcore.NetworkError, httpcore.TimeoutException)
"""What a write to the client, or a read of its body, ends with when it has gone or stalls."""


class Exchange:
    """One request and its answer.

    Afterwards `keep_alive` tells whether the connection may go on, `request_ended` whether all of
    the request has been read, and `cut` whether the client has to learn that its answer is broken.
    """

    def __init__(self, worker: Worker, downstream: Downstream, head: RequestHead = UNREAD) -> None:
        config = worker.config
        record = Record(
            request_id=os.urandom(8).hex(),
            client=client_address(
                downstream.client, head.get(b"x-forwarded-for"), config.server.trusted_proxies
            ),
            method=head.method.decode("ascii"),
            started=trio.current_time(),
        )
        self._call = Call(worker, downstream, head, record)
        self._forward: Forward | None = None
        self.keep_alive = head.keep_alive and config.limits.keepalive_seconds > 0
        self.request_ended = head.content_length == 0
        self.cut = False

    @property
    def share_of(self) -> str:
        """Whose share of the connections the request counts for."""
        call = self._call
        if call.record.client == call.downstream.client:
            return call.downstream.slot.own_client
        return call.share_of

    async def run(self) -> None:
        """Answer the request. Raises DownstreamGone when there is nobody left to answer to."""
        try:
            await self._run()
        except DownstreamGone:
            self._call.record.outcome = "client-gone"
            raise
        finally:
            self._end()

    async def refuse(self, refusal: Refusal) -> None:
        """Answer what can't be read, or what there is no room for, and close."""
        self.keep_alive = False
        try:
            await self._fail("refused", refusal.code, refusal.detail, refusal.status)
        finally:
            self._end()

    async def _run(self) -> None:
        head = self._call.head
        if head.method == b"OPTIONS" and head.get(b"access-control-request-method") is not None:
            await self._answer_options()
            return
        try:
            if hops_left(head) == 0:
                await self._answer_options()
            else:
                await self._serve()
        except Refusal as refusal:
            self._call.record.for_operator = refusal.for_operator
            if isinstance(refusal, LimitReached):
                self._call.says = refusal.headers
                self._call.record.limit = refusal.limit
            await self._fail("refused", refusal.code, refusal.detail, refusal.status)
        except UpstreamFailure as failure:
            await self._fail("upstream-failed", failure.code, failure.detail)
        except CallEnded as ended:
            await self._fail("aborted", ended.code, ended.detail)
        except TimeSpent:
            allowed = f"The terms allow a call of {self._call.seconds:g} seconds at most."
            await self._fail("aborted", "seconds-spent", allowed)
        except Exception as error:
            if isinstance(error, _CLIENT_LOST):
                raise
            # A fault of ours must not take the other requests down with it.
            self._call.worker.observer.crashed(error)
            self.keep_alive = False
            await self._fail("aborted", "internal", "The proxy failed; its log says more.")

    async def _serve(self) -> None:
        """Admit and forward. Raises Refusal, UpstreamFailure, TimeSpent or DownstreamGone."""
        call = self._call
        if call.head.expects_other:
            raise Refusal("expectation-failed", "Only Expect: 100-continue is understood.")
        admission = await admit(call)
        forward = self._forward = Forward(call, admission, keep_alive=self._may_go_on())
        taken: Taken | None = None
        try:
            if admission.accounts:
                taken = await self._charge(admission)
            call.worker.begin(forward)
            await forward.run()
            self.keep_alive = forward.keep_alive
            call.record.outcome = forward.outcome
        finally:
            call.worker.calls.pop(forward, None)
            spent = self._account(forward)
            if taken is not None:
                call.worker.ledger.settle(taken, *_ended(forward, spent, held=taken.call.tokens))
            elif spent is not None and forward.reached:
                used = replace(_used(spent), requests=1)
                call.worker.ledger.note(call.record.app, call.record.user, used)
            # Of a WebSocket nobody knows: the client may still be sending.
            self.request_ended = admission.upload.ended and not forward.tunnelled
            admission.close()

    async def _charge(self, admission: Admission) -> Taken:
        """Charge the call to whom it concerns. Raises Refusal."""
        call, record = self._call, self._call.record
        accounts = admission.accounts
        reservation = reserve(
            accounts,
            admission.terms,
            admission.upload,
            admission.spool,
            admission.app.weights,
            admission.destination.path,
        )
        asked = quota.Call(record.request_id, record.app, accounts, record.user, reservation.wanted)
        return await charge(call.worker.ledger, asked, reservation.least)

    def _account(self, forward: Forward) -> Spent | None:
        """Note down and return what the call used, if that is read off its answer."""
        record = self._call.record
        if forward.metering is None:
            return None
        if forward.tunnelled:
            spent = Spent()  # what was said on a WebSocket nobody has read
        elif not forward.reached:
            spent = Spent(0, 0, 0)
        else:
            spent = forward.metering.spent(sent=record.bytes_up, received=record.bytes_down)
        record.metered = True
        record.tokens_in, record.tokens_out = spent.tokens_in, spent.tokens_out
        record.model = spent.model
        return spent

    def _may_go_on(self) -> bool:
        return self.keep_alive and not self._call.downstream.draining

    async def _answer_options(self) -> None:
        """Answer a CORS preflight, or an OPTIONS that may be passed on no further.

        Neither says anything of an application, so no proof of anything is asked for.
        """
        call = self._call
        headers = [
            *own_headers(time.time()),
            ALLOW,
            *call.cors.preflight_headers(call.head.headers),
            (b"x-request-id", call.record.request_id.encode()),
        ]
        self.keep_alive = self.request_ended and self._may_go_on()
        if not self.keep_alive:
            headers.append((b"connection", b"close"))
        call.record.status = 204
        call.record.outcome = "preflight"
        await self._write(render_head(204, headers))

    async def _fail(
        self, outcome: Outcome, code: str, detail: str, status: int | None = None
    ) -> None:
        """Say what went wrong, or cut the answer that has begun."""
        call, record = self._call, self._call.record
        record.outcome, record.code, record.detail = outcome, code, detail
        if self._forward is not None and self._forward.started:
            self.cut = True
            return
        self.keep_alive = self.request_ended and self._may_go_on()
        record.status, head, body = render_problem(
            code,
            detail,
            status=status,
            extra=call.own_headers(),
            now=time.time(),
            keep_alive=self.keep_alive,
            with_body=call.head.method != b"HEAD",
        )
        stream = call.downstream.stream
        head_end = stream.sent + len(head)
        try:
            await self._write(head + body)
        finally:
            record.bytes_down = max(0, stream.sent - head_end)

    async def _write(self, data: bytes) -> None:
        call = self._call
        call.record.first_byte = trio.current_time()
        await call.downstream.stream.write(data, call.config.limits.write_seconds)

    def _end(self) -> None:
        self._call.record.ended = trio.current_time()
        self._call.worker.observer.ended(self._call.record)


def _ended(forward: Forward, spent: Spent | None, *, held: int) -> tuple[End, Used | None]:
    """Return how a call that was charged for ended, and what to add to the figures.

    `held` is how many tokens were held for it.
    """
    if not forward.reached:
        return End(returned=True), None
    if spent is None:
        return End(), None
    units = spent.units
    if units is not None and spent.estimated:
        units = min(units, held)
    return End(tokens=units), _used(spent)


def _used(spent: Spent) -> Used:
    unknown = int(spent.units is None)
    return Used(tokens_in=spent.tokens_in or 0, tokens_out=spent.tokens_out or 0, unknown=unknown)
