"""Child processes: started on given cores, waited for until they answer, and surely ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import procfs
from bench.machine import on_cores

__all__ = ["Process", "StartError", "free_port"]

_START_SECONDS = 20.0
_END_SECONDS = 3.0


class StartError(Exception):
    """A subject could not be started; the message says what it said last."""


class Process:
    """A process with a session of its own, so that its whole family can be ended."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        cores: frozenset[int],
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        piped: bool = False,
    ) -> None:
        """Start the command; `piped` keeps its standard output readable, the rest goes to `log`.

        Raises StartError when there is no such program.
        """
        self._log = log
        self._family: list[int] = []
        with log.open("ab") as output, on_cores(cores):
            try:
                self._popen = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if piped else output,
                    stderr=output,
                    cwd=cwd,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                )
            except OSError as error:
                raise StartError(str(error)) from error

    def first_line(self) -> str:
        """Return the first line of a piped process; StartError if none comes in time."""
        pipe = self._popen.stdout
        assert pipe is not None
        if select.select([pipe], [], [], _START_SECONDS)[0] and (line := pipe.readline()):
            return bytes(line).decode()
        raise StartError(self.last_words())

    def wait_for_port(self, port: int) -> None:
        """Wait until 127.0.0.1:port accepts; StartError if the process ends or takes too long."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._popen.poll() is not None:
                raise StartError(f"exit code {self._popen.returncode}: {self.last_words()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.02)
        raise StartError(f"no answer on port {port}: {self.last_words()}")

    def last_words(self) -> str:
        """Return the last line of the log."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "it said nothing"

    def family(self) -> list[int]:
        """Return the process ids of the process and its descendants."""
        self._family = procfs.family(self._popen.pid)
        return self._family

    def end(self) -> None:
        """End the whole family: politely, then at once, then by force."""
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(_END_SECONDS)
                break
        # A child that outlived its parent is still in the group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        if self._popen.stdout is not None:
            self._popen.stdout.close()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
