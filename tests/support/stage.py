"""The README's five minutes, acted out: its own commands and files, with a stand-in for the API.

Everything that a reader would type is taken from there and run by bash in an empty directory;
everything that a reader would save is saved. Only what a reader has and a test has not is put in:
the API (the demo's stand-in model), its key, and free ports.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from swproxy.demo.model import CA_FILE, MODEL_NAME, Model
from tests.support.pages import block

API_KEY = "sk-canary-of-the-readme"
PATIENCE = 20.0
"""Seconds that a program may take to listen, or a command to end; never what a test asserts."""


@dataclass
class Stage:
    """A reader's directory and environment, and the addresses in use."""

    directory: Path
    swproxy_port: int
    backend_port: int
    model_port: int
    environ: dict[str, str] = field(repr=False)
    said: list[str] = field(default_factory=list)
    """what the stand-in model reported"""

    @property
    def backend_url(self) -> str:
        """The origin of the page."""
        return f"http://127.0.0.1:{self.backend_port}"

    def put_in(self, text: str) -> str:
        """Put in what the reader has: the API with its key and model, and ports 3000 and 8000."""
        for here, there in (
            ("//api.openai.com", f"//127.0.0.1:{self.model_port}"),
            ("gpt-5-mini", MODEL_NAME),
            ("sk-...", API_KEY),
            ("127.0.0.1:3000", f"127.0.0.1:{self.swproxy_port}"),
            ("127.0.0.1:8000", f"127.0.0.1:{self.backend_port}"),
            ("--port 8000", f"--port {self.backend_port}"),
            ("SW_ID=...", f"SW_ID={self.environ.get('SW_ID')}"),
            ("SW_SECRET=...", f"SW_SECRET={self.environ.get('SW_SECRET')}"),
        ):
            text = text.replace(here, there)
        return text

    def save(self, name: str, more: str = "") -> None:
        """Save a block as the file it is named after, with `more` after it."""
        (self.directory / name).write_text(self.put_in(f"{block(name)}{more}"))

    async def run(self, name: str) -> str:
        """Run a block of commands to its end; return what it printed."""
        return await self.run_text(block(name))

    async def run_text(self, text: str) -> str:
        """Run commands to their end; return what they printed."""
        with trio.fail_after(PATIENCE):
            done = await trio.run_process(
                ["bash", "-euo", "pipefail", "-c", self.put_in(text)],
                cwd=self.directory,
                env=self.environ,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    @asynccontextmanager
    async def running(self, name: str, port: int) -> AsyncIterator[None]:
        """Run a block of commands that does not end, until it listens on `port` and beyond."""
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            process = await trio.lowlevel.open_process(
                ["bash", "-euo", "pipefail", "-c", self.put_in(block(name))],
                cwd=self.directory,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            with trio.fail_after(PATIENCE):
                while not await listens(port):
                    assert process.poll() is None, log.read_text()
                    await trio.sleep(0.02)
            yield
        finally:
            # The shell and what it started; both went into a session of their own.
            os.killpg(process.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await process.wait()


@asynccontextmanager
async def stage(
    directory: Path,
    *,
    pace: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
    api: Callable[..., Awaitable[object]] | None = None,
) -> AsyncIterator[Stage]:
    """Set the stage: stand-in model, `swproxy init` and `swproxy serve` as the README has them.

    `pace` is the model's; `api`, a function that serves TLS on listeners, takes the model's place.
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {"PATH": path, "HOME": str(directory)}
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port: int = listeners[0].socket.getsockname()[1]
        on = Stage(directory, free_port(), free_port(), port, environ)
        model = Model(API_KEY, pace=pace, report=on.said.append)
        await nursery.start(api or model.serve, listeners)
        (directory / ".venv").symlink_to(sys.prefix)
        environ |= credentials(await on.run("init"))
        let_in(on)
        async with on.running("serve", on.swproxy_port):
            yield on
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def backend(on: Stage, more: str = "") -> AsyncIterator[None]:
    """Run the README's backend, with the code of `more` added to it."""
    on.save("backend.py", more)
    on.save("page.html")
    async with on.running("uvicorn", on.backend_port):
        yield


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def credentials(printed: str) -> dict[str, str]:
    """Take down id and secret from what `swproxy init` printed."""
    words = [line.split() for line in printed.splitlines()]
    shown = {line[0]: line[1] for line in words if len(line) == 2 and line[0] in ("id", "secret")}
    return {"SW_ID": shown["id"], "SW_SECRET": shown["secret"]}


def let_in(on: Stage) -> None:
    """Configure what differs from the reader's machine: the API is on loopback, the port free."""
    config = on.directory / "swproxy.toml"
    text = config.read_text()
    for section, key, value in (
        ("server", "listen", f'["127.0.0.1:{on.swproxy_port}"]'),
        ("upstream", "ca_file", f'"{CA_FILE}"'),
        ("upstream", "private_networks", '["127.0.0.0/8"]'),
    ):
        before, header, rest = text.partition(f"\n[{section}]\n")
        own, bracket, others = rest.partition("\n[")
        assert own.count(f"\n#{key} = ") == 1
        own = own.replace(f"\n#{key} = ", f"\n{key} = {value} #")
        text = f"{before}{header}{own}{bracket}{others}"
    config.write_text(text)
    for app in (on.directory / "apps").iterdir():
        app.write_text(on.put_in(app.read_text()))


async def listens(port: int) -> bool:
    """Tell whether somebody listens on a port of this machine."""
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True
