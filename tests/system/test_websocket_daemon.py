"""WebSockets and the daemon as a process: metrics, log, drain, and the command that signs."""

import signal
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from swproxy import sign_url
from swproxy.cli.main import main
from swproxy.sw1.claims import parse_target
from tests.support.daemon import Daemon, daemon
from tests.support.sockets import LINES, frame, switching, unmasked
from tests.support.upstream import upstream
from tests.support.wire import PATIENCE, End

GOING_AWAY = b"\x88\x02\x03\xe9"


async def open_tunnel(running: Daemon, url: str) -> End:
    client = await running.connect()
    request = running.request(url.replace("http", "ws") + "/v1/realtime")
    await client.send(request.replace(b"Content-Length: 0\r\n", LINES))
    assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
    return client


async def test_a_tunnel_is_counted_by_its_kind_while_it_lasts(tmp_path: Path) -> None:
    async with upstream(switching()) as server, daemon(tmp_path) as running:
        client = await open_tunnel(running, server.url)
        metrics = await running.fetch("/metrics")
        assert b'\nswproxy_active_streams{kind="websocket"} 1.0\n' in metrics
        assert b'\nswproxy_active_streams{kind="http"} 0.0\n' in metrics
        await client.send(frame(b"12345", masked=True) + frame(b"", opcode=8, masked=True))
        await client.aclose()
        await server.wait_all_closed()
        with trio.fail_after(PATIENCE):
            while b'{kind="websocket"} 0.0\n' not in (metrics := await running.fetch("/metrics")):
                await trio.sleep(0.01)
        assert b'direction="up"} 17.0\n' in metrics
        assert b'outcome="complete"} 1.0\n' in metrics
    (line,) = [line for line in running.logged() if line["event"] == "request"]
    assert (line["status"], line["outcome"], line["path"]) == (101, "complete", "/v1/realtime")
    assert line["origin"] == server.url.replace("http", "ws")
    assert line["bytes_up"] == 17


async def test_sigterm_ends_tunnels_politely_within_the_drain(tmp_path: Path) -> None:
    got: list[bytes] = []

    async def listen(end: End) -> None:
        got.append(await end.read_to_end())

    options = "drain_seconds = 2.0"
    async with (
        upstream(switching(listen)) as server,
        daemon(tmp_path, server=options) as running,
    ):
        client = await open_tunnel(running, server.url)
        running.process.send_signal(signal.SIGTERM)
        await client.send(frame(b"still here", masked=True))
        assert await client.read_to_end() == GOING_AWAY
        await client.aclose()
        with trio.fail_after(PATIENCE):
            await running.process.wait()
        await server.wait_all_closed()
    before = len(frame(b"still here", masked=True))
    assert unmasked(got[0][before:]) == (8, b"\x03\xe9")


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_sign_url_takes_the_url_of_a_websocket(scheme: str) -> None:
    url = f"{scheme}://api.example.com/v1/realtime?model=m"
    signed = sign_url("id", "secret", "https://edge.example.com", url, 60, "GET")
    assert parse_target(signed.removeprefix("https://edge.example.com").encode()).proxy_url == url


@pytest.mark.parametrize(
    ("host", "shown"), [("https://edge.test", "wss://edge.test/?"), ("http://a", "ws://a/?")]
)
def test_the_command_prints_what_a_websocket_client_takes(host: str, shown: str) -> None:
    environment = {"SW_ID": "id", "SW_SECRET": "a-secret-of-the-tests"}
    words = ["sign", "wss://api.example.com/v1/realtime", "--host", host]
    result = CliRunner().invoke(main, words, env=environment)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(shown)
    target = result.stdout.strip().removeprefix(shown.removesuffix("/?"))
    assert parse_target(target.encode()).proxy_url == "wss://api.example.com/v1/realtime"
