"""The page's backend: it serves the page and signs URLs for it, as your own backend would.

The part to copy is `Backend._sign`, a few lines; the rest is a static file server.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from swproxy import sign_url
from swproxy.demo.web import Exchange, converse

__all__ = ["EXPIRY_SECONDS", "Backend"]

EXPIRY_SECONDS = 60

PAGE = Path(__file__).with_name("page")
FILES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/demo.css": ("demo.css", "text/css; charset=utf-8"),
    "/demo.js": ("demo.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


@dataclass(frozen=True, slots=True)
class Backend:
    """What a backend has to know to sign: an application's id and secret, and two addresses."""

    app_id: str
    secret: str = field(repr=False)
    swproxy_url: str
    model_url: str

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

    def _sign(self, method: str, endpoint: str) -> str:
        return sign_url(
            self.app_id, self.secret, self.swproxy_url, endpoint, EXPIRY_SECONDS, method
        )

    async def _handle(self, exchange: Exchange) -> None:
        method, path = exchange.request.method, exchange.request.path
        if path == "/sign" and method == "POST":
            # A real backend first asks who is calling, and whether that user may.
            url = self._sign("POST", f"{self.model_url}/v1/chat/completions")
            await exchange.answer_json(200, {"url": url})
        elif path == "/sign-realtime" and method == "POST":
            url = self._sign("GET", f"{_websocket(self.model_url)}/v1/realtime")
            await exchange.answer_json(200, {"url": _websocket(url)})
        elif path in FILES and method in ("GET", "HEAD"):
            name, content_type = FILES[path]
            body = (PAGE / name).read_bytes()
            await exchange.answer(200, content_type, body, self._page_headers())
        else:
            await exchange.answer(404, "text/plain; charset=utf-8", b"There is nothing here.\n")

    def _page_headers(self) -> list[tuple[str, str]]:
        policy = {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "'self'",
            # The page's own backend, and swproxy: nowhere else can a script of this page talk to.
            "connect-src": f"'self' {self.swproxy_url} {_websocket(self.swproxy_url)}",
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
