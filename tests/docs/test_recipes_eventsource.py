"""The README's EventSource, in real Chromium: events one by one, and a new URL after the old."""

import ssl
from functools import partial
from pathlib import Path
from typing import Any

import trio

from swproxy.demo.model import CERTIFICATE
from swproxy.demo.web import Exchange, converse
from tests.support.chromium import chromium
from tests.support.pages import block
from tests.support.stage import API_KEY, backend, stage


class Events:
    """An API that streams three events in answer to a GET, each when it is let."""

    def __init__(self) -> None:
        self.let = trio.Semaphore(0)
        self.calls: list[dict[str, str]] = []

    async def serve(
        self, listeners: list[trio.SocketListener], *, task_status: trio.TaskStatus[Any]
    ) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE / "server.pem")
        await trio.serve_listeners(
            partial(converse, handle=self._handle),
            [trio.SSLListener(each, context, https_compatible=True) for each in listeners],
            task_status=task_status,
        )

    async def _handle(self, exchange: Exchange) -> None:
        assert (exchange.request.method, exchange.request.path) == ("GET", "/v1/events")
        self.calls.append(exchange.request.headers)
        call = len(self.calls)
        await exchange.start(200, "text/event-stream")
        for number in range(3):
            await self.let.acquire()
            # In 20 ms instead of the browser's own three seconds, it comes again.
            await exchange.send(f"retry: 20\nid: {number}\ndata: <{call}.{number}>\n\n".encode())
        await exchange.finish()


async def test_events_arrive_one_by_one_and_a_new_url_follows_the_old(tmp_path: Path) -> None:
    api = Events()
    more = block("events.py")
    async with stage(tmp_path, api=api.serve) as on, chromium(tmp_path) as browser:
        async with backend(on, more):
            page = await browser.open(on.backend_url)
            await page.evaluate(block("events.js"))
            shown = ""
            for call in (1, 2):
                for number in range(3):
                    api.let.release()
                    shown += f"<{call}.{number}>"
                    await page.until(f"document.body.textContent.trim().endsWith('{shown}')")
        assert api.calls[0]["authorization"] == f"Bearer {API_KEY}"
        assert "last-event-id" not in api.calls[0]
        assert api.calls[1]["last-event-id"] == "2"

        # Every stream ends, and is called again; two seconds on, that URL has expired.
        calls = len(api.calls)
        for _ in range(1000):
            api.let.release()
        async with backend(on, f"{more}\nsign.keywords['expiry'] = 2\n"):
            page = await browser.open(on.backend_url)
            await page.evaluate(
                "window.urls = []; window.EventSource = class extends EventSource"
                " { constructor(url) { super(url); urls.push(url); } }"
            )
            await page.evaluate(block("events.js"))
            await page.until("urls.length > 1")
            so_far = len(await page.text("body"))
            await page.until(f"document.body.textContent.length > {so_far}")
        assert len(api.calls) > calls + 1
