"""A Redis or Valkey server of one's own, kept as docs/limits.md asks for: an append-only file."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import procfs
from bench.processes import Process, StartError, free_port
from bench.subjects import find

__all__ = ["Server", "serve"]


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs."""

    port: int
    process: Process

    def cpu_seconds(self) -> float:
        """Return what it has spent so far."""
        return sum(procfs.cpu_by_process(self.process.family()).values())

    def info(self) -> Mapping[str, str]:
        """Return what it says of itself."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
            sock.sendall(b"INFO\r\n")
            answers = sock.makefile("rb")
            size = int(answers.readline().removeprefix(b"$"))
            lines = answers.read(size).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


@contextmanager
def serve(program: str, directory: Path, cores: frozenset[int]) -> Iterator[Server]:
    """Run a server on some cores; raise StartError if there is none."""
    found = find(program)
    if found is None:
        raise StartError(f"not installed (apt-get install {program})")
    port = free_port()
    settings = {"port": str(port), "dir": str(directory), "save": "", "appendonly": "yes"}
    command = [found, *(word for name, value in settings.items() for word in (f"--{name}", value))]
    process = Process(command, log=directory / f"{program}.log", cores=cores, cwd=directory)
    try:
        process.wait_for_port(port)
        yield Server(port, process)
    finally:
        process.end()
