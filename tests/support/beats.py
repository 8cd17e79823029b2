"""A worker in a process of its own, with a beat in its event loop that tells how long a turn took.

Beside the proxy a task beats as often as the loop lets it, and takes note of the processor time
that the loop's thread has used between two beats. On a machine that does other things as well, that
is what a gap comes to: time in which this process did not run is in nobody's hands.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from swproxy.config.loader import inspect
from swproxy.daemon.heap import freeze_heap
from swproxy.daemon.serve import serve
from swproxy.proxy.record import Record
from tests.support import ROOT
from tests.support.wire import APP_ID, PATIENCE, SECRET, End, authority, client_context

_CONFIG = """
[server]
listen = ["127.0.0.1:0"]
{server}
[limits]
{limits}
[upstream]
private_networks = ["127.0.0.0/8"]
ca_file = "{ca_file}"
[apps.{app}]
secrets = ["{secret}"]
allow = ["*"]
headers = {{ Authorization = "Bearer upstream" }}
"""


@dataclass
class Beats:
    """What a worker did since it was last asked; seconds are of its loop's processor time."""

    gap: float
    used: float
    requests: int


class Beaten:
    """The worker's side."""

    def __init__(self) -> None:
        self.gap = 0.0
        self.requests = 0

    def began(self, record: Record) -> None:
        pass

    def ended(self, record: Record) -> None:
        self.requests += 1

    def crashed(self, error: BaseException) -> None:
        raise error

    async def beat(self) -> None:
        while True:
            before = time.thread_time()
            await trio.sleep(0.0005)
            self.gap = max(self.gap, time.thread_time() - before)

    async def answer(self) -> None:
        """Say what there is to say for each line that comes."""
        used = time.thread_time()
        async for _ in trio.lowlevel.FdStream(sys.stdin.fileno()):
            before, used = used, time.thread_time()
            report = {"gap": self.gap, "used": used - before, "requests": self.requests}
            sys.stdout.write(json.dumps(report) + "\n")
            sys.stdout.flush()
            self.gap, self.requests = 0.0, 0


async def _main(path: str) -> None:
    beaten = Beaten()
    async with trio.open_nursery() as nursery:

        async def start(task_status: trio.TaskStatus[list[Any]]) -> None:
            config = inspect(Path(path), os.environ).config
            assert config is not None
            await serve(config, observer=beaten, task_status=task_status)

        addresses = await nursery.start(start)
        freeze_heap()
        sys.stdout.write(f"{addresses[0][1]}\n")
        sys.stdout.flush()
        nursery.start_soon(beaten.beat)
        await beaten.answer()
        nursery.cancel_scope.cancel()


@dataclass
class Worker:
    """The test's side."""

    process: trio.Process
    port: int
    tls: bool

    async def connect(self) -> End:
        """Open a client's connection."""
        stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        if self.tls:
            stream = trio.SSLStream(stream, client_context(), server_hostname="localhost")
        return End(stream)

    async def beats(self) -> Beats:
        """Return what the worker did since it was last asked."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(b"\n")
        return Beats(**json.loads(await self._line()))

    async def _line(self) -> bytes:
        assert self.process.stdout is not None
        line = b""
        with trio.fail_after(PATIENCE):
            while not line.endswith(b"\n"):
                data = await self.process.stdout.receive_some()
                assert data, "the worker has died"
                line += data
        return line


@asynccontextmanager
async def worker(
    directory: Path, *, tls_files: Mapping[str, Path] | None = None, limits: str = ""
) -> AsyncIterator[Worker]:
    """Run a worker with the tests' application; `limits` are lines of that section."""
    files = "".join(f'{key} = "{path}"\n' for key, path in (tls_files or {}).items())
    config = directory / "swproxy.toml"
    authority().cert_pem.write_to_path(str(directory / "ca.pem"))
    config.write_text(
        _CONFIG.format(
            server=files, limits=limits, ca_file=directory / "ca.pem", app=APP_ID, secret=SECRET
        )
    )
    config.chmod(0o600)
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.support.beats", str(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    running = Worker(process, 0, tls_files is not None)
    try:
        running.port = int(await running._line())
        yield running
    finally:
        process.kill()
        with trio.CancelScope(shield=True), trio.move_on_after(PATIENCE):
            await process.wait()


if __name__ == "__main__":
    trio.run(_main, sys.argv[1])
