"""Which header fields travel, and which end here: in both directions, as tables.

Upstream, in this order:
1. Fields about the client's own connection end here: those that its Connection header names, and
   those that are so by definition. First, so that a client cannot use Connection to take away what
   comes later. A *signed* field that Connection names still travels: what was signed is what is
   sent.
2. Any other field that is not signed needs the application's leave (see `page_headers`), and is not
   the twin of a signed one: beside a signed `X-User-Id`, no `X_User_Id` travels.
3. The application's configured fields replace the client's of the same name. They come last and
   always arrive.
A field that frames or routes the message (Host, Content-Length, ...) is made anew even if it was
signed: it was verified against what the client sent, and we send another message.

Names are compared folded (see `field_names`). What travels does so as it is, in its order.

Downstream, fields end here that would act on our origin (its cookies, its policies, its caches), on
the server in front of us, or that say what we say ourselves. Our own come last. So do fields that
repeat a configured secret (see `credentials`). Bodies are relayed unread.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from swproxy.policy.credentials import without_credentials
from swproxy.policy.field_names import Header, field_names, folded
from swproxy.policy.page_headers import PageHeaders

__all__ = ["ANSWER_HEADERS", "NO_STORE", "configurable", "downstream_headers", "upstream_headers"]


# RFC 9110 §7.6.1, and what older software sends. HTTP2-Settings: RFC 7540 §3.2.1.
HOP_BY_HOP: Final = field_names(
    "connection keep-alive te trailer transfer-encoding upgrade http2-settings"
)
HOP_BY_HOP_PREFIX: Final = b"proxy-"

# Made anew for the next hop. Expect is answered here (RFC 9110 §10.1.1), Max-Forwards counted down
# (§7.6.2).
REMADE: Final = field_names("host content-length expect max-forwards")

_NEVER: Final = HOP_BY_HOP | REMADE

# Part of a WebSocket's handshake, which is between the client and the upstream (RFC 6455 §11.3).
WEBSOCKET: Final = field_names(
    "sec-websocket-key sec-websocket-version sec-websocket-protocol sec-websocket-extensions"
)

# End here on their way down.
UPSTREAM_ONLY: Final = (
    # our origin's cookies, stored data and sessions
    field_names("set-cookie set-cookie2 clear-site-data set-login activate-storage-access")
    # how browsers reach our origin from now on
    | field_names("alt-svc strict-transport-security expect-ct public-key-pins")
    # which other URLs of our origin this answer serves for, or helps to decode
    | field_names("no-vary-search use-as-dictionary")
    # where browsers report about our origin
    | field_names("nel report-to reporting-endpoints")
    # what documents and workers of our origin may do, and what browsers tell it
    | field_names("content-security-policy x-frame-options x-xss-protection refresh")
    | field_names("permissions-policy feature-policy document-policy require-document-policy")
    | field_names("integrity-policy connection-allowlist origin-trial origin-agent-cluster")
    | field_names("document-isolation-policy service-worker-allowed speculation-rules")
    | field_names("supports-loading-mode accept-ch accept-ch-lifetime critical-ch delegate-ch")
    | field_names("x-permitted-cross-domain-policies x-dns-prefetch-control x-ua-compatible")
    # what browsers note down for advertisers, in our origin's name
    | field_names("observe-browsing-topics shared-storage-write allow-csp-from")
    # a password prompt in our name; what is typed there would be sent to us
    | field_names("www-authenticate")
    # said by us, for our own reasons
    | field_names("timing-allow-origin x-content-type-options referrer-policy x-request-id")
    # orders to the server in front of us: send that file, fetch that address, keep this
    | field_names("x-sendfile x-send-file edge-control surrogate-control")
)
UPSTREAM_ONLY_PREFIXES: Final = (
    *(b"proxy-", b"access-control-", b"cross-origin-"),
    # sessions bound to the device, attribution and auctions of advertisements
    *(b"secure-session-", b"sec-session-", b"attribution-reporting-", b"ad-auction-"),
    *(b"x-accel-", b"x-lighttpd-", b"x-litespeed-", b"x-reproxy-", b"x-sendfile-"),
)
UPSTREAM_ONLY_SUFFIXES: Final = (
    # a policy of any kind, tried out
    b"-report-only",
    # RFC 9213: for one cache in front of us, by its name
    b"-cache-control",
)

# Ours, on every answer that is relayed.
ANSWER_HEADERS: Final[tuple[Header, ...]] = (
    # An answer is data for a script. Should somebody open it as a page of our origin, it is inert:
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Content-Security-Policy", b"sandbox"),
    # and its links do not carry the signed URL elsewhere.
    (b"Referrer-Policy", b"no-referrer"),
    # Pages that isolate themselves (COEP) may use answers; CORS says who may read them.
    (b"Cross-Origin-Resource-Policy", b"cross-origin"),
    # An nginx in front passes bytes on as they come.
    (b"X-Accel-Buffering", b"no"),
)
# The upstream saw a credential, which keeps shared caches from storing its answer (RFC 9111 §3.5).
# A cache in front of us did not see it, and needs to be told.
NO_STORE: Final = (b"Cache-Control", b"no-store")
_CACHING: Final = field_names("cache-control expires")


def _nominated(headers: Iterable[Header]) -> frozenset[bytes]:
    """Return the names that the message's own Connection fields list, folded."""
    return frozenset(
        folded(option.strip(b" \t"))
        for name, value in headers
        if name == b"connection"
        for option in value.split(b",")
    )


