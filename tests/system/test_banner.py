"""`swproxy serve` at a terminal: what it says first, and what it says when it is told to end."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.support.proxy import sign
from tests.support.running import write_app
from tests.support.stage import free_port
from tests.support.upstream import upstream
from tests.support.wire import APP_ID, PATIENCE, End

CONFIG = """
[server]
listen = ["{listen}"]
workers = {workers}
[upstream]
private_networks = ["127.0.0.0/8"]
"""


class Served:
    """A daemon whose log is a terminal."""

    def __init__(self, process: trio.Process, terminal: trio.lowlevel.FdStream) -> None:
        self.process = process
        self._terminal = terminal
        self.shown = ""

    async def shows(self, pattern: str) -> re.Match[str]:
        with trio.fail_after(PATIENCE):
            while not (found := re.search(pattern, self.shown, re.MULTILINE)):
                data = await self._terminal.receive_some(4096)
                self.shown += data.decode().replace("\r\n", "\n")
        return found


async def answer(end: End) -> None:
    while True:
        head = await end.read_head()
        if b" /stream" in head:
            await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst")
            await trio.sleep_forever()
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.mark.parametrize("workers", [1, 2])
async def test_at_a_terminal(tmp_path: Path, workers: int) -> None:
    port = free_port()
    config = tmp_path / "my conf.toml"
    config.write_text(CONFIG.format(listen=f"127.0.0.1:{port}", workers=workers))
    (tmp_path / "apps").mkdir()
    master, slave = pty.openpty()
    async with upstream(answer) as api, trio.lowlevel.FdStream(master) as terminal:
        write_app(tmp_path, allow=f"{api.url}/*")
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "swproxy", "serve", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stderr=slave,
        )
        os.close(slave)
        try:
            served = Served(process, terminal)
            await served.shows(r" serving ")
            assert served.shown.startswith("swproxy ")
            assert f"\n  address        http://127.0.0.1:{port}\n" in served.shown
            assert f"\n  configuration  {config}\n" in served.shown
            assert f"\n  applications   {APP_ID}\n" in served.shown
            command = await served.shows(r"^  a first URL    (curl .*)$")
            # In another terminal, somewhere else.
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            called = await trio.run_process(
                ["sh", "-c", command[1].replace("curl ", "curl -s ")],
                cwd="/",
                env={"PATH": path},
                capture_stdout=True,
            )
            assert called.stdout == b"ok"

            client = End(await trio.open_tcp_stream("127.0.0.1", port))
            target = sign("http://edge", f"{api.url}/stream").removeprefix("http://edge")
            await client.send(f"GET {target} HTTP/1.1\r\nHost: edge\r\n\r\n".encode())
            await client.read_until(b"first")
            process.send_signal(signal.SIGINT)
            await served.shows(r"^Waiting for answers under way; a second Ctrl-C ends them at once")
            process.send_signal(signal.SIGINT)
            await served.shows(r" stopped$")
            with trio.fail_after(PATIENCE):
                assert await process.wait() == 0
            await client.aclose()
        finally:
            process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                await process.wait()
