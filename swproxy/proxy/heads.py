"""The heads that leave: of a request to its upstream, of an answer to its client.

Which fields travel is said by `policy.headers`; here they meet what depends on the call itself, the
framing and whether a connection goes on.
"""

import time

from swproxy.http.framing import ChunkedBody, UntilCloseBody
from swproxy.http.request import hops_left
from swproxy.http.respond import dated, render_head
from swproxy.policy.headers import downstream_headers, upstream_headers
from swproxy.policy.methods import wants_length
from swproxy.proxy.admit import Admission
from swproxy.proxy.call import Call
from swproxy.proxy.upstream import ResponseHead, render_request

__all__ = ["SWITCH", "request_head", "response_head"]

SWITCH = ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))

_UNCOMPRESSED = (b"Accept-Encoding", b"identity")


def request_head(call: Call, admission: Admission, *, metered: bool) -> bytes:
    """Return the head of a request; what is `metered` is best answered without compression."""
    own = admission.app.headers
    if metered and not _has_say_in_compression(admission):
        own = (*own, _UNCOMPRESSED)
    headers = upstream_headers(
        call.head.headers,
        admission.claims.signed_headers,
        own,
        admission.destination.authority,
        from_page=admission.app.headers_from_page,
        websocket=admission.handshake is not None,
    )
    length = admission.upload.length
    if admission.handshake is not None:
        framing = b"".join([b"%b: %b\r\n" % header for header in SWITCH])
    elif length is None:
        framing = b"Transfer-Encoding: chunked\r\n"
    elif length or wants_length(call.head.method):
        framing = b"Content-Length: %d\r\n" % length
    else:
        framing = b""
    if hops := hops_left(call.head):
        framing += b"Max-Forwards: %d\r\n" % (hops - 1)
    return render_request(call.head.method, admission.destination.target, headers, framing)


def _has_say_in_compression(admission: Admission) -> bool:
    """Tell whether backend or operator, and not just a browser, says what the API may send."""
    configured = [name.lower() for name, _ in admission.app.headers]
    return "accept-encoding" in admission.claims.signed_headers or b"accept-encoding" in configured


def response_head(
    call: Call, admission: Admission, response: ResponseHead, *, keep_alive: bool
) -> tuple[bytes, bool]:
    """Return the head of an answer, and whether its connection may carry another request.

    `keep_alive` is whether it might as far as the client is concerned. Raises ValueError on a field
    that can't be relayed.
    """
    headers = downstream_headers(response.headers, admission.app.headers)
    headers.extend(call.own_headers())
    body = response.body
    if isinstance(body, ChunkedBody):
        if call.head.http11:
            headers.append((b"transfer-encoding", b"chunked"))
        else:
            keep_alive = False
    elif isinstance(body, UntilCloseBody):
        keep_alive = False
    elif response.status not in (204, 304) and response.content_length is not None:
        headers.append((b"content-length", b"%d" % response.content_length))
    keep_alive = keep_alive and admission.upload.ended
    if not keep_alive:
        headers.append((b"connection", b"close"))
    return render_head(response.status, dated(headers, time.time())), keep_alive
