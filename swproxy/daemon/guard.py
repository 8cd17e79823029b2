"""Who may ask the admin listener what.

- A web page can have a browser ask anything on its machine or network under a name of the page's
  own that leads there (DNS rebinding), and read the answer as its own. So over TCP only who asks by
  an address, as localhost, or under a configured name is answered. A Unix socket is out of a
  browser's reach but for a tunnel (`ssh -L`) that ends in it, so there a name without a dot, which
  nobody can own, is good as well.
- With `server.admin_token`, whatever tells of traffic asks for it: as a Bearer token, or as the
  cookie that the page is given for it. Without, the page is for this machine alone.
- What changes something is asked by POST, with JSON, and by our own page: a browser says so.
- What tells of traffic is not sent to a page of another site either. It could read none of it, but
  take the places of those who look, and have numbers written out that nobody sees.
"""

import hmac
import os
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from socket import AF_UNIX
from typing import Literal

import h11
import trio

from swproxy.config.config import Server

__all__ = ["Guard", "is_local"]

_SESSION_SECONDS = 12 * 3600
_COOKIE = "swproxy-admin"

Verdict = Literal["welcome", "unknown", "nowhere"]
"""let in; a token is asked for; not served at this address at all"""


def is_local(sock: trio.socket.SocketType) -> bool:
    """Tell whether only this machine can have connected."""
    if sock.family == AF_UNIX:
        return True
    return ip_address(sock.getsockname()[0].partition("%")[0]).is_loopback


class Guard:
    """Judges requests by what is configured in `server` at the moment."""

    def __init__(
        self, server: Callable[[], Server], clock: Callable[[], float] = time.time
    ) -> None:
        self._server = server
        self._clock = clock
        self._key = os.urandom(32)

    def knows(self, request: h11.Request, *, unix: bool) -> bool:
        """Tell whether the request was sent to us, and not to a name that somebody led here."""
        host = _fields(request).get(b"host")
        if host is None:
            return request.http_version == b"1.0"  # no browser's
        name = _host_name(host.decode("latin-1").lower())
        try:
            ip_address(name)
        except ValueError:
            known = name == "localhost" or name in self._server().admin_hosts
            return known or (unix and "." not in name)
        return True

    def judge(self, request: h11.Request, *, local: bool) -> Verdict:
        """Say whether whoever asks may see what passes here."""
        token = self._server().admin_token
        if not token:
            return "welcome" if local else "nowhere"
        fields = _fields(request)
        scheme, _, given = fields.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), token.encode()):
            return "welcome"
        return "welcome" if self._is_session(_cookie(fields), token) else "unknown"

    def scrapes(self, request: h11.Request) -> bool:
        """Tell whether /metrics may be read: by anybody, unless there is a token."""
        return not self._server().admin_token or self.judge(request, local=True) == "welcome"

    def from_own_page(self, request: h11.Request) -> bool:
        """Tell whether a browser says that a page of ours asks."""
        fields = _fields(request)
        site = fields.get(b"sec-fetch-site")
        if fields.get(b"content-type", b"").partition(b";")[0].strip() != b"application/json":
            return False  # which no other page's browser sends unasked
        if site is not None and site != b"same-origin":
            return False
        return site is not None if b"origin" not in fields else _from_host(fields)

    def from_other_page(self, request: h11.Request) -> bool:
        """Tell whether a browser says that a page asks which is not ours; to follow a link is not.

        (W3C, Fetch Metadata Request Headers.)
        """
        fields = _fields(request)
        site = fields.get(b"sec-fetch-site")
        if site is None:
            return b"origin" in fields and not _from_host(fields)
        own = site in (b"same-origin", b"none")
        return not own and fields.get(b"sec-fetch-dest") != b"document"

    def exchange(self, given: str, request: h11.Request) -> str | None:
        """Return the Set-Cookie for a token, None for a wrong one."""
        token = self._server().admin_token
        if not token or not hmac.compare_digest(given.encode(), token.encode()):
            return None
        until = f"{int(self._clock()) + _SESSION_SECONDS}"
        secure = "; Secure" if _fields(request).get(b"origin", b"").startswith(b"https:") else ""
        value = f"{until}.{self._mark(until, token)}"
        return f"{_COOKIE}={value}; HttpOnly; SameSite=Strict; Max-Age={_SESSION_SECONDS}{secure}"

    def _is_session(self, value: str, token: str) -> bool:
        until, _, mark = value.partition(".")
        if not until.isascii() or not until.isdecimal() or len(until) > 12:
            return False
        good = hmac.compare_digest(mark.encode(), self._mark(until, token).encode())
        return good and int(until) > self._clock()

    def _mark(self, until: str, token: str) -> str:
        """Return what only this process can have given out, and only for this token."""
        return hmac.new(self._key, f"{until}.{token}".encode(), "sha256").hexdigest()


def _fields(request: h11.Request) -> Mapping[bytes, bytes]:
    return dict(request.headers)


def _from_host(fields: Mapping[bytes, bytes]) -> bool:
    """Tell whether the origin that asks is the host that is asked."""
    _, _, place = fields[b"origin"].partition(b"://")
    return bool(place) and place == fields.get(b"host")


def _cookie(fields: Mapping[bytes, bytes]) -> str:
    for part in fields.get(b"cookie", b"").decode("latin-1").split(";"):
        name, _, value = part.strip().partition("=")
        if name == _COOKIE:
            return value
    return ""


def _host_name(host: str) -> str:
    """Return a Host header's value without its port and an address's brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")
