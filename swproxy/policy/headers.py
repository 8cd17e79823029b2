"""Which header fields travel, and which end here: in both directions, as tables.

Upstream, in this order:
1. Fields about the client's own connection end here: those that its Connection header names, and
   those that are so by definition. First, so that a client cannot use Connection to take away what
   comes later. A *signed* field that Connection names still travels: what was signed is what is
   sent.
2. Fields that tell about the user, carry the user's credentials for somebody else, or change what
   the request means behind the signature's back end here too, unless the signer signed them.
3. The application's configured fields replace the client's of the same name. They come last and
   always arrive.
A field that frames or routes the message (Host, Content-Length, ...) is made anew even if it was
signed: it was verified against what the client sent, and we send another message.

Names are compared with `_` as `-`. Servers of the CGI family cannot tell the two apart, so that
`X_Api_Key` would be a second `X-Api-Key` to them.

Everything else travels as it is, in its order, User-Agent among it: APIs refuse requests without
one, and it is up to the application to configure another.

Downstream, fields end here that would act on our origin (its cookies, its policies, its caches), on
the server in front of us, or that say what we say ourselves. Our own come last.

A configured secret in an answer's field: see `credentials`. Bodies are relayed unread.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

__all__ = [
    "ANSWER_HEADERS",
    "Header",
    "configurable",
    "credentials",
    "downstream_headers",
    "upstream_headers",
]

Header = tuple[bytes, bytes]
"""A field's name and value, as they stand on the wire."""


def _names(text: str) -> frozenset[bytes]:
    return frozenset(text.encode("ascii").split())


# RFC 9110 §7.6.1, and what older software sends. HTTP2-Settings: RFC 7540 §3.2.1.
HOP_BY_HOP: Final = _names(
    "connection keep-alive te trailer transfer-encoding upgrade http2-settings"
)
HOP_BY_HOP_PREFIX: Final = b"proxy-"

# Made anew for the next hop. Expect is answered here (RFC 9110 §10.1.1).
REMADE: Final = _names("host content-length expect")

_NEVER: Final = HOP_BY_HOP | REMADE

# End here unless signed.
CLIENT_ONLY: Final = (
    # the user's credentials for our origin, or for nobody we know
    _names("authorization cookie cookie2")
    # where the user comes from: page, address, preferences
    | _names("origin referer forwarded via from dnt")
    | _names("x-real-ip x-client-ip x-cluster-client-ip x-original-forwarded-for true-client-ip")
    | _names("x-forwarded x-originating-ip x-remote-ip x-remote-addr")
    | _names("cf-connecting-ip fastly-client-ip")
    # the browser speaking to us
    | _names("priority upgrade-insecure-requests")
    # another method or path than the one that was signed and allowed
    | _names("x-http-method x-http-method-override x-method-override")
    | _names("x-original-url x-rewrite-url x-original-host x-host")
)
# Sec-: set by browsers only; Access-Control-Request-: the page's preflight is answered here.
CLIENT_ONLY_PREFIXES: Final = (b"sec-", b"x-forwarded-", b"access-control-request-")

# Part of a WebSocket's handshake, which is between the client and the upstream (RFC 6455 §11.3).
WEBSOCKET: Final = _names(
    "sec-websocket-key sec-websocket-version sec-websocket-protocol sec-websocket-extensions"
)

# End here on their way down.
UPSTREAM_ONLY: Final = (
    # our origin's cookies, stored data and sessions
    _names("set-cookie set-cookie2 clear-site-data set-login activate-storage-access")
    # how browsers reach our origin from now on
    | _names("alt-svc strict-transport-security expect-ct")
    | _names("public-key-pins public-key-pins-report-only")
    # which other URLs of our origin this answer serves for, or helps to decode
    | _names("no-vary-search use-as-dictionary")
    # where browsers report about our origin
    | _names("nel report-to reporting-endpoints")
    # what documents and workers of our origin may do, and what browsers tell it
    | _names("content-security-policy content-security-policy-report-only x-frame-options")
    | _names("permissions-policy feature-policy document-policy integrity-policy")
    | _names("origin-agent-cluster document-isolation-policy service-worker-allowed")
    | _names("speculation-rules supports-loading-mode refresh x-xss-protection")
    | _names("accept-ch accept-ch-lifetime critical-ch x-permitted-cross-domain-policies")
    # a password prompt in our name; what is typed there would be sent to us
    | _names("www-authenticate")
    # said by us, for our own reasons
    | _names("timing-allow-origin x-content-type-options referrer-policy")
    | _names("x-request-id")
    # orders to the server in front of us: send that file, fetch that address, keep this
    | _names("x-sendfile x-lighttpd-send-file x-lighttpd-send-tempfile x-reproxy-url")
    | _names("surrogate-control cdn-cache-control cloudflare-cdn-cache-control")
)
UPSTREAM_ONLY_PREFIXES: Final = (b"proxy-", b"access-control-", b"cross-origin-", b"x-accel-")

