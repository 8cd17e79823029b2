"""The shipped dashboard and alerts in a real Prometheus, which asks a daemon that has traffic."""

import json
import subprocess
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from tests.support import DATA
from tests.support.monitoring import ALERTS, alert_names, targets
from tests.support.nginx import free_port
from tests.support.pages import block
from tests.support.parts import require
from tests.support.running import Daemon, daemon
from tests.support.upstream import upstream
from tests.support.wire import APP_ID, PATIENCE, End

USAGE = (DATA / "usage" / "openai-chat.json").read_bytes()
LIMITED = """
meter = "tokens"
limits.requests = "4/day"
"""
USED = f'swproxy_limit_used{{app="{APP_ID}",limit="requests"}}'


@dataclass
class Prometheus:
    """A running Prometheus."""

    port: int

    async def ask(self, path: str, **query: str) -> Any:
        """Return what its API answers."""
        target = f"/api/v1/{path}?{urllib.parse.urlencode(query)}"
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            end = End(stream)
            await end.send(
                f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
            )
            answer = await end.read_response()
        found = json.loads(answer.body)
        assert found["status"] == "success", found
        return found["data"]

    async def answers(self, expression: str) -> list[float]:
        """Return the values of all series that an expression has now."""
        found = await self.ask("query", query=expression)
        return [float(each["value"][1]) for each in found["result"]]

    async def wait_for(self, expression: str) -> None:
        """Wait until an expression has an answer."""
        with trio.fail_after(PATIENCE):
            while not await self.answers(expression):
                await trio.sleep(0.1)


@asynccontextmanager
async def prometheus(work: Path, running: Daemon) -> AsyncIterator[Prometheus]:
    """Run Prometheus as the page configures it, but for places, and often."""
    binary, port = require("prometheus", "prometheus"), free_port()
    text = block("prometheus.yml")
    for old, new in (
        ("127.0.0.1:3001", f"127.0.0.1:{running.admin_port}"),
        ("/etc/prometheus/swproxy.yml", str(ALERTS)),
    ):
        assert old in text
        text = text.replace(old, new)
    config = work / "prometheus.yml"
    often = ("scrape_interval", "scrape_timeout", "evaluation_interval")
    config.write_text(f"{text}global: {{{', '.join(f'{each}: 200ms' for each in often)}}}\n")
    with (work / "prometheus.log").open("wb") as log:
        process = await trio.lowlevel.open_process(
            [
                binary,
                f"--config.file={config}",
                f"--storage.tsdb.path={work}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        with trio.fail_after(PATIENCE):
            while True:
                assert process.poll() is None, (work / "prometheus.log").read_text()
                try:
                    await trio.aclose_forcefully(await trio.open_tcp_stream("127.0.0.1", port))
                    break
                except OSError:
                    await trio.sleep(0.05)
        yield Prometheus(port)
    finally:
        process.terminate()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
            await process.wait()


async def _api(end: End) -> None:
    while True:
        try:
            head, _ = await end.read_request()
        except EOFError:
            return
        if b" /stream" in head:
            await end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            await trio.sleep_forever()
            return
        body = USAGE if b" /usage" in head else b"{}"
        kind = b"Content-Type: application/json"
        await end.send(
            b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(body), body)
        )


async def _traffic(running: Daemon, api: str) -> None:
    """Use up the application's four requests, ask for one more, and let one stream stay."""
    stream = await running.connect()
    await stream.send(running.request(f"{api}/stream"))
    await stream.read_until(b"first")
    client = await running.connect()
    for path, status in (("usage", 200), ("usage", 200), ("nothing", 200), ("usage", 429)):
        await client.send(running.request(f"{api}/{path}"))
        assert (await client.read_response()).status == status


async def test_every_panel_shows_the_traffic_and_no_alert_sounds(tmp_path: Path) -> None:
    async with (
        upstream(_api) as server,
        daemon(tmp_path / "d", server="workers = 2", app=LIMITED) as running,
        prometheus(tmp_path, running) as asked,
    ):
        await _traffic(running, server.url)
        # Five seconds at most until it is looked at, and a rate takes two looks at a counter.
        with trio.fail_after(PATIENCE):
            while await running.metric(USED) < 4:
                await trio.sleep(0.1)
        for each in targets():
            await asked.wait_for(each.asked("1m"))
        assert await asked.answers('sum(swproxy_active_streams{instance=~".*"})') == [1]
        limits = next(each for each in targets() if each.panel["title"] == "Limits used")
        assert await asked.answers(limits.asked("1m")) == [1.0]
        groups = (await asked.ask("rules"))["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert [rule["name"] for rule in rules] == alert_names()
        assert {rule["health"] for rule in rules} == {"ok"}
        assert {rule["state"] for rule in rules} == {"inactive"}
