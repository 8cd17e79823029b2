"""Real Redis and Valkey servers, from Debian's packages, each with a directory of its own.

Debian 12 has no Valkey: what is to run on it is skipped there, and on CI too.
"""

import atexit
import contextlib
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from swproxy.config.store_address import StoreAddress
from tests.support.parts import require

__all__ = ["NEWEST", "REDIS", "VALKEY", "RedisServer", "free_ports", "shared_server"]

REDIS, VALKEY = "redis-server", "valkey-server"
NEWEST = VALKEY if shutil.which(VALKEY) else REDIS
"""For what would take too long on both; between them, the Debians of CI have both."""

_PATIENCE = 20.0


class RedisServer:
    """A server on a Unix socket, and on a port if it is given one."""

    def __init__(
        self, directory: Path, *settings: str, port: int = 0, program: str = REDIS
    ) -> None:
        self.directory = directory
        self.program = program
        self.path = directory / "redis.sock"
        self.port = port
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> StoreAddress:
        """Where it is: its port if it has one."""
        if self.port:
            return StoreAddress(nodes=(("127.0.0.1", self.port),))
        return StoreAddress(path=str(self.path))

    def start(self, *more: str) -> "RedisServer":
        """Start, and wait until it answers."""
        settings: Sequence[str] = (
            *("--port", str(self.port), "--unixsocket", str(self.path), "--save", ""),
            *("--dir", str(self.directory), "--daemonize", "no", "--loglevel", "warning"),
            *self._settings,
            *more,
        )
        program = _require(self.program)
        self.path.unlink(missing_ok=True)
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *settings], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            log_text = (self.directory / "log").read_text()
            assert self._process.poll() is None, log_text
            assert time.monotonic() < deadline, log_text
            time.sleep(0.02)
        return self

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(str(self.path))
            except OSError:
                return False
        return True

    def command(self, *words: str) -> str:
        """Return what the server says to a command, given to it over its Unix socket."""
        program = require("redis-cli", "redis-server")
        run = subprocess.run(
            [program, "-s", str(self.path), *words], capture_output=True, text=True, check=True
        )
        return run.stdout.strip()

    def send_signal(self, number: signal.Signals) -> None:
        """Stop the process, let it go on, or kill it."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """Kill the server and wait for its end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


def _require(program: str) -> str:
    if program == VALKEY and shutil.which(program) is None:
        system = platform.freedesktop_os_release()
        if (system["ID"], system.get("VERSION_ID")) == ("debian", "12"):
            pytest.skip("Debian 12 has no Valkey")
    return require(program, program)


@cache
def shared_server(program: str) -> RedisServer:
    """Return a server for the whole run, for tests that each empty it."""
    _require(program)
    directory = tempfile.TemporaryDirectory(prefix="swproxy-store-")
    server = RedisServer(Path(directory.name), program=program).start()
    atexit.register(directory.cleanup)
    atexit.register(server.stop)
    return server


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, with room for the one that a cluster adds 10,000 to."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
            if port + 10_000 <= 65535:
                found.append(port)
    return found
