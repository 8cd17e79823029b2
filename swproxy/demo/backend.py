"""The page's backend: it serves the page and signs URLs for it, as your own backend would.

The part to copy is `Backend._sign` with its terms, a few lines; the rest is a static file server,
and stands in for the web server that lets page and swproxy share a port.
"""

import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from swproxy import sign_url
from swproxy.demo.model import MODEL_NAME
from swproxy.demo.web import Exchange, converse

__all__ = ["EXPIRY_SECONDS", "MOST_TOKENS", "USERS", "Backend", "TokensLeft", "swproxy_url_for"]

EXPIRY_SECONDS = 60
MOST_TOKENS = 300
REALTIME_TOKENS = 100
USERS = ("ada", "grace")
PREFIX = "/sw"
"""Where, on the page's port, swproxy is reached."""

_HOST = re.compile(r"(?P<name>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?P<port>:[0-9]{1,5})?")
_OTHER_NAME = {"localhost": "127.0.0.1", "127.0.0.1": "localhost"}
"""A page that came under one of them calls swproxy by the other: of another origin, it has to ask
for permission by CORS, as most pages have to."""

PAGE = Path(__file__).with_name("page")
FILES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/demo.css": ("demo.css", "text/css; charset=utf-8"),
    "/demo.js": ("demo.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


@dataclass(frozen=True, slots=True)
class TokensLeft:
    """How many tokens a user may still use, of how many in each minute, hour, day or month."""

    left: int
    of: int
    each: str


@dataclass(frozen=True, slots=True)
class Backend:
    """What a backend has to know to sign: an application's id and secret, and two addresses.

    `swproxy` connects to swproxy, for what pages send to PREFIX; `budget` asks its store what a
    user has left.
    """

    app_id: str
    secret: str = field(repr=False)
    model_url: str
    swproxy: Callable[[], Awaitable[trio.abc.Stream]]
    budget: Callable[[str], Awaitable[TokensLeft]]

    async def serve(
        self,
        listeners: list[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve the page and its signed URLs on `listeners` until cancelled."""
        await trio.serve_listeners(
            partial(converse, handle=self._handle), listeners, task_status=task_status
        )

    def _sign(
        self, swproxy_url: str, method: str, endpoint: str, terms: Mapping[str, object]
    ) -> str:
        return sign_url(
            self.app_id, self.secret, swproxy_url, endpoint, EXPIRY_SECONDS, method, terms=terms
        )

    async def _handle(self, exchange: Exchange) -> None:
        method, path = exchange.request.method, exchange.request.path
        if path.startswith(f"{PREFIX}/"):
            await exchange.hand_over(await self.swproxy())
            return
        headers = exchange.request.headers
        # Tunnels through a web server say by which address they were called.
        host = headers.get("x-forwarded-host") or headers.get("host", "")
        tls = headers.get("x-forwarded-proto") == "https"
        swproxy_url = swproxy_url_for(host, tls=tls)
        if swproxy_url is None:
            await exchange.answer(400, "text/plain; charset=utf-8", b"That is no Host.\n")
        elif path in ("/sign", "/sign-realtime", "/budget") and method == "POST":
            # A real backend knows from its session who is calling, and what that user may.
            user = _user(exchange.request.body)
            if user is None:
                problem = {
                    "title": "There is no such user",
                    "detail": "Choose another.",
                    "code": "",
                }
                await exchange.answer_json(400, problem)
            elif path == "/budget":
                await exchange.answer_json(200, asdict(await self.budget(user)))
            elif path == "/sign":
                endpoint = f"{self.model_url}/v1/chat/completions"
                url = self._sign(swproxy_url, "POST", endpoint, _chat_terms(user))
                await exchange.answer_json(200, {"url": url})
            else:
                endpoint = f"{_websocket(self.model_url)}/v1/realtime"
                terms = {
                    "user": user,
                    "seconds": EXPIRY_SECONDS,
                    # Nobody counts on a WebSocket, so it is charged all that it may use.
                    "tokens": REALTIME_TOKENS,
                    "websocket": True,
                }
                url = self._sign(swproxy_url, "GET", endpoint, terms)
                await exchange.answer_json(200, {"url": _websocket(url)})
        elif path in FILES and method in ("GET", "HEAD"):
            name, content_type = FILES[path]
            body = (PAGE / name).read_bytes()
            await exchange.answer(200, content_type, body, _page_headers(swproxy_url))
        else:
            await exchange.answer(404, "text/plain; charset=utf-8", b"There is nothing here.\n")


def _chat_terms(user: str) -> dict[str, object]:
    """Return what a call may be: this user's, once, to this model, so long, of any prompt."""
    return {
        "user": user,
        "uses": 1,
        # Two URLs that say the same in the same second would be the same, and used together.
        "tag.call": secrets.token_hex(4),
        "seconds": EXPIRY_SECONDS,
        "body.model": MODEL_NAME,
        "body.max_completion_tokens": f"1..{MOST_TOKENS}",
        "body.messages.0.role": "user",
        "body.stream": True,
        "body.stream_options.include_usage": True,
        "body": "only",
    }


def _user(body: bytes) -> str | None:
    """Return the user that a page says it is; None if there is none of the name."""
    try:
        said = json.loads(body)
    except ValueError:
        return None
    user = said.get("user") if isinstance(said, dict) else None
    return user if user in USERS else None


def swproxy_url_for(host: str, *, tls: bool = False) -> str | None:
    """Return where a page that was opened at `host` reaches swproxy; None if it is no host.

    It may have come through a tunnel, by any name and port; whatever leads to the page leads there.
    """
    found = _HOST.fullmatch(host)
    if found is None:
        return None
    name = found["name"].lower()
    scheme = "https" if tls else "http"
    return f"{scheme}://{_OTHER_NAME.get(name, name)}{found['port'] or ''}{PREFIX}"


def _page_headers(swproxy_url: str) -> list[tuple[str, str]]:
    origin = swproxy_url.removesuffix(PREFIX)
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        # The page's own backend, and swproxy: nowhere else can a script of this page talk to.
        "connect-src": f"'self' {origin} {_websocket(origin)}",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    return [
        ("Cache-Control", "no-cache"),
        ("Content-Security-Policy", "; ".join(f"{k} {v}" for k, v in policy.items())),
        ("Referrer-Policy", "no-referrer"),
        ("X-Content-Type-Options", "nosniff"),
    ]


def _websocket(url: str) -> str:
    """Return a URL of http or https as one of ws or wss."""
    return f"ws{url.removeprefix('http')}"
