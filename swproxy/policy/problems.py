"""Every way in which a request can end badly: one table, and the one place a status is chosen.

A `code` is stable and meant for programs; the `detail` that goes with it is meant for people and
says what is the matter with one request. The table is documentation as well: the meaning, usual
cause and remedy of each code are printed from here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["PROBLEMS", "Problem", "problem_body"]


@dataclass(frozen=True, slots=True)
class Problem:
    """What one code says, apart from the request at hand."""

    status: int
    title: str
    meaning: str
    cause: str
    remedy: str
    also: tuple[int, ...] = ()
    """statuses that tell cases of it apart"""


_COPY_EXACTLY = "Call exactly the URL that sign_url returned, unchanged."
_FIX_SIGNER = "Make the signing code write it as docs/signing.md says."

_SIGNED_URL = {
    "target-invalid": Problem(
        400,
        "Request target is not valid",
        "What stands between method and version is not a path and query in visible ASCII.",
        "A client that does not percent-encode, or sends the part after a #.",
        "Percent-encode the URL; every HTTP library does so by default.",
    ),
    "parameter-missing": Problem(
        400,
        "Signed URL is incomplete",
        "One or more of the X-Sw- parameters are absent.",
        "The URL was never signed, or was cut off when it was copied.",
        _COPY_EXACTLY,
    ),
    "parameter-duplicate": Problem(
        400,
        "Signed URL repeats a parameter",
        "An X-Sw- parameter is there twice, so it is open which one was meant.",
        "A signed URL was signed again, or parameters were appended to it.",
        "Sign the plain URL of the API, once.",
    ),
    "parameter-unknown": Problem(
        400,
        "Signed URL has an unknown parameter",
        "A parameter begins with X-Sw- but is none of the scheme's.",
        "A typing error in a hand-written client, or a signer for another version.",
        "Use other names for parameters of your own; those are ignored.",
    ),
    "parameter-misspelled": Problem(
        400,
        "Signed URL misspells a parameter",
        "A parameter's name is right but for its case, its encoding or its separator.",
        "Something on the way rewrote the query, or a client joins parameters with ';'.",
        _COPY_EXACTLY,
    ),
    "parameter-encoding": Problem(
        400,
        "Signed URL is badly encoded",
        "A parameter's percent-encoding is broken, or is not UTF-8 once decoded.",
        "The URL was cut in the middle of a %XX, or was built by joining strings.",
        _COPY_EXACTLY,
    ),
    "parameter-control-character": Problem(
        400,
        "Signed URL holds a control character",
        "A parameter's value decodes to a line break or another control character.",
        "A URL or id that was read from a file together with its line end.",
        "Strip white space from what is signed.",
    ),
    "algorithm-unsupported": Problem(
        400,
        "Signing algorithm is not supported",
        "X-Sw-Algorithm names something else than SW1-HMAC-SHA256.",
        "A signer of another scheme.",
        _FIX_SIGNER,
    ),
    "credential-invalid": Problem(
        400,
        "Credential is not valid",
        "X-Sw-Credential is not an application's id, a slash and a day.",
        "A hand-written client that left out the day, or an id with a slash in it.",
        _FIX_SIGNER,
    ),
    "credential-scope-mismatch": Problem(
        400,
        "Credential is for another day",
        "The day in X-Sw-Credential is not the day of X-Sw-Date.",
        "A client that reads the clock twice, or mixes local time with UTC.",
        "Take both from one reading of the clock, in UTC.",
    ),
    "date-invalid": Problem(
        400,
        "Date is not valid",
        "X-Sw-Date is not a moment written as YYYYMMDDTHHMMSSZ.",
        "A hand-written client with another date format.",
        _FIX_SIGNER,
    ),
    "date-in-future": Problem(
        400,
        "URL is not valid yet",
        "X-Sw-Date lies ahead of swproxy's clock by more than limits.clock_skew_seconds.",
        "The clock of the backend, or of swproxy's machine, is wrong.",
        "Let both machines set their clocks by NTP.",
    ),
    "expires-invalid": Problem(
        400,
        "Expiry is not valid",
        "X-Sw-Expires is not a plain, positive number of seconds.",
        "A hand-written client that sends a date, a fraction or a sign.",
        _FIX_SIGNER,
    ),
    "expiry-too-long": Problem(
        400,
        "Expiry is too long",
        "X-Sw-Expires is more than limits.expiry_seconds.",
        "A backend that signs for longer than the operator allows.",
        "Sign for less time, best when the page asks; or raise the limit.",
    ),
    "expired": Problem(
        400,
        "URL has expired",
        "More than X-Sw-Expires seconds have passed since X-Sw-Date.",
        "A page that was left open, or kept a URL for later.",
        "Have the page ask its backend for a fresh URL before each call.",
    ),
    "signed-headers-invalid": Problem(
        400,
        "List of signed headers is not valid",
        "X-Sw-SignedHeaders is not lower-case header names joined with ';'.",
        "A hand-written client with another separator or case.",
        _FIX_SIGNER,
    ),
    "signed-headers-duplicate": Problem(
        400,
        "A header is signed twice",
        "X-Sw-SignedHeaders names one header more than once.",
        "A client given the same header in two spellings.",
        "Give each header to the signer once.",
    ),
    "body-flag-invalid": Problem(
        400,
        "Body flag is not valid",
        "X-Sw-Body is neither true nor false.",
        "A client that writes True, 1 or nothing.",
        _FIX_SIGNER,
    ),
    "signature-invalid": Problem(
        400,
        "Signature is not a signature",
        "X-Sw-Signature is not 64 lower-case hexadecimal digits.",
        "The end of the URL was cut off, or the signature is in base64 or upper case.",
        _COPY_EXACTLY,
    ),
    "signed-header-missing": Problem(
        400,
        "A signed header is missing",
        "The URL was signed together with a header that this request does not carry.",
        "The page does not send the header that its backend signed, or a browser may not set it.",
        "Send the header from the page, or do not sign it.",
    ),
    "signed-header-duplicate": Problem(
        400,
        "A signed header is there twice",
        "A header that was signed came more than once, so it is open which one was meant.",
        "A page or a proxy in front adds a header that is there already.",
        "Send each signed header once.",
    ),
    "signed-header-invalid": Problem(
        400,
        "A signed header is not valid",
        "A signed header's value holds a character that would end it.",
        "A client that puts unchecked text into a header.",
        "Remove line breaks from the value before it is signed and sent.",
    ),
    "signature-mismatch": Problem(
        400,
        "Signature does not match",
        "The signature was not made for this request by a secret of this application. An unknown"
        " application gets the same answer.",
        "Another method, header value or body than was signed; the wrong id or secret.",
        "Compare with the canonical request that `swproxy explain` prints, given the secret.",
    ),
}

_TERMS = {
    "terms-invalid": Problem(
        400,
        "Terms are not valid",
        "The terms behind `#sw1:` in the signed destination cannot be read as terms.",
        "A typing error in a term's name or value, or a value that is not percent-encoded.",
        "Have sign_url write them (terms=...), or correct the term that the detail names.",
    ),
    "terms-not-met": Problem(
        403,
        "Terms of the URL are not met",
        "The request is not what the terms of its URL, its plan or its application allow: another"
        " body, origin or client. A body of a length that they exclude is answered 413 if it is"
        " too long and 400 if it is too short.",
        "A page that asks for more than its backend has granted.",
        "Send what the term named in the detail asks for, or sign other terms.",
        also=(400, 413),
    ),
    "body-not-checkable": Problem(
        400,
        "Body cannot be checked",
        "The terms are about the JSON body, and different readers could take it for different"
        " things: a name twice, bytes that are no UTF-8, and the like. What is not sent as JSON, or"
        " with a Content-Encoding, is answered 415.",
        "A body that is no JSON, or was not made by a JSON library.",
        "Send application/json as your language's JSON library writes it, uncompressed.",
        also=(415,),
    ),
    "seconds-spent": Problem(
        504,
        "Call has lasted as long as it may",
        "The terms allow a call of so many seconds, and the API had not begun to answer by then. An"
        " answer that has begun is cut, a WebSocket is closed with status 1008.",
        "An answer that takes longer than the backend reckoned with.",
        "Ask for a shorter answer, or sign a longer time (seconds=...).",
    ),
}

_DESTINATION = {
    "destination-invalid": Problem(
        400,
        "Destination is not valid",
        "X-Sw-Proxy is not a URL that can be called without doubt about where it leads.",
        "A user name, dot segments, an odd spelling of an address, or another scheme than http.",
        "Sign the plain URL of the API, as its documentation writes it.",
    ),
    "destination-not-allowed": Problem(
        403,
        "Destination is not allowed",
        "The signature is right, but the application may not call this URL.",
        "No pattern of the application's `allow` covers it: mind scheme, port and path.",
        "Add a pattern to `allow` and reload, if the API's key may go there.",
    ),
    "destination-not-public": Problem(
        403,
        "Destination is not public",
        "The destination's name resolves into a network that is not on the public internet.",
        "An API inside your own network; or somebody trying to reach it through swproxy.",
        "If it is meant to be called, list its network in upstream.private_networks.",
    ),
}

_WEBSOCKET = {
    "upgrade-invalid": Problem(
        400,
        "WebSocket handshake is not valid",
        "The request asks for a WebSocket, but not as RFC 6455 (section 4.2.1) has it.",
        "A proxy in front that drops or rewrites Connection, or speaks HTTP/1.0 to swproxy.",
        "Pass Upgrade and Connection on over HTTP/1.1, as the shipped nginx site does.",
    ),
    "upgrade-required": Problem(
        426,
        "Destination is a WebSocket",
        "The URL was signed for ws or wss, and the request does not ask for a WebSocket.",
        "A fetch() where new WebSocket() was meant; a proxy in front that drops Upgrade.",
        "Open it as a WebSocket, or sign the http or https URL.",
    ),
    "upgrade-not-signed": Problem(
        403,
        "WebSocket was not signed",
        "The URL was signed for http or https, and the application has websocket_urls_only set.",
        "A URL for fetch() that was used for new WebSocket().",
        "Sign the wss URL.",
    ),
    "origin-not-allowed": Problem(
        403,
        "Origin is not allowed",
        "The signature is right, but pages of this Origin may not open the app's WebSockets.",
        "The page's origin is not in the application's cors.allow_origins, or the server's.",
        "Add the origin there and reload.",
    ),
}

_REQUEST = {
    "request-malformed": Problem(
        400,
        "Request is malformed",
        "The request is not HTTP/1.1 as swproxy takes it: its head or its framing is ambiguous.",
        "A broken client; or somebody probing how requests could be smuggled past a proxy.",
        "Use an HTTP library; check what a proxy in front makes of the request.",
    ),
    "method-not-allowed": Problem(
        405,
        "Method is not allowed",
        "CONNECT and TRACE are never forwarded.",
        "A client that takes swproxy for a forward proxy.",
        "Call the signed URL itself; do not configure swproxy as the client's proxy.",
    ),
    "request-timeout": Problem(
        408,
        "Request took too long",
        "The head did not arrive within limits.head_seconds, or the body stopped coming.",
        "A very slow or broken connection.",
        "Try again.",
    ),
    "body-too-large": Problem(
        413,
        "Body is too large",
        "The body is longer than limits.body_bytes, or limits.signed_body_bytes if signed.",
        "A large upload.",
        "Send less, sign the URL without the body, or raise the limit.",
    ),
    "target-too-long": Problem(
        414,
        "URL is too long",
        "The URL alone is longer than limits.head_bytes.",
        "Data in the query of the URL that was signed.",
        "Send the data in the body, or raise the limit.",
    ),
    "expectation-failed": Problem(
        417,
        "Expectation cannot be met",
        "The request has an Expect header with something else than 100-continue.",
        "A client that uses an extension nobody implements.",
        "Leave the Expect header out.",
    ),
    "head-too-large": Problem(
        431,
        "Request head is too large",
        "Request line and headers together are longer than limits.head_bytes.",
        "Many or long cookies: cookies of the site that swproxy shares a name with.",
        "Give swproxy a host name of its own, or raise the limit.",
    ),
    "too-many-headers": Problem(
        431,
        "Too many headers",
        "The request has more header fields than limits.header_count.",
        "A proxy in front that adds many.",
        "Send fewer, or raise the limit.",
    ),
}

_LIMITS = {
    "already-used": Problem(
        403,
        "URL has been used",
        "The URL may begin a number of calls (the term `uses`), and has begun them.",
        "A page that sends the same URL twice: a retry, a reload, a second click.",
        "Have the page ask its backend for a fresh URL before each call.",
    ),
    "revoked": Problem(
        403,
        "URL has been revoked",
        "The URL was signed before a moment up to which its user, the URL itself or all of the"
        " application's were revoked.",
        "An order of `swproxy revoke`; a page that was open since before it.",
        "Have the page ask its backend for a fresh URL, if its user still may have one.",
    ),
    "ended": Problem(
        403,
        "Call was ended by hand",
        "Whoever operates swproxy has ended this call before the API had begun to answer. An answer"
        " that has begun is cut, a WebSocket is closed with status 1008.",
        "A button of the live page.",
        "Ask who operates it. The URL is as good as before; `swproxy revoke` would have ended it.",
    ),
    "rate-limited": Problem(
        429,
        "Too many requests",
        "The application, or the user that the URL names, has made as many requests as it may in"
        " the time; the detail says which limit. Retry-After says exactly when the next is taken.",
        "A page that calls in a loop; a limit that is too low.",
        "Wait as long as Retry-After says; raise `requests` in the application's limits.",
    ),
    "too-many-at-once": Problem(
        429,
        "Too many calls at once",
        "As many calls are under way as may be, of the application or of the user.",
        "Several tabs; streams that nobody reads any more.",
        "Wait for one to end; raise `concurrent` in the application's limits.",
    ),
    "budget-spent": Problem(
        429,
        "Budget of tokens is spent",
        "What is left of a budget of tokens, of the application, the user or the URL, does not"
        " suffice for the call. Retry-After says when the next window begins, if one does.",
        "Longer answers than expected; calls under way, which hold what they may use.",
        "Wait, ask for a shorter answer, or raise `tokens`.",
    ),
    "limits-unavailable": Problem(
        503,
        "Limits cannot be checked",
        "The store in which calls are counted cannot be asked, or has lost what it counted of this"
        " URL; a call that is limited is not let through uncounted.",
        "A full disk, a file that cannot be written, a corrupted file.",
        "Try again shortly; the log's `ledger-down` says what is wrong.",
    ),
}

_OURS = {
    "internal": Problem(
        500,
        "Internal error",
        "swproxy failed in a way it was not written for; nothing about it is told to clients.",
        "A bug.",
        "Report it with the request's X-Request-Id and the daemon's log.",
    ),
    "overloaded": Problem(
        503,
        "Too busy",
        "All of limits.connections carry verified calls, or the client has its share of them.",
        "More calls at once than configured, or many of them from one address.",
        "Try again shortly; raise limits.connections or limits.client_share if it persists.",
    ),
    "body-buffer-full": Problem(
        503,
        "No room for a signed body",
        "Too many signed bodies are waiting for their signatures at once.",
        "A burst of large uploads with signed bodies.",
        "Try again shortly, or sign URLs without the body, which then streams through.",
    ),
}

_UPSTREAM = {
    "name-not-resolved": Problem(
        502,
        "Host was not found",
        "The name of the API's host does not resolve.",
        "A typing error in the URL that was signed, or a resolver that is out of order.",
        "Check the name; on swproxy's machine, `getent ahosts NAME` should find it.",
    ),
    "upstream-unreachable": Problem(
        502,
        "API cannot be reached",
        "No connection to the API's host could be made.",
        "The API is down, or a firewall keeps swproxy from it.",
        "Try again; check the way out of swproxy's machine.",
    ),
    "upstream-tls": Problem(
        502,
        "No secure connection to the API",
        "The TLS handshake with the API's host failed.",
        "A certificate that has expired, is for another name, or from an unknown authority.",
        "For an API of your own, put its authority's certificate into upstream.ca_file.",
    ),
    "upstream-closed": Problem(
        502,
        "API closed the connection",
        "The API's host ended the connection before it had answered.",
        "The API crashed or was restarted.",
        "Try again; look into the API's log if it is your own.",
    ),
    "upstream-malformed": Problem(
        502,
        "API's answer is malformed",
        "What the API's host sent is not an HTTP answer that may be passed on.",
        "Not an HTTP server on that port, or one that frames its answers ambiguously.",
        "Check scheme and port of the URL that was signed.",
    ),
    "upstream-timeout": Problem(
        504,
        "API took too long",
        "The API did not connect within upstream.connect_seconds, or did not begin to answer"
        " within upstream.first_byte_seconds.",
        "A slow or overloaded API.",
        "Try again, ask for a streamed answer, or raise the limit.",
    ),
}

PROBLEMS: Mapping[str, Problem] = MappingProxyType(
    {
        **_SIGNED_URL,
        **_TERMS,
        **_DESTINATION,
        **_WEBSOCKET,
        **_REQUEST,
        **_LIMITS,
        **_OURS,
        **_UPSTREAM,
    }
)


def problem_body(code: str, detail: str, status: int | None = None) -> bytes:
    """Return the problem as JSON (RFC 9457, `application/problem+json`); KeyError if unknown.

    `status` is one that the problem may have besides its own.

    `type` is left out, which means "about:blank": the title belongs to the code, not to the
    status alone, so that a page can show it.
    """
    problem = PROBLEMS[code]
    content = {
        "status": status or problem.status,
        "title": problem.title,
        "detail": detail,
        "code": code,
    }
    # A lone surrogate in what a client sent must not turn the refusal into a failure.
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
