"""Response heads as bytes: ours, and an upstream's on its way down.

The status line and every header are composed here, so an answer's head is one bytes object that
leaves in one write together with the first bytes of the body. What goes in was checked where it
was made: configured values at load, upstream's by `policy.headers`, ours below.
"""

from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from swproxy.policy.field_names import Header
from swproxy.policy.headers import ANSWER_HEADERS, NO_STORE
from swproxy.policy.problems import PROBLEMS, problem_body

__all__ = ["ALLOW", "dated", "own_headers", "render_head", "render_problem"]

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}

_RETRY_SECONDS = b"1"

ALLOW = (b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
"""Methods with a meaning of their own (RFC 9110 section 10.2.1); others are passed on as well."""


@lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


def dated(headers: list[Header], now: float) -> list[Header]:
    """Add a Date where there is none (RFC 9110 section 6.6.1); `now` in seconds since the epoch."""
    if not any(name.lower() == b"date" for name, _ in headers):
        headers.append((b"date", _date(int(now))))
    return headers


def own_headers(now: float) -> list[Header]:
    """Return what every answer that is made here carries, besides CORS and the request's id."""
    return [(b"date", _date(int(now))), NO_STORE, *ANSWER_HEADERS]


def render_head(status: int, headers: Iterable[Header]) -> bytes:
    """Return status line, headers and the empty line."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, _PHRASES.get(status, b""), lines)


def render_problem(
    code: str,
    detail: str,
    *,
    status: int | None = None,
    extra: Iterable[Header],
    now: float,
    keep_alive: bool,
    with_body: bool,
) -> tuple[int, bytes, bytes]:
    """Return (status, head, body) that tell a client what went wrong (RFC 9457).

    `status` is one that the problem may have besides its own. `extra` headers come last: CORS, the
    request's id. `now` is the time of day, in seconds since the epoch. Without a body it is the
    answer to a HEAD.
    """
    status = status or PROBLEMS[code].status
    body = problem_body(code, detail, status)
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        *own_headers(now),
        *extra,
    ]
    if status == 405:
        headers.append(ALLOW)
    elif status == 426:
        headers.extend(((b"upgrade", b"websocket"), (b"connection", b"upgrade")))
    elif code == "upgrade-invalid":
        headers.append((b"sec-websocket-version", b"13"))
    if status == 503 and not any(name == b"retry-after" for name, _ in headers):
        headers.append((b"retry-after", _RETRY_SECONDS))
    if not keep_alive:
        headers.append((b"connection", b"close"))
    return status, render_head(status, headers), body if with_body else b""