def configurable(name: bytes) -> bool:
    """Whether an application may configure a header of this name.

    Not one that we make anew, nor one that ties a WebSocket's handshake to its client; which
    sub-protocols are on offer may well be the application's to say.
    """
    key = folded(name)
    if key in WEBSOCKET:
        return key == b"sec-websocket-protocol"
    return key not in _NEVER and not key.startswith(HOP_BY_HOP_PREFIX)


def upstream_headers(
    client: Sequence[Header],
    signed: Collection[str],
    app: Sequence[Header],
    authority: bytes,
    *,
    from_page: PageHeaders,
    websocket: bool = False,
) -> list[Header]:
    """Return what the upstream request carries, Host first; framing is left to who sends it.

    `client`: as received, names lower-case. `signed`: names that the signature covers, lower-case.
    `app`: the application's own, all `configurable`. `from_page`: what may pass unsigned.
    `websocket`: let the handshake's fields through; its Connection and Upgrade are hop-by-hop like
    any.
    """
    covered = frozenset(name.encode() for name in signed)
    taken = frozenset(map(folded, covered)) | _nominated(client)
    replaced = frozenset(folded(name) for name, _ in app)
    kept = [(b"Host", authority)]
    for field in client:
        name = field[0]
        key = folded(name)
        if key in _NEVER or key in replaced or key.startswith(HOP_BY_HOP_PREFIX):
            continue
        if name in covered or (
            key not in taken and (from_page.permits(name) or (websocket and name in WEBSOCKET))
        ):
            kept.append(field)
    kept.extend(app)
    return kept


# Control characters that no field value may have (RFC 9110 §5.5); a tab is white space.
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def downstream_headers(upstream: Sequence[Header], app: tuple[Header, ...] = ()) -> list[Header]:
    """Return what the client's answer carries, our own last; without framing and CORS.

    `upstream`: as received, names lower-case. A field that repeats a credential of `app` ends here.
    Raises ValueError on a value with a control character: whoever reads it next may read two
    fields.
    """
    if _CONTROL.search(b" ".join([value for _, value in upstream])):
        raise ValueError("a header value of the upstream's answer has a control character")
    nominated = _nominated(upstream)
    relayed = [
        field
        for field in upstream
        if (key := folded(field[0])) not in UPSTREAM_ONLY
        and key not in _NEVER
        and key not in nominated
        and not key.startswith(UPSTREAM_ONLY_PREFIXES)
        and not key.endswith(UPSTREAM_ONLY_SUFFIXES)
    ]
    kept = [*without_credentials(relayed, app)]
    if not any(name in _CACHING for name, _ in kept):
        kept.append(NO_STORE)
    kept.extend(ANSWER_HEADERS)
    return kept
