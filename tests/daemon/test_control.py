"""Signs of life: given only while all that has to move moves, and figures with them."""

import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio

from swproxy.config.config import Config, Server
from swproxy.daemon.control import Control
from swproxy.daemon.log import Log
from swproxy.daemon.notify import Notifier
from swproxy.daemon.service import Service
from swproxy.daemon.tally import Tally
from tests.support.proxy import Recorder
from tests.support.wire import PATIENCE


class Manager:
    """The service manager's end of the line."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(self.name)
        self._sock.setblocking(False)

    def close(self) -> None:
        self._sock.close()

    def heard(self) -> list[str]:
        found: list[str] = []
        while True:
            try:
                found += self._sock.recv(4096).decode().split("\n")
            except BlockingIOError:
                return found

    async def wait_for(self, message: str) -> None:
        with trio.fail_after(PATIENCE):
            while message not in self.heard():
                await trio.sleep(0.005)


class Controlled:
    """Something to control whose movement the test decides."""

    def __init__(self) -> None:
        self.moving = trio.Event()
        self.draining = False
        self.tally = Tally()
        self.reloads: list[Config] = []

    def drain(self) -> None:
        self.draining = True

    async def reload(self, config: Config) -> None:
        self.reloads.append(config)

    async def turn(self) -> None:
        await self.moving.wait()

    def tallies(self) -> Sequence[Tally]:
        return [self.tally]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with (tmp_path / "log").open("wb") as file:
        log = Log(Server(log_format="json"), descriptor=file.fileno())
        yield log
        log.close()


async def test_no_sign_of_life_while_nothing_moves(manager: Manager, log: Log) -> None:
    controlled = Controlled()
    notifier = Notifier(manager.name, watchdog_seconds=0.03)
    control = Control(Path("none"), Config(), controlled, log, notifier)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(control.inform)
        await trio.sleep(0.1)
        assert manager.heard() == ["READY=1"]
        controlled.moving.set()
        await manager.wait_for("WATCHDOG=1")
        controlled.moving = trio.Event()
        await trio.sleep(0.05)
        manager.heard()
        await trio.sleep(0.1)
        assert manager.heard() == []
        nursery.cancel_scope.cancel()


async def test_a_service_turns_only_with_its_pump() -> None:
    service = Service(Config(), [], Recorder())
    with trio.move_on_after(0.05) as scope:
        await service.turn()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.worker.pump.run)
        with trio.fail_after(PATIENCE):
            await service.turn()
            await service.turn()
        nursery.cancel_scope.cancel()


async def test_the_status_has_figures(manager: Manager, log: Log) -> None:
    controlled = Controlled()
    controlled.moving.set()
    tally = controlled.tally
    for kind, count in (("http", 2), ("websocket", 1)):
        tally.values[tally.slot(("swproxy_active_streams", kind))] = count
    tally.values[tally.slot(("swproxy_requests_total", "a", "complete"))] = 7
    control = Control(Path("none"), Config(), controlled, log, Notifier(manager.name))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(control.inform)
        await manager.wait_for(
            "STATUS=serving: streams 3, connections 0, requests 7, applications 0"
        )
        nursery.cancel_scope.cancel()


async def test_a_reload_is_announced_and_a_refused_one_explained(
    manager: Manager, log: Log, tmp_path: Path
) -> None:
    config = tmp_path / "swproxy.toml"
    config.write_text("[server]\nspeed = 3\n")
    controlled = Controlled()
    control = Control(config, Config(), controlled, log, Notifier(manager.name))
    async with trio.open_nursery() as nursery:
        await nursery.start(control.obey, nursery.cancel_scope)
        signal.raise_signal(signal.SIGHUP)
        heard = await hear_until_ready(manager)
        assert heard[0] == "RELOADING=1"
        assert heard[1].startswith("MONOTONIC_USEC=")
        assert heard[2].startswith("STATUS=reload refused: ")
        assert "server.speed" in heard[2]
        assert controlled.reloads == []

        config.write_text("[server]\nworkers = 4\n")
        signal.raise_signal(signal.SIGHUP)
        heard = await hear_until_ready(manager)
        assert heard[2].startswith("STATUS=serving: ")
        assert [each.server.workers for each in controlled.reloads] == [4]

        signal.raise_signal(signal.SIGTERM)
        await manager.wait_for("STOPPING=1")
        assert controlled.draining
        signal.raise_signal(signal.SIGTERM)


async def hear_until_ready(manager: Manager) -> list[str]:
    heard: list[str] = []
    with trio.fail_after(PATIENCE):
        while "READY=1" not in heard:
            await trio.sleep(0.005)
            heard += manager.heard()
    return heard
