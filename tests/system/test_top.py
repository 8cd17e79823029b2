"""`swproxy top` on a real terminal, before a real daemon with traffic: seen, resized, and left."""

import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.support.frames import feed, frame
from tests.support.running import Daemon, daemon
from tests.support.terminal import Terminal, terminal
from tests.support.upstream import Upstream, upstream
from tests.support.wire import APP_ID, PATIENCE, End

_OTHER_SCREEN, _BACK = "\x1b[?1049h", "\x1b[?1049l"
_HIDDEN, _SHOWN = "\x1b[?25l", "\x1b[?25h"


async def _endless(end: End) -> None:
    await end.read_request()
    await end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    await trio.sleep_forever()


async def _stream(running: Daemon, server: Upstream, path: str) -> End:
    client = await running.connect()
    await client.send(running.request(f"{server.url}{path}"))
    await client.read_until(b"first")
    return client


@asynccontextmanager
async def _shell(tmp_path: Path) -> AsyncIterator[Terminal]:
    async with terminal(tmp_path, tmp_path) as shell:
        shell.resize(120, 40)
        yield shell


async def _until(shell: Terminal, text: str, begun: int = 0) -> int:
    """Wait until a text is drawn; return where that ends in what was shown."""
    with trio.fail_after(PATIENCE):
        return (await shell.shows(re.compile(re.escape(text)), begun)).end()


async def _began(shell: Terminal, admin: str) -> int:
    await shell.type(
        "stty -g >before;"
        f" TERM=xterm sh -c 'echo $$ >pid; exec swproxy top --admin {admin}'; echo exit $?\n"
    )
    return await _until(shell, _HIDDEN)


async def _given_back(shell: Terminal, begun: int, tmp_path: Path) -> None:
    """Check that the terminal is as it was before."""
    await _until(shell, "exit 0", begun)
    left = shell.shown[begun:]
    assert _SHOWN in left
    assert _BACK in left
    await shell.run("stty -g >after")
    assert (tmp_path / "before").read_text() == (tmp_path / "after").read_text()


async def test_it_shows_the_traffic_and_follows_the_window(tmp_path: Path) -> None:
    async with (
        upstream(_endless) as server,
        daemon(tmp_path / "d", server="workers = 2") as running,
        _shell(tmp_path) as shell,
    ):
        await _stream(running, server, "/one")
        begun = await _began(shell, f"127.0.0.1:{running.admin_port}")
        assert _OTHER_SCREEN in shell.shown
        for part in ("swproxy ", "supervisor", APP_ID, f"GET {server.url}/one"):
            await _until(shell, part, begun)
        await _stream(running, server, "/two")
        at = await _until(shell, f"GET {server.url}/two", begun)
        # Drawn anew in a smaller window, and nowhere outside of it.
        shell.resize(60, 12)
        await _until(shell, "\x1b[12;1H", at)
        at = len(shell.shown)
        await _until(shell, "\x1b[12;1H", at)
        rows = [int(row) for row in re.findall(r"\x1b\[(\d+);1H", shell.shown[at:])]
        assert max(rows) == 12
        await shell.type("q")
        await _given_back(shell, begun, tmp_path)


@pytest.mark.parametrize("how", ["q", "\x03", "kill", "hostile"])
async def test_whatever_ends_it_gives_the_terminal_back(how: str, tmp_path: Path) -> None:
    async with upstream(feed(frame(), frame())) as server, _shell(tmp_path) as shell:
        begun = await _began(shell, f"127.0.0.1:{server.port}")
        await _until(shell, "up 2h 2m", begun)
        if how == "kill":
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
        else:
            await shell.type(how if how != "hostile" else "\x1b[A\x1a xyzQ")
        await _given_back(shell, begun, tmp_path)


async def test_a_daemon_that_comes_back_is_shown_again(tmp_path: Path) -> None:
    async with _shell(tmp_path) as shell:
        answers = iter([feed(frame(), frame(), hang_up=True), feed(frame(state="draining"))])

        async def answer(end: End) -> None:
            await next(answers)(end)

        async with upstream(answer) as server:
            begun = await _began(shell, f"127.0.0.1:{server.port}")
            at = await _until(shell, "trying again", begun)
            await _until(shell, "draining", at)
            await shell.type("q")
            await _given_back(shell, begun, tmp_path)
