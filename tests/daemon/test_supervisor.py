"""The supervisor with workers that hang or die again and again."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from swproxy.config.config import Config, Server
from swproxy.config.listen_address import TcpAddress
from swproxy.daemon import supervisor as module
from swproxy.daemon.exposition import added_up
from swproxy.daemon.listeners import close_listeners, open_listeners
from swproxy.daemon.log import Log
from swproxy.daemon.supervisor import Supervisor
from tests.support.wire import PATIENCE


class Events:
    """A log that is read while it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def of(self, event: str) -> list[dict[str, Any]]:
        lines = self._path.read_text().splitlines()
        return [each for each in map(json.loads, lines) if each["event"] == event]

    async def wait_for(self, event: str, count: int) -> list[dict[str, Any]]:
        with trio.fail_after(PATIENCE):
            while len(self.of(event)) < count:
                await trio.sleep(0.02)
        return self.of(event)


@pytest.fixture
def events(tmp_path: Path) -> Events:
    return Events(tmp_path / "log")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with (tmp_path / "log").open("wb") as file:
        log = Log(Server(log_format="json"), descriptor=file.fileno())
        yield log
        log.close()


def children() -> list[int]:
    """Return the worker processes of this test."""
    threads = Path("/proc/self/task").glob("*/children")
    found = [int(child) for thread in threads for child in thread.read_text().split()]
    return [child for child in found if _is_worker(child)]


def _is_worker(process: int) -> bool:
    return b"swproxy.daemon.worker_process" in Path(f"/proc/{process}/cmdline").read_bytes()


async def test_a_worker_that_hangs_is_replaced(log: Log, events: Events) -> None:
    listeners = open_listeners([TcpAddress("127.0.0.1", 0)])
    # Enough for one that starts on a busy machine, which is watched as well.
    supervisor = Supervisor(Config(), listeners, 1, log, hung_seconds=5.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        (worker,) = children()
        os.kill(worker, signal.SIGSTOP)
        (died,) = await events.wait_for("worker-died", 1)
        assert died["reason"] == "hung"
        await events.wait_for("worker-ready", 2)
        assert children() != [worker]
        told = added_up(supervisor.tallies())
        assert told["swproxy_worker_restarts_total",] == 1
        assert told["swproxy_process_cpu_seconds_total", "supervisor"] > 0
        supervisor.drain()
    close_listeners(listeners)


async def test_a_worker_that_dies_again_is_replaced_later(
    log: Log, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BACKOFF_SECONDS", (0.0, 0.1, 0.3))
    listeners = open_listeners([TcpAddress("127.0.0.1", 0)])
    supervisor = Supervisor(Config(), listeners, 1, log)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        for count in range(4):
            (worker,) = children()
            os.kill(worker, signal.SIGKILL)
            await events.wait_for("worker-ready", count + 2)
        pauses = [died["restart_in"] for died in events.of("worker-died")]
        assert pauses == [0.0, 0.1, 0.3, 0.3]
        supervisor.drain()
    close_listeners(listeners)


async def test_a_reload_that_a_worker_refuses_is_taken_back(
    log: Log, events: Events, tmp_path: Path
) -> None:
    listeners = open_listeners([TcpAddress("127.0.0.1", 0)])
    supervisor = Supervisor(Config(), listeners, 2, log)
    nowhere = tmp_path / "missing.pem"
    tls = Server.model_construct(
        **dict(Server()) | {"tls_certificate": nowhere, "tls_key": nowhere}
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        with pytest.raises(OSError, match="could not use"):
            await supervisor.reload(Config(server=tls))
        with trio.fail_after(PATIENCE):
            await supervisor.reload(Config())
        # The listeners speak plain HTTP as before.
        stream = await trio.open_tcp_stream(*listeners[0].sock.getsockname())
        async with stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await stream.receive_some(20)).startswith(b"HTTP/1.1 400 ")
        supervisor.drain()
    assert events.of("worker-died") == []
    close_listeners(listeners)
