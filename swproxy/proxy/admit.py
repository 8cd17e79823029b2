"""Whether a request is served: the signature first, then where it wants to go.

All that is cheap is decided from the head alone, before a byte of the body is read. A signed body
has to be read whole before anything is known of it; it is hashed as it arrives and kept meanwhile.
That may take a minute, in which the URL expires, the application is removed or its key replaced.
So what was decided from the head is decided again when the body is there, by the clock and the
configuration of that moment (see `_judge`).

The checks themselves, and their order, are in `config.checks`, which `explain` walks as well. An
unknown id, a wrong secret and an altered request all get the one answer.

The seam for limits on applications (one-time URLs, rates, budgets) is the end of `admit`: the
request is verified, all that is known of it is in the call, and no connection has been dialled.
"""

import time
from dataclasses import dataclass

import trio

from swproxy.config.checks import check_application, check_claims
from swproxy.config.config import App
from swproxy.http.websocket import Handshake, read_handshake
from swproxy.policy.destination import Destination
from swproxy.proxy.body import ByteSource, RequestBody, Spool, Upload
from swproxy.proxy.call import Call
from swproxy.sw1.claims import Claims
from swproxy.sw1.verify import Verification, mismatch

__all__ = ["Admission", "admit"]


@dataclass(slots=True)
class Admission:
    """A request that may go on. `close` it, whatever happens: a signed body is held until then."""

    claims: Claims
    app: App
    destination: Destination
    upload: Upload
    spool: Spool | None = None
    handshake: Handshake | None = None
    """there when the request asks to become a WebSocket"""

    def close(self) -> None:
        """Forget the body. Harmless a second time."""
        self.upload.forget()
        if self.spool is not None:
            self.spool.close()


async def admit(call: Call) -> Admission:
    """Verify a request and find its destination; its body is read off the client's connection.

    The call's record is the application's once the signature holds, its CORS policy once all else
    does. Raises Refusal, or DownstreamGone while a signed body is read.
    """
    head, source = call.head, call.downstream
    handshake = read_handshake(head)
    claims, destination, app = _judge(call)
    verification = Verification(claims, head.method, head.headers, app.secrets if app else None)
    limits = call.config.limits
    spool = None
    if not claims.body_signed:
        app = _proven(call, app, destination, verification.accept())
        _check(app, destination, handshake)
        body = RequestBody(source, head, limit=limits.body_bytes)
        upload = _take_upload(source, body)
    else:
        body = RequestBody(source, head, limit=limits.signed_body_bytes)
        spool = Spool(call.worker.spools)
        try:
            while piece := await body.read():
                verification.update(piece)
                spool.write(piece)
            call.renew()
            claims, destination, app = _judge(call)
            verification.judge_by(app.secrets if app else None)
            app = _proven(call, app, destination, await _holds(verification, spool))
            _check(app, destination, handshake)
        except BaseException:
            spool.close()
            raise
        upload = Upload.of_spool(spool)
    call.cors = app.cors
    return Admission(claims, app, destination, upload, spool, handshake)


def _judge(call: Call) -> tuple[Claims, Destination, App | None]:
    """Return what the URL says, as far as it can be trusted now and without its signature."""
    claims, destination = check_claims(call.head.target, call.config, time.time())
    return claims, destination, call.config.apps.get(claims.app_id)


def _proven(call: Call, app: App | None, destination: Destination, holds: bool) -> App:
    """Return the application whose signature holds; the record says from now on what it asks."""
    if app is None or not holds:
        raise mismatch()
    call.record.app = app.id
    call.record.origin = destination.origin
    call.record.path = destination.path
    return app


def _check(app: App, destination: Destination, handshake: Handshake | None) -> None:
    check_application(
        app,
        destination,
        websocket=handshake is not None,
        origins=handshake.origins if handshake else (),
    )


def _take_upload(source: ByteSource, body: RequestBody) -> Upload:
    """Look at what has arrived: a small body usually comes with its head, or right behind it."""
    if body.ended:
        return Upload(whole=b"")
    data = source.receive_now()
    payload = body.take(data) if data else b""
    return Upload(whole=payload) if body.ended else Upload(body=body, begun=payload)


async def _holds(verification: Verification, spool: Spool) -> bool:
    """Tell whether the signature holds for a body that has been read, in any of its counts."""
    if verification.accept():
        return True
    if not verification.needs_replay():
        return False
    verification = verification.replay()
    for piece in spool.pieces():
        verification.update(piece)
        await trio.lowlevel.checkpoint()
    return verification.accept()
