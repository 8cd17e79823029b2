"""WebSockets with real ends: the websockets library on both sides, nginx and Chromium between.

What a library says of a connection through swproxy is what it says without: the messages, the
extension and sub-protocol that were settled, the close code.
"""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from websockets.trio.client import connect
from websockets.trio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from swproxy.policy.cors import CorsPolicy
from tests.support.chromium import chromium
from tests.support.nginx import nginx
from tests.support.proxy import Proxy, proxy
from tests.support.upstream import upstream
from tests.support.wire import API_KEY, End, authority, server_context

TLS = pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
LARGE = 5 * 1024 * 1024


@dataclass
class Peer:
    """A WebSocket server, and the connections that it has served."""

    url: str
    connections: list[ServerConnection]


@asynccontextmanager
async def peer(
    handler: Callable[[ServerConnection], Any], *, tls: bool = False, **options: Any
) -> AsyncIterator[Peer]:
    connections: list[ServerConnection] = []

    async def handle(connection: ServerConnection) -> None:
        connections.append(connection)
        await handler(connection)

    context = server_context() if tls else None
    start = partial(serve, handle, 0, host="127.0.0.1", ssl=context, max_size=None, **options)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(start)
        port = server.listeners[0].socket.getsockname()[1]
        scheme, host = ("wss", "localhost") if tls else ("ws", "127.0.0.1")
        yield Peer(f"{scheme}://{host}:{port}/v1/realtime", connections)
        nursery.cancel_scope.cancel()


def through(swproxy: Proxy, url: str) -> str:
    """Return the signed ws:// URL."""
    return swproxy.sign(url).replace("http://", "ws://")


def dial(swproxy: Proxy, url: str, **options: Any) -> Any:
    return connect(through(swproxy, url), max_size=None, proxy=None, **options)


async def echo(connection: ServerConnection) -> None:
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


