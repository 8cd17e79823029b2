"""The README's WebSocket, in real Chromium: to an API that wants its key in a header."""

import ssl
from pathlib import Path
from typing import Any

import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
)

from swproxy.demo.model import CERTIFICATE
from tests.support.chromium import chromium
from tests.support.pages import block
from tests.support.stage import API_KEY, backend, stage


class Echo:
    """An API that gives back each message, to whoever brings the key."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.authorized: list[bool] = []

    async def serve(
        self, listeners: list[trio.SocketListener], *, task_status: trio.TaskStatus[Any]
    ) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE / "server.pem")
        secured = [trio.SSLListener(each, context, https_compatible=True) for each in listeners]
        await WebSocketServer(self._handle, secured).run(task_status=task_status)

    async def _handle(self, request: WebSocketRequest) -> None:
        self.paths.append(request.path)
        expected = (b"authorization", f"Bearer {API_KEY}".encode())
        self.authorized.append(expected in request.headers)
        await self._echo(await request.accept())

    async def _echo(self, connection: WebSocketConnection) -> None:
        try:
            while True:
                message = await connection.get_message()
                assert isinstance(message, str)
                await connection.send_message(f"heard {message}")
        except ConnectionClosed:
            pass


async def test_messages_go_both_ways(tmp_path: Path) -> None:
    api = Echo()
    async with (
        stage(tmp_path, api=api.serve) as on,
        backend(on, block("socket.py")),
        chromium(tmp_path) as browser,
    ):
        page = await browser.open(on.backend_url)
        await page.evaluate(block("socket.js") + "globalThis.connect = connect; 0")
        await page.evaluate(
            "connect().then(socket => { window.socket = socket;"
            " socket.onmessage = event => { window.heard = event.data; };"
            " socket.onopen = () => socket.send('one'); })"
        )
        await page.until("window.heard === 'heard one'")
        await page.evaluate("socket.send('two')")
        await page.until("window.heard === 'heard two'")
        assert api.paths == ["/v1/realtime"]
        assert api.authorized == [True]
