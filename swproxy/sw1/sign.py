"""Signing: one function, with the parameters of the published Signway clients.

For every valid input the result is, byte for byte, what `signway-sdk` 0.1.3 returns. That
client's reading of things is kept even where another would be neater: the order of parameters,
the way it writes down a URL that it was given, and how it counts a body (see `sign_url`).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote, quote_plus, urlparse

from swproxy.sw1.canonical import (
    ALGORITHM,
    PARAMETERS,
    SIGNATURE,
    WRITTEN,
    canonical_headers,
    canonical_query,
    request_head,
    sign_digest,
    signing_key,
)

__all__ = ["sign_url"]

# Sets, not patterns: compiling those would be a good part of what importing this costs.
# RFC 9110, section 5.6.2.
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_CONTROL = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
_CONTROL_BUT_TAB = _CONTROL - {"\t"}
_SCHEMES = ("http", "https", "ws", "wss")
# Ten digits are over 300 years: enough, and no verifier has to read a longer number.
_LONGEST_EXPIRY = 9_999_999_999


def sign_url(
    id: str,
    secret: str,
    host: str,
    proxy_url: str,
    expiry: int,
    method: str,
    headers: Mapping[str, str] | None = None,
    body: str | bytes | None = None,
    datetime_override: datetime | None = None,
    *,
    terms: Mapping[str, object] | None = None,
) -> str:
    """Sign a request for `proxy_url`, to be sent to `host`, and return the URL to call.

    `id` and `secret` are the application's. `host` is the proxy's public URL, with or without a
    path prefix and a trailing slash. The URL holds for `expiry` seconds from now, or from
    `datetime_override`: aware, or naive and then taken as UTC; fractions of a second are dropped.

    Whoever calls the URL must use this very `method`, send every one of `headers` with the value
    given here, and, unless `body` is None, exactly this body. An empty body is a signed body too.
    A signed body also signs its Content-Length, counted as the published Python client counts
    it: characters of a str, bytes of a bytes object. swproxy accepts either; a proxy that only
    accepts bytes needs text beyond ASCII to be passed as bytes.

    `terms` say what else a call may be and do, by name, as `sw1.terms` lists them:
    `{"user": "42", "uses": 1, "seconds": 120, "body.model": ["small", "tiny"]}`. A list holds
    alternatives; True, None, numbers and text stand for the JSON values that they are, and
    `range(1, 801)` or `"1..800"` for a number's bounds. Three texts of a body's term are more than
    themselves: a range, `"gpt-5-*"` for any text that begins so, and `"-"` for what must be absent.
    So text that comes from elsewhere is passed as `json.dumps(text)`, which is exactly that text.

    Raise ValueError, naming the argument (and the term), for what cannot be signed. Nothing that is
    passed in is changed.
    """
    _check_credentials(id, secret, expiry)
    if not _is_token(method):
        raise ValueError("method: not an HTTP method (RFC 9110, section 9.1)")
    content, length = _body(body)
    base, path = _host(host)
    signed = _signed_headers(headers, length)
    date = _date(datetime_override)
    day = date[:8]
    credential = quote_plus(f"{id}/{day}")
    proxy = quote_plus(_proxy_url(proxy_url) + _fragment(proxy_url, terms))
    names = quote_plus(";".join(signed))
    flag = "false" if body is None else "true"
    values = (ALGORITHM, flag, credential, date, str(expiry), proxy, names)
    query = canonical_query(values)
    lines = canonical_headers([(n.encode(), v.encode()) for n, v in signed.items()])
    digest = sha256(request_head(method.encode(), f"{path}\n{query}".encode(), lines))
    digest.update(content)
    signature = sign_digest(signing_key(secret, day), date, digest.hexdigest()).hex()
    written = dict(zip(PARAMETERS, values, strict=True))
    pairs = [f"{name}={written[name]}" for name in WRITTEN]
    return f"{base}?{'&'.join(pairs)}&{SIGNATURE}={signature}"


def _check_credentials(id: str, secret: str, expiry: int) -> None:
    _check_text("id", id)
    if "/" in id:
        raise ValueError("id: must not contain '/', which ends it inside the URL")
    if not isinstance(secret, str) or not secret:
        raise ValueError("secret: must be a non-empty str")
    if not _encodes(secret):
        raise ValueError("secret: cannot be encoded as UTF-8")
    if not isinstance(expiry, int) or isinstance(expiry, bool):
        raise ValueError("expiry: must be a whole number of seconds, as an int")
    if not 1 <= expiry <= _LONGEST_EXPIRY:
        raise ValueError(f"expiry: must be from 1 to {_LONGEST_EXPIRY} seconds")


def _check_text(argument: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{argument}: must be a non-empty str")
    if not _CONTROL.isdisjoint(value):
        raise ValueError(f"{argument}: must not contain control characters")
    if not _encodes(value):
        raise ValueError(f"{argument}: cannot be encoded as UTF-8")


def _is_token(value: object) -> bool:
    return isinstance(value, str) and value != "" and _TOKEN.issuperset(value)


def _is_header_value(value: object) -> bool:
    return isinstance(value, str) and _CONTROL_BUT_TAB.isdisjoint(value) and _encodes(value)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _body(body: str | bytes | None) -> tuple[bytes, int | None]:
    if body is None:
        return b"", None
    if isinstance(body, bytes):
        return body, len(body)
    if not isinstance(body, str):
        raise ValueError("body: must be str, bytes or None")
    if not _encodes(body):
        raise ValueError("body: cannot be encoded as UTF-8")
    return body.encode(), len(body)


def _host(host: str) -> tuple[str, str]:
    """Return the URL to write the query behind, and the path that is signed."""
    _check_text("host", host)
    if "?" in host or "#" in host:
        raise ValueError("host: must not have a query or a fragment")
    if not host.endswith("/"):
        host += "/"
    try:
        parts = urlparse(host)
    except ValueError as error:
        raise ValueError(f"host: {error}") from None
    if parts.scheme not in _SCHEMES or not parts.netloc:
        raise ValueError("host: must be an http(s) or ws(s) URL, like https://edge.example.com")
    return host, quote(parts.path)


def _proxy_url(url: str) -> str:
    """Return the destination as the published client writes it, which is what it signs."""
    _check_text("proxy_url", url)
    if url[0].isspace():
        raise ValueError("proxy_url: must not begin with white space")
    try:
        parts = urlparse(url)
        _ = parts.port  # raises on a port that is no port
    except ValueError as error:
        raise ValueError(f"proxy_url: {error}") from None
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ValueError("proxy_url: must be an http(s) or ws(s) URL with a host")
    return parts.geturl()


def _fragment(proxy_url: str, terms: Mapping[str, object] | None) -> str:
    """Return the terms as they stand behind the destination."""
    if not terms:
        return ""
    if "#" in proxy_url:
        raise ValueError("terms: proxy_url has a fragment already, which is where they go")
    # Who signs without terms need not wait for what reads and writes them.
    from swproxy.sw1.write_terms import BadTermError, written_terms  # noqa: PLC0415

    try:
        return f"#{written_terms(terms)}"
    except BadTermError as fault:
        raise ValueError(f"terms: {fault.sentence()}") from None


def _signed_headers(headers: Mapping[str, str] | None, length: int | None) -> dict[str, str]:
    """Return lower-case names and trimmed values in the caller's order, Content-Length included."""
    given = dict(headers or {})
    if length is not None:
        given["Content-Length"] = str(length)
    signed: dict[str, str] = {}
    for name, value in given.items():
        if not _is_token(name):
            raise ValueError(f"headers: {name!r} is not a header name")
        if not _is_header_value(value):
            raise ValueError(f"headers: the value of {name} is not a header value")
        trimmed = value.strip(" \t")
        if trimmed != trimmed.strip():
            # The published clients trim it before signing, HTTP does not before sending.
            raise ValueError(f"headers: the value of {name} begins or ends with odd white space")
        if name.lower() in signed:
            raise ValueError(f"headers: {name} is given twice")
        signed[name.lower()] = trimmed
    return signed


def _date(override: datetime | None) -> str:
    if override is None:
        override = datetime.now(UTC)
    if not isinstance(override, datetime):
        raise ValueError("datetime_override: must be a datetime")
    if override.tzinfo is not None:
        try:
            override = override.astimezone(UTC)
        except OverflowError:
            raise ValueError("datetime_override: out of range in UTC") from None
    # Not strftime: it does not pad years before 1000.
    return (
        f"{override.year:04}{override.month:02}{override.day:02}"
        f"T{override.hour:02}{override.minute:02}{override.second:02}Z"
    )
