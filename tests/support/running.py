"""`swproxy serve` in processes of its own, as an operator runs it."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from swproxy import sign_url
from tests.support import ROOT
from tests.support.wire import API_KEY, APP_ID, PATIENCE, SECRET, End

_CONFIG = """
[server]
listen = ["127.0.0.1:0"]
admin_listen = "{admin}"
log_format = "json"
{server}
[limits]
{limits}
[upstream]
private_networks = ["127.0.0.0/8"]
{store}
"""

_APP = """
secrets = ["{secret}"]
allow = ["{allow}"]
headers = {{ Authorization = "Bearer {key}" }}
"""


def write_app(
    work: Path, *, key: str = API_KEY, allow: str = "*", app: str = APP_ID, more: str = ""
) -> None:
    """Write an application's file into the configuration in `work`; `more` are lines for it."""
    file = work / "apps" / f"{app}.toml"
    file.write_text(_APP.format(secret=SECRET, key=key, allow=allow) + more)
    file.chmod(0o600)


@dataclass
class Daemon:
    """A running `swproxy serve`; its log is in a file, unless a descriptor was given for it."""

    work: Path
    process: trio.Process
    port: int = 0
    admin_port: int = 0
    clients: list[End] = field(default_factory=list)
    _lines: list[dict[str, Any]] = field(default_factory=list)
    _read: int = 0

    def events(self, event: str) -> list[Mapping[str, Any]]:
        """Return what has been logged of a kind."""
        with (self.work / "log").open("rb") as file:
            file.seek(self._read)
            for line in file:
                if line.endswith(b"\n"):
                    self._read += len(line)
                    if line.startswith(b"{"):
                        self._lines.append(json.loads(line))
        return [each for each in self._lines if each["event"] == event]

    def take_ports(self, serving: Mapping[str, Any]) -> None:
        """Learn from the log where the daemon listens."""
        self.port = int(serving["listen"][0].rpartition(":")[2])
        self.admin_port = int(serving["admin"][0].rpartition(":")[2])

    async def wait_for(self, event: str, count: int = 1) -> list[Mapping[str, Any]]:
        """Wait until an event has been logged `count` times."""
        with trio.fail_after(PATIENCE):
            while len(self.events(event)) < count:
                await trio.sleep(0.02)
        return self.events(event)

    async def connect(self) -> End:
        """Open a client connection, closed with the daemon at the latest."""
        client = End(await trio.open_tcp_stream("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    def request(self, url: str, *, headers: bytes = b"") -> bytes:
        """Return a signed GET request."""
        signed = sign_url(APP_ID, SECRET, "http://edge", url, 600, "GET")
        target = signed.removeprefix("http://edge").encode()
        return b"GET %b HTTP/1.1\r\nHost: edge\r\n%b\r\n" % (target, headers)

    async def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        """Return what the admin listener answers."""
        async with await trio.open_tcp_stream("127.0.0.1", self.admin_port) as stream:
            end = End(stream)
            await end.send(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            head, _, body = (await end.read_to_end()).decode().partition("\r\n\r\n")
            return int(head.split(" ")[1]), body

    async def metric(self, name: str) -> float:
        """Return a metric's value; `name` with its labels."""
        _, text = await self.ask("/metrics")
        found = [line for line in text.splitlines() if line.rpartition(" ")[0] == name]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    def workers(self) -> list[int]:
        """Return the process ids of the daemon's workers."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return sorted(int(child) for thread in threads for child in thread.read_text().split())

    async def wait_ended(self) -> int:
        """Return the exit code, once there is one."""
        with trio.fail_after(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def daemon(
    work: Path,
    *,
    server: str = "",
    admin: str = "127.0.0.1:0",
    limits: str = "",
    allow: str = "*",
    store: str = "",
    app: str = "",
    log: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Daemon]:
    """Run the daemon with one application, and `app` in its table.

    `server` and `limits` are lines for those sections, `store` are sections.
    """
    (work / "apps").mkdir(parents=True)
    config = work / "swproxy.toml"
    config.write_text(_CONFIG.format(server=server, admin=admin, limits=limits, store=store))
    write_app(work, allow=allow, more=app)
    with (work / "log").open("wb") as file:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "swproxy", "serve", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stderr=file if log is None else log,
            cwd=ROOT,
            env=environ,
        )
    running = Daemon(work, process)
    try:
        if log is None:
            running.take_ports((await running.wait_for("serving"))[0])
        yield running
    finally:
        for client in running.clients:
            await client.aclose()
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)
        with trio.CancelScope(shield=True), trio.move_on_after(PATIENCE):
            await process.wait()
        if process.returncode is None:
            process.kill()
