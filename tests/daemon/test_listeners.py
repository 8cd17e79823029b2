"""Sockets to listen on: opened, taken over, accepted from, and left behind in good order."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from swproxy.config.listen_address import TcpAddress, UnixAddress
from swproxy.daemon.listeners import (
    Listener,
    accept_forever,
    accept_rest,
    close_listeners,
    open_listeners,
)
from tests.support.wire import PATIENCE


class Accepted(list[socket.socket]):
    """A handler that keeps what it is given."""

    def __call__(self, sock: socket.socket, client: str) -> None:
        self.append(sock)
        self.clients = [*getattr(self, "clients", []), client]


@pytest.fixture
def accepted() -> Iterator[Accepted]:
    kept = Accepted()
    yield kept
    for sock in kept:
        sock.close()


def test_addresses_are_opened_and_named(tmp_path: Path) -> None:
    path = f"{tmp_path}/s"
    listeners = open_listeners(
        [TcpAddress("127.0.0.1", 0), TcpAddress("::1", 0), UnixAddress(path)]
    )
    four, six, unix = listeners
    assert four.address.startswith("127.0.0.1:")
    assert six.address.startswith("[::1]:")
    assert unix.address == f"unix:{path}"
    mode = Path(path).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660
    close_listeners(listeners)
    assert not Path(path).exists()


def test_a_failure_names_the_address_and_leaves_nothing_open(tmp_path: Path) -> None:
    path = f"{tmp_path}/s"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port}: Address already in use. .*ss"):
            open_listeners([UnixAddress(path), TcpAddress("127.0.0.1", port)])
    assert not Path(path).exists()
    with pytest.raises(OSError, match=r"cannot listen on nowhere\.invalid:80"):
        open_listeners([TcpAddress("nowhere.invalid", 80)])


def test_a_socket_left_behind_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = f"{tmp_path}/s"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(path)
    dead.close()
    (mine,) = open_listeners([UnixAddress(path)])
    with pytest.raises(OSError, match="Address already in use"):
        open_listeners([UnixAddress(path)])
    # Another process has taken the name meanwhile: it is not ours to remove.
    Path(path).unlink()
    (other,) = open_listeners([UnixAddress(path)])
    mine.close()
    assert Path(path).exists()
    other.close()


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
def test_what_was_handed_over_comes_first_and_is_not_opened_again(bound: str) -> None:
    with socket.create_server((bound, 0)) as sock:
        port = sock.getsockname()[1]
        addresses = [TcpAddress("127.0.0.1", port), TcpAddress("127.0.0.1", 0)]
        given, own = open_listeners(addresses, [sock])
        assert given.sock is sock
        assert (given.own, own.own) == (False, True)
        own.close()


async def accept(listener: Listener, accepted: Accepted, batch: int, hold: float) -> None:
    await accept_forever(
        listener.sock, accepted, batch=batch, hold=lambda: hold, exhausted=lambda: None
    )


async def test_connections_are_accepted_until_cancelled(accepted: Accepted) -> None:
    (listener,) = open_listeners([TcpAddress("127.0.0.1", 0)])
    with listener.sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, listener, accepted, 2, 0)
            clients = [socket.create_connection(listener.sock.getsockname()) for _ in range(5)]
            with trio.fail_after(PATIENCE):
                while len(accepted) < 5:
                    await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
        assert accepted.clients == ["127.0.0.1"] * 5
        for client in clients:
            client.close()


async def test_a_connection_is_left_to_others_for_a_while_and_no_longer(
    accepted: Accepted, autojump_clock: trio.testing.MockClock
) -> None:
    (listener,) = open_listeners([TcpAddress("127.0.0.1", 0)])
    with listener.sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, listener, accepted, 1, 7.0)
            client = socket.create_connection(listener.sock.getsockname())
            await trio.sleep(6.9)
            assert not accepted
            other, _ = listener.sock.accept()  # another worker comes for it
            other.close()
            await trio.sleep(10)
            assert not accepted
            client.close()
            client = socket.create_connection(listener.sock.getsockname())
            await trio.sleep(7.1)
            assert len(accepted) == 1
            client.close()
            nursery.cancel_scope.cancel()


async def test_the_queue_is_emptied_before_a_socket_is_closed(accepted: Accepted) -> None:
    (listener,) = open_listeners([TcpAddress("127.0.0.1", 0)])
    clients = [socket.create_connection(listener.sock.getsockname()) for _ in range(5)]
    accept_rest(listener.sock, accepted)
    assert len(accepted) == 5
    close_listeners([listener])
    for client in clients:
        client.close()


class Exhausted:
    """A listening socket whose accept fails, as it does when there are no descriptors."""

    def __init__(self, failures: list[int]) -> None:
        self._failures = failures
        self._pair = socket.socketpair()
        self._pair[1].send(b"x")  # readable for good
        self.fileno = self._pair[0].fileno

    def accept(self) -> tuple[socket.socket, str]:
        if self._failures:
            number = self._failures.pop(0)
            raise OSError(number, os.strerror(number))
        raise BlockingIOError

    def close(self) -> None:
        for sock in self._pair:
            sock.close()


async def test_running_out_of_descriptors_is_survived() -> None:
    failures = [errno.EMFILE, errno.ECONNABORTED, errno.ENFILE]
    listener = Exhausted(failures)
    told: list[int] = []
    with trio.move_on_after(PATIENCE) as scope:
        async with trio.open_nursery() as nursery:

            async def accept() -> None:
                await accept_forever(
                    listener,  # type: ignore[arg-type]
                    lambda *_: None,
                    batch=1,
                    hold=lambda: 0,
                    exhausted=lambda: told.append(len(failures)),
                )

            nursery.start_soon(accept)
            while failures or len(told) < 2:
                await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
    assert not scope.cancelled_caught
    assert told == [2, 0]
    listener.close()


def test_a_listener_is_closed_once_and_for_all(tmp_path: Path) -> None:
    (listener,) = open_listeners([UnixAddress(f"{tmp_path}/s")])
    listener.close()
    listener.close()
    assert isinstance(listener, Listener)