# Ours, on every answer, relayed or made here.
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
_CACHING: Final = _names("cache-control expires")


def _folded(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-")


def _nominated(headers: Iterable[Header]) -> frozenset[bytes]:
    """Return the names that the message's own Connection fields list, folded."""
    return frozenset(
        _folded(option.strip(b" \t"))
        for name, value in headers
        if name == b"connection"
        for option in value.split(b",")
    )


def configurable(name: bytes) -> bool:
    """Whether an application may configure a header of this name.

    Not one that we make anew, nor one that ties a WebSocket's handshake to its client; which
    sub-protocols are on offer may well be the application's to say.
    """
    key = _folded(name)
    if key in WEBSOCKET:
        return key == b"sec-websocket-protocol"
    return key not in _NEVER and not key.startswith(HOP_BY_HOP_PREFIX)


def upstream_headers(
    client: Sequence[Header],
    signed: Collection[str],
    app: Sequence[Header],
    authority: bytes,
    *,
    websocket: bool = False,
) -> list[Header]:
    """Return what the upstream request carries, Host first; framing is left to who sends it.

    `client`: as received, names lower-case. `signed`: names that the signature covers, lower-case.
    `app`: the application's own, all `configurable`. `websocket`: let the handshake's fields
    through; its Connection and Upgrade are hop-by-hop like any.
    """
    covered = frozenset(name.encode() for name in signed)
    replaced = frozenset(_folded(name) for name, _ in app)
    nominated = _nominated(client)
    kept = [(b"Host", authority)]
    for field in client:
        name = field[0]
        key = name.replace(b"_", b"-")
        if key in _NEVER or key in replaced or key.startswith(HOP_BY_HOP_PREFIX):
            continue
        if name not in covered and (
            key in nominated
            or key in CLIENT_ONLY
            or (key.startswith(CLIENT_ONLY_PREFIXES) and not (websocket and key in WEBSOCKET))
        ):
            continue
        kept.append(field)
    kept.extend(app)
    return kept


# Control characters that no field value may have (RFC 9110 §5.5); a tab is white space.
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def downstream_headers(upstream: Sequence[Header], app: Sequence[Header] = ()) -> list[Header]:
    """Return what the client's answer carries, our own last; without framing and CORS.

    `upstream`: as received, names lower-case. A field that repeats one of the `credentials` of
    `app` ends here. Raises ValueError on a value with a control character: whoever reads it next
    may read two fields.
    """
    values = b" ".join([value for _, value in upstream])
    if _CONTROL.search(values):
        raise ValueError("a header value of the upstream's answer has a control character")
    nominated = _nominated(upstream)
    kept = [
        field
        for field in upstream
        if (key := field[0].replace(b"_", b"-")) not in UPSTREAM_ONLY
        and key not in _NEVER
        and key not in nominated
        and not key.startswith(UPSTREAM_ONLY_PREFIXES)
    ]
    leaked = [secret for secret in credentials(app) if secret in values]
    if leaked:
        kept = [field for field in kept if not any(secret in field[1] for secret in leaked)]
    if not any(name in _CACHING for name, _ in kept):
        kept.append(NO_STORE)
    kept.extend(ANSWER_HEADERS)
    return kept


# Shorter ones are no secrets, and turn up by chance.
CREDENTIAL_BYTES: Final = 8
# Configured fields that say how to speak, not who speaks. Any other may hold a secret.
_PLAIN: Final = _names("accept user-agent range cache-control prefer origin referer http-referer")
_PLAIN_PREFIXES: Final = (b"accept-", b"content-")
_PLAIN_SUFFIXES: Final = (b"-version", b"-beta")


def credentials(app: Sequence[Header]) -> list[bytes]:
    """Return the parts of configured fields that must not come back in an answer's fields.

    A guard against debugging fields (`X-Echo-Authorization`), not against an upstream that means
    to tell: it compares bytes, and a body may say anything.
    """
    found = []
    for name, value in app:
        key = _folded(name)
        if key in _PLAIN or key.startswith(_PLAIN_PREFIXES) or key.endswith(_PLAIN_SUFFIXES):
            continue
        if key == b"cookie":
            found += [crumb.partition(b"=")[2].strip() for crumb in value.split(b";")]
        elif key.endswith(b"authorization"):
            # `Bearer sk-...`: the rest is a secret without the scheme's name too.
            found.append(value.partition(b" ")[2].strip() or value)
        else:
            found.append(value)
    return [secret for secret in found if len(secret) >= CREDENTIAL_BYTES]
