"""Whether a request is served: the signature first, then where it wants to go.

All that is cheap is decided from the head alone, before a byte of the body is read. A body that is
signed, or that terms are about, has to be read whole before it is known whether it may be sent on;
it is kept meanwhile. That may take a minute, in which the URL expires, the application is removed
or its key replaced. So what was decided from the head is decided again when the body is there, by
the clock and the configuration of that moment (`_Request.renew`).

The checks themselves, and their order, are in `config.checks`, which `explain` walks as well. An
unknown id, a wrong secret and an altered request all get the one answer.

What is limited is counted behind all of this (see `charge`), just before an API is dialled.
"""

import time
from dataclasses import dataclass, field

import trio

from swproxy.config.checks import applied_terms, check_application, check_claims
from swproxy.config.config import App
from swproxy.http.websocket import Handshake, read_handshake
from swproxy.policy.applied_terms import AppliedTerms, Asked
from swproxy.policy.destination import Destination
from swproxy.proxy.body import RequestBody, Upload
from swproxy.proxy.call import Call
from swproxy.proxy.charge import accounts_of, revoked
from swproxy.proxy.checked_body import judge, judge_spool
from swproxy.proxy.spool import Spool
from swproxy.quota.accounts import Account
from swproxy.sw1.claims import Claims
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.verify import Verification, mismatch

__all__ = ["Admission", "admit"]


@dataclass(slots=True)
class Admission:
    """A request that may go on. `close` it, whatever happens: its body may be held until then."""

    claims: Claims
    app: App
    destination: Destination
    upload: Upload
    spool: Spool | None = None
    handshake: Handshake | None = None
    """there when the request asks to become a WebSocket"""
    terms: AppliedTerms | None = None
    accounts: tuple[Account, ...] = ()
    """who is charged for the call"""
    secret: str = field(default="", repr=False)
    """the application's, with which the URL was signed"""

    def close(self) -> None:
        """Forget the body. Harmless a second time."""
        self.upload.forget()
        if self.spool is not None:
            self.spool.close()


async def admit(call: Call) -> Admission:
    """Verify a request and find its destination; its body is read off the client's connection.

    The call's record is the application's once the signature holds, its CORS policy once all else
    does. Raises Refusal; TimeSpent or DownstreamGone while a body is read that is held.
    """
    request = _Request(call, read_handshake(call.head))
    claims, limits = request.claims, call.config.limits
    if claims.body_signed:
        # What the URL itself asks for is no secret, and may spare everybody the body.
        own = None if claims.terms is None else AppliedTerms.of([claims.terms])
        request.apply(own)
        body = request.body(limits.signed_body_bytes, own)
        return await _hold(request, body, b"")
    app, terms = request.pass_checks(request.verification.accept())
    body = request.body(limits.body_bytes, terms)
    # A small body usually comes with its head, or right behind it.
    data = b"" if body.ended else call.downstream.receive_now()
    payload = body.take(data) if data else b""
    if terms is not None and terms.checks_body:
        if not body.ended:
            return await _hold(request, body, payload)
        await judge(call.worker.judges, terms, payload)
    upload = Upload(whole=payload) if body.ended else Upload(body=body, begun=payload)
    return request.admission(app, terms, upload)


async def _hold(request: "_Request", body: RequestBody, begun: bytes) -> Admission:
    """Read a body whole and judge the call again, and the body as far as that is asked for."""
    call = request.call
    spool = Spool(call.worker.spools, call.share_of, proved=not request.claims.body_signed)
    try:
        with spool.receiving():
            spool.write(begun)
            while piece := await body.read():
                if request.claims.body_signed:
                    request.verification.update(piece)
                spool.write(piece)
            request.renew()
            app, terms = request.pass_checks(await _holds(request.verification, spool))
        spool.prove()
        if terms is not None:
            terms.check_length(spool.length, ended=True)
            if terms.checks_body:
                await judge_spool(
                    call.worker.judges, terms, spool, call.config.limits.checked_body_bytes
                )
    except BaseException:
        spool.close()
        raise
    return request.admission(app, terms, Upload.of_spool(spool), spool)


class _Request:
    """A request on its way to an admission: what its URL says, as far as it can be trusted now."""

    def __init__(self, call: Call, handshake: Handshake | None) -> None:
        """Read the URL; raises Refusal."""
        self.call = call
        self.handshake = handshake
        self._read()
        secrets = self.app.secrets if self.app else None
        self.verification = Verification(self.claims, call.head.method, call.head.headers, secrets)

    def _read(self) -> None:
        config = self.call.config
        self.claims, self.destination = check_claims(self.call.head.target, config, time.time())
        self.app = config.apps.get(self.claims.app_id)

    def renew(self) -> None:
        """Take clock and configuration as they are now; raises Refusal."""
        self.call.renew()
        self._read()
        self.verification.judge_by(self.app.secrets if self.app else None)

    def pass_checks(self, holds: bool) -> tuple[App, AppliedTerms | None]:
        """Return the application whose signature `holds`, and the terms; raises Refusal.

        The record says from then on what is asked, and for whom.
        """
        app, own, record = self.app, self.claims.terms, self.call.record
        if app is None or not holds:
            raise mismatch()
        self.call.downstream.prove()
        record.app = app.id
        record.origin = self.destination.origin
        record.path = self.destination.path
        if own is not None:
            record.user, record.plan, record.tags = own.user or "", own.plan or "", own.tags
        self._check_revoked(app)
        check_application(
            app,
            self.destination,
            websocket=self.handshake is not None,
            origins=self.handshake.origins if self.handshake else (),
        )
        terms = applied_terms(app, own)
        self.apply(terms)
        return app, terms

    def _check_revoked(self, app: App) -> None:
        revocations = self.call.worker.ledger.revocations
        if revocations and revoked(revocations, app.id, self.call.record.user, self.claims):
            raise Refusal("revoked", "The URL has been revoked.")

    def apply(self, terms: AppliedTerms | None) -> None:
        """Hold the head against terms, and the call to the time they give; raises Refusal."""
        if terms is None:
            return
        call, head = self.call, self.call.head
        websocket = self.handshake is not None
        terms.check_head(Asked(head.headers, head.content_length, call.record.client, websocket))
        if terms.seconds is not None:
            call.seconds = min(call.seconds, terms.seconds)

    def body(self, limit: int, terms: AppliedTerms | None) -> RequestBody:
        """Return the body, to be read; raises Refusal."""
        call = self.call
        if terms is not None and terms.checks_body:
            limit = min(limit, call.config.limits.checked_body_bytes)
        return RequestBody(
            call.downstream,
            call.head,
            limit=limit,
            terms=terms,
            ends_at=call.ends_at,
            turn=call.worker.turns.take,
        )

    def admission(
        self, app: App, terms: AppliedTerms | None, upload: Upload, spool: Spool | None = None
    ) -> Admission:
        """Admit the request."""
        self.call.cors = app.cors
        return Admission(
            self.claims,
            app,
            self.destination,
            upload,
            spool,
            self.handshake,
            terms,
            accounts_of(app, self.claims, terms),
            self.verification.secret,
        )


async def _holds(verification: Verification, spool: Spool) -> bool:
    """Tell whether the signature holds for a body that has been read, in any of its counts."""
    if verification.accept():
        return True
    if not verification.needs_replay():
        return False
    again = verification.replay()
    for piece in spool.pieces():
        again.update(piece)
        await trio.lowlevel.checkpoint()
    holds = again.accept()
    verification.secret = again.secret
    return holds
