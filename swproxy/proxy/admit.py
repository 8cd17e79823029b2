"""Whether a request is served: the signature first, then where it wants to go.

All that is cheap is decided from the head alone, before a byte of the body is read. A signed body
has to be read whole before anything is known of it; it is hashed as it arrives and kept meanwhile.

What depends on the application (where it may go) is decided only once the signature holds, so that
a stranger learns nothing from the order of refusals: an unknown id, a wrong secret and an altered
request all get the one answer.

The seam for limits on applications (one-time URLs, rates, budgets) is the end of `admit`: the
request is verified and no connection has been dialled.
"""

import time
from dataclasses import dataclass

import trio

from swproxy.config.config import App
from swproxy.http.request import RequestHead
from swproxy.http.websocket import Handshake, read_handshake
from swproxy.policy.destination import Destination, parse_destination
from swproxy.proxy.body import ByteSource, RequestBody, Spool, Upload
from swproxy.proxy.worker import Worker
from swproxy.sw1.claims import Claims, check_time, parse_target
from swproxy.sw1.refusal import Refusal
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


async def admit(worker: Worker, head: RequestHead, source: ByteSource) -> Admission:
    """Verify a request and find its destination; its body is read off `source`.

    Raises Refusal, or DownstreamGone while a signed body is read.
    """
    config = worker.config
    limits = config.limits
    handshake = read_handshake(head)
    claims = parse_target(head.target)
    check_time(
        claims,
        now=time.time(),
        expiry_seconds=limits.expiry_seconds,
        clock_skew_seconds=limits.clock_skew_seconds,
    )
    destination = parse_destination(claims.proxy_url)
    app = config.apps.get(claims.app_id)
    verification = Verification(claims, head.method, head.headers, app.secrets if app else None)
    if not claims.body_signed:
        if not verification.accept() or app is None:
            raise mismatch()
        _check_allowed(app, destination, handshake)
        body = RequestBody(source, head, limit=limits.body_bytes)
        upload = _take_upload(source, body)
        return Admission(claims, app, destination, upload, handshake=handshake)
    body = RequestBody(source, head, limit=limits.signed_body_bytes)
    spool = Spool(worker.spools)
    try:
        if not await _verify_body(body, spool, verification) or app is None:
            raise mismatch()
        _check_allowed(app, destination, handshake)
    except BaseException:
        spool.close()
        raise
    return Admission(claims, app, destination, Upload.of_spool(spool), spool, handshake)


def _check_allowed(app: App, destination: Destination, handshake: Handshake | None) -> None:
    if not any(pattern.matches(destination) for pattern in app.allow):
        raise Refusal(
            "destination-not-allowed", "The application is not allowed to call this destination."
        )
    # Behind all else that can be wrong: a page is not told why its WebSocket was refused, and finds
    # out by asking for the same URL with fetch().
    if handshake is None and destination.scheme in ("ws", "wss"):
        raise Refusal("upgrade-required", "A ws or wss destination takes WebSockets only.")
    # A browser asks nobody before it opens a WebSocket, and lets any page read what comes.
    if handshake is not None and not all(map(app.cors.permits, handshake.origins)):
        raise Refusal(
            "origin-not-allowed", "Pages of this origin may not use the application's WebSockets."
        )


def _take_upload(source: ByteSource, body: RequestBody) -> Upload:
    """Look at what has arrived: a small body usually comes with its head, or right behind it."""
    if body.ended:
        return Upload(whole=b"")
    data = source.receive_now()
    payload = body.take(data) if data else b""
    return Upload(whole=payload) if body.ended else Upload(body=body, begun=payload)


async def _verify_body(body: RequestBody, spool: Spool, verification: Verification) -> bool:
    while piece := await body.read():
        verification.update(piece)
        spool.write(piece)
    if verification.accept():
        return True
    if not verification.needs_replay():
        return False
    verification = verification.replay()
    for piece in spool.pieces():
        verification.update(piece)
        await trio.lowlevel.checkpoint()
    return verification.accept()
