"""What the service manager is told, read off a socket like its own."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swproxy.daemon.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    name = f"{tmp_path}/notify" if request.param == "path" else f"@swproxy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        sock.setblocking(False)
        yield name, sock


def received(sock: socket.socket) -> list[str]:
    found: list[str] = []
    try:
        while True:
            found.append(sock.recv(4096).decode())
    except BlockingIOError:
        return found


def test_each_state_is_a_datagram(manager: tuple[str, socket.socket]) -> None:
    name, sock = manager
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000"})
    assert notifier.watchdog_seconds == 3.0
    before = time.monotonic_ns() // 1000
    notifier.ready()
    notifier.alive()
    notifier.status("two\nlines")
    notifier.status("two\nlines")
    notifier.reloading()
    notifier.stopping()
    ready, alive, status, reloading, stopping = received(sock)
    assert (ready, alive, stopping) == ("READY=1", "WATCHDOG=1", "STOPPING=1")
    assert status == "STATUS=two lines"
    first, second = reloading.split("\n")
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_a_watchdog_for_somebody_else_is_not_ours(manager: tuple[str, socket.socket]) -> None:
    name, sock = manager
    environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    notifier = Notifier.from_environment(environ)
    assert notifier.watchdog_seconds is None
    notifier.alive()
    assert received(sock) == []
    ours = Notifier.from_environment(environ | {"WATCHDOG_PID": str(os.getpid())})
    assert ours.watchdog_seconds == 1.0


@pytest.mark.parametrize("address", ["", "vsock:2:1", "relative"])
def test_without_a_manager_nothing_happens(address: str) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})
    notifier.ready()
    notifier.alive()
    assert notifier.watchdog_seconds is None


def test_a_manager_that_has_gone_is_no_failure(tmp_path: Path) -> None:
    Notifier.from_environment({"NOTIFY_SOCKET": f"{tmp_path}/nobody"}).ready()
