"""`swproxy serve` as a process of its own, for what a test can't do to itself."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from tests.support.proxy import sign
from tests.support.wire import API_KEY, APP_ID, PATIENCE, SECRET, End

LIMITS_AND_LISTENERS = """
[server]
listen = [{listen}"unix:{directory}/public.sock"]
admin_listen = "unix:{directory}/admin.sock"
log_format = "{log_format}"
{server}
[limits]
{limits}
[upstream]
private_networks = ["127.0.0.0/8"]
{upstream}
[apps.{app_id}]
secrets = ["${{file:secret}}"]
allow = ["*"]
headers = {{ Authorization = "Bearer ${{file:key}}" }}
"""


@dataclass
class Daemon:
    """A running daemon; `output` is what it wrote, once it has ended."""

    directory: Path
    process: trio.Process
    clients: list[End] = field(default_factory=list)
    signatures: set[str] = field(default_factory=set)
    output: bytes = b""

    async def connect(self, name: str = "public") -> End:
        """Open a connection to a listener."""
        stream = await trio.open_unix_socket(str(self.directory / f"{name}.sock"))
        client = End(stream)
        self.clients.append(client)
        return client

    async def fetch(self, path: str) -> bytes:
        """Return what the admin listener answers."""
        client = await self.connect("admin")
        await client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return await client.read_to_end()

    def request(
        self, url: str, method: str = "GET", *, body: bytes = b"", body_signed: bool = False
    ) -> bytes:
        """Return a whole signed request."""
        options = {"body": body} if body_signed else {}
        signed = sign("http://127.0.0.1", url, method, **options)
        self.signatures.add(signed.rpartition("X-Sw-Signature=")[2].partition("&")[0])
        target = signed.removeprefix("http://127.0.0.1")
        head = f"{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def logged(self) -> list[dict[str, Any]]:
        """Return the lines of the log, once the daemon has ended."""
        return [json.loads(line) for line in self.output.splitlines()]


async def _listens(path: Path) -> bool:
    try:
        stream = await trio.open_unix_socket(str(path))
    except OSError:
        return False
    await stream.aclose()
    return True


@asynccontextmanager
async def daemon(
    directory: Path,
    *,
    listen: str = "",
    server: str = "",
    limits: str = "",
    upstream: str = "",
    descriptors: int | None = None,
    log_format: str = "json",
) -> AsyncIterator[Daemon]:
    """Run `swproxy serve` with an application of the tests; end it, and check that it ended well.

    `listen` is one more address than public.sock, `server`, `limits` and `upstream` are lines of
    those sections, `descriptors` is RLIMIT_NOFILE.
    """
    (directory / "secret").write_text(SECRET)
    (directory / "key").write_text(API_KEY)
    for name in ("secret", "key"):
        (directory / name).chmod(0o600)
    config = directory / "swproxy.toml"
    config.write_text(
        LIMITS_AND_LISTENERS.format(
            directory=directory,
            app_id=APP_ID,
            log_format=log_format,
            # First, so that it is open when public.sock is, which is waited for.
            listen=f'"{listen}", ' if listen else "",
            server=server,
            limits=limits,
            upstream=upstream,
        )
    )
    program = "from swproxy.cli.main import main; main()"
    command = [sys.executable, "-c", program, "serve", "--config", str(config)]
    if descriptors is not None:
        command = ["sh", "-c", f"ulimit -n {descriptors}; exec {shlex.join(command)}"]
    log = directory / "output"
    with log.open("wb") as output:
        process = await trio.lowlevel.open_process(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"CI": ""}
        )
        running = Daemon(directory, process)
        try:
            with trio.fail_after(PATIENCE):
                while not await _listens(directory / "public.sock"):
                    assert process.poll() is None, log.read_text()
                    await trio.sleep(0.01)
            yield running
        finally:
            with trio.CancelScope(shield=True):
                for client in running.clients:
                    await client.aclose()
                process.send_signal(signal.SIGINT)
                with trio.move_on_after(PATIENCE):
                    await process.wait()
                process.kill()
                await process.wait()
            running.output = log.read_bytes()
    assert process.returncode == 0, running.output