@TLS
@pytest.mark.parametrize("compression", ["deflate", None])
async def test_messages_of_all_sizes_come_back(tls: bool, compression: str | None) -> None:
    async with peer(echo, tls=tls) as server, proxy() as swproxy:
        async with dial(swproxy, server.url, compression=compression) as client:
            for size in (0, 1, 125, 126, 65535, 65536, LARGE):
                for message in ("é" * (size // 2), bytes(size)):
                    await client.send(message)
                    assert await client.recv() == message
            assert bool(client.protocol.extensions) == (compression is not None)
        (record,) = await swproxy.recorder.wait_for(1)
        assert (record.outcome, record.kind) == ("complete", "websocket")
        sent = server.connections[0].request
        assert sent is not None
        assert sent.headers["Authorization"] == f"Bearer {API_KEY}"


async def test_a_fragmented_message_stays_one_message() -> None:
    async with peer(echo) as server, proxy() as swproxy, dial(swproxy, server.url) as client:
        parts = [f"part {number} " for number in range(50)]
        await client.send(iter(parts))
        assert await client.recv() == "".join(parts)


async def test_pings_are_answered_by_the_other_end() -> None:
    async def ping(connection: ServerConnection) -> None:
        answered = await connection.ping(b"down")
        await answered.wait()
        await connection.send("pong came")
        await echo(connection)

    async with peer(ping) as server, proxy() as swproxy, dial(swproxy, server.url) as client:
        with trio.fail_after(10):
            assert await client.recv() == "pong came"
            answered = await client.ping(b"up")
            await answered.wait()


async def test_sub_protocol_and_extensions_are_settled_by_the_two_ends() -> None:
    names = [Subprotocol("realtime"), Subprotocol("other")]
    async with peer(echo, subprotocols=[names[0]]) as server, proxy() as swproxy:
        async with dial(swproxy, server.url, subprotocols=names) as client:
            assert client.subprotocol == "realtime"
        assert server.connections[0].subprotocol == "realtime"
        assert [type(e).__name__ for e in server.connections[0].protocol.extensions] == [
            "PerMessageDeflate"
        ]


@TLS
@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
async def test_the_close_code_of_either_side_reaches_the_other(tls: bool, code: int) -> None:
    async def close(connection: ServerConnection) -> None:
        if await connection.recv() == "you":
            await connection.aclose(code, "said the server")
        else:
            await echo(connection)

    async with peer(close, tls=tls) as server, proxy() as swproxy:
        async with dial(swproxy, server.url) as client:
            await client.send("you")
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert (client.close_code, client.close_reason) == (code, "said the server")
        async with dial(swproxy, server.url) as client:
            await client.send("me")
            await client.aclose(code, "said the client")
        records = await swproxy.recorder.wait_for(2)
        assert server.connections[1].close_code == code
        assert server.connections[1].close_reason == "said the client"
        assert {record.outcome for record in records} == {"complete"}


async def test_a_client_that_vanishes_is_an_error_to_the_server() -> None:
    codes: list[int | None] = []

    async def wait(connection: ServerConnection) -> None:
        with pytest.raises(ConnectionClosedError):
            await connection.recv()
        codes.append(connection.close_code)

    async with peer(wait) as server, proxy() as swproxy:
        async with dial(swproxy, server.url) as client:
            await trio.aclose_forcefully(client.stream)
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "client-gone"
        with trio.fail_after(10):
            while not codes:
                await trio.sleep(0.01)
        assert codes == [1006]


async def test_a_server_that_vanishes_is_an_error_to_the_client() -> None:
    async def vanish(connection: ServerConnection) -> None:
        await connection.recv()
        await trio.aclose_forcefully(connection.stream)

    async with peer(vanish) as server, proxy() as swproxy, dial(swproxy, server.url) as client:
        await client.send("go")
        with pytest.raises(ConnectionClosedError):
            await client.recv()
        assert client.close_code == 1006


async def test_a_slow_reader_gets_every_message() -> None:
    count = 300

    async def pour(connection: ServerConnection) -> None:
        for number in range(count):
            await connection.send(b"%06d" % number * 10000)

    async with (
        peer(pour, compression=None) as server,
        proxy() as swproxy,
        dial(swproxy, server.url, compression=None) as client,
    ):
        await trio.sleep(0.3)
        for number in range(count):
            assert await client.recv() == b"%06d" % number * 10000
        with pytest.raises(ConnectionClosedOK):
            await client.recv()


@TLS
async def test_through_nginx_with_the_shipped_site(tls: bool, tmp_path: Path) -> None:
    async with (
        peer(echo, tls=tls) as server,
        proxy() as swproxy,
        nginx(tmp_path, swproxy.address[1]) as front,
    ):
        context = ssl.create_default_context()
        authority().configure_trust(context)
        url = swproxy.sign(server.url).replace(swproxy.url, f"wss://localhost:{front.port}")
        async with connect(url, ssl=context, max_size=None, proxy=None) as client:
            for message in ("hello", bytes(LARGE)):
                await client.send(message)
                assert await client.recv() == message
            await client.aclose(1000, "done")
        (record,) = await swproxy.recorder.wait_for(1)
        assert (record.outcome, record.status) == ("complete", 101)
        assert server.connections[0].close_reason == "done"


async def blank_page(end: End) -> None:
    await end.read_head()
    await end.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<!doctype html>"
    )


SCRIPT = """
(async () => {
  const socket = new WebSocket(%r, ["realtime", "unused"]);
  socket.binaryType = "arraybuffer";
  const events = [];
  const next = () => new Promise((resolve) => (socket.onmessage = (e) => resolve(e.data)));
  const closed = new Promise((resolve) => (socket.onclose = resolve));
  try {
    await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
  } catch {
    const { code } = await closed;
    return { refused: code };
  }
  for (const text of ["hello", "x".repeat(3e6)]) {
    socket.send(text);
    events.push((await next()) === text);
  }
  socket.send(new Uint8Array(1e6).fill(7));
  events.push(new Uint8Array(await next()).every((byte) => byte === 7));
  socket.close(4321, "done");
  const { code, reason, wasClean } = await closed;
  const { protocol, extensions } = socket;
  return { events, code, reason, wasClean, protocol, extension: extensions.split(";")[0] };
})()
"""


@TLS
async def test_chromium_s_own_websocket(tls: bool, tmp_path: Path) -> None:
    options = {"subprotocols": [Subprotocol("realtime")]}
    async with (
        peer(echo, tls=tls, **options) as server,
        proxy() as swproxy,
        upstream(blank_page) as site,
        chromium(tmp_path) as browser,
    ):
        page = await browser.open(site.url)
        found = await page.evaluate(SCRIPT % through(swproxy, server.url))
        assert found == {
            "events": [True, True, True],
            "code": 4321,
            "reason": "done",
            "wasClean": True,
            "protocol": "realtime",
            "extension": "permessage-deflate",
        }
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "complete"


async def test_chromium_of_another_origin_is_refused(tmp_path: Path) -> None:
    cors = CorsPolicy(("https://app.example.com",))
    async with (
        peer(echo) as server,
        proxy(app={"cors": cors}) as swproxy,
        upstream(blank_page) as site,
        chromium(tmp_path) as browser,
    ):
        page = await browser.open(site.url)
        assert await page.evaluate(SCRIPT % through(swproxy, server.url)) == {"refused": 1006}
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.code == "origin-not-allowed"
        assert not server.connections
