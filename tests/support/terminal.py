"""A terminal with a shell in it, as a person has one: what is typed runs, Ctrl-C interrupts."""

import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

_REACHES = re.compile(r"(PIP_|SSL_CERT_)|(https?|no)_proxy$", re.IGNORECASE)
"""variables that say how this machine reaches a package index"""

_ENDED = re.compile(r"^ended: (\d+)\r$", re.MULTILINE)


class Terminal:
    """An interactive bash that knows its home, and this Python as `python3`."""

    def __init__(self, master: trio.lowlevel.FdStream) -> None:
        self._master = master
        self.shown = ""
        """all that it has printed, what was typed included"""

    async def type(self, text: str) -> None:
        """Type lines, whether or not the shell waits for them."""
        await self._master.send_all(text.encode())

    async def run(self, text: str) -> str:
        """Type commands, wait for their end, and return what they printed, as lines.

        Fails unless the last one ends well.
        """
        begun = len(self.shown)
        await self.type(f'{text.rstrip()}\necho "ended: $?"\n')
        ended = await self.shows(_ENDED, begun)
        assert ended[1] == "0", self.shown
        return self.shown[begun : ended.start()].replace("\r", "")

    async def shows(self, pattern: re.Pattern[str], begun: int = 0) -> re.Match[str]:
        """Wait until the pattern stands somewhere behind the first `begun` characters shown."""
        while not (found := pattern.search(self.shown, begun)):
            data = await self._master.receive_some(4096)
            assert data, f"the terminal was closed: {self.shown}"
            self.shown += data.decode(errors="replace")
        return found

    def resize(self, columns: int, lines: int) -> None:
        """Make the window this large; what runs in it is told."""
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._master.fileno(), termios.TIOCSWINSZ, size)

    async def interrupt(self) -> None:
        """Press Ctrl-C."""
        await self.type("\x03")


@asynccontextmanager
async def terminal(home: Path, directory: Path) -> AsyncIterator[Terminal]:
    """Open a terminal; close it and end what runs in it afterwards."""
    master, slave = pty.openpty()
    environ = {
        **{name: value for name, value in os.environ.items() if _REACHES.match(name)},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "TERM": "dumb",
        "PS1": "$ ",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    try:
        process = await trio.lowlevel.open_process(
            ["setsid", "--ctty", "--wait", "bash", "--noprofile", "--norc", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=directory,
            env=environ,
            start_new_session=True,
        )
    finally:
        os.close(slave)
    async with trio.lowlevel.FdStream(master) as stream:
        try:
            yield Terminal(stream)
        finally:
            await stream.aclose()  # the shell and its jobs are hung up on
            os.kill(process.pid, signal.SIGHUP)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                await process.wait()
