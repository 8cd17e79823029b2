"""Idle connections: taken and given back, expired, and never used with a byte unread."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpcore
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from swproxy.net.failure import UpstreamFailure
from swproxy.net.pool import Pool
from swproxy.net.stream import SocketStream
from swproxy.policy.destination import parse_destination

ORIGIN = parse_destination("http://upstream.test/")


class PairBackend(httpcore.AsyncNetworkBackend):
    """Connects to nobody: the far end of each connection is at the test's hand."""

    def __init__(self) -> None:
        self.ends: list[socket.socket] = []

    async def connect_tcp(self, host: str, port: int, *args: object, **kw: object) -> SocketStream:
        ours, theirs = socket.socketpair()
        self.ends.append(theirs)
        return SocketStream(ours)

    def is_closed(self, number: int) -> bool:
        """Tell whether our side of a connection has been closed."""
        self.ends[number].setblocking(False)
        try:
            return self.ends[number].recv(100) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:  # closed with bytes unread
            return True


@asynccontextmanager
async def pool(**options: float) -> AsyncIterator[tuple[Pool, PairBackend]]:
    backend = PairBackend()
    settings = {"idle_connections": 2, "idle_connection_seconds": 55.0} | options
    made = Pool(
        backend,
        ssl.create_default_context(),
        connect_seconds=10,
        idle_connections=int(settings["idle_connections"]),
        idle_connection_seconds=settings["idle_connection_seconds"],
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        yield made, backend
        nursery.cancel_scope.cancel()
    assert all(map(backend.is_closed, range(len(backend.ends))))
    for end in backend.ends:
        end.close()


async def test_the_last_connection_given_back_is_taken_first() -> None:
    async with pool() as (made, backend):
        first, second = await made.dial(ORIGIN), await made.dial(ORIGIN)
        assert made.take(ORIGIN) is None
        made.give_back(first)
        made.give_back(second)
        assert made.idle == 2
        taken = made.take(ORIGIN)
        assert taken is second
        assert taken.reused
        taken.close()
        assert len(backend.ends) == 2


async def test_origins_do_not_share() -> None:
    async with pool() as (made, _):
        made.give_back(await made.dial(ORIGIN))
        for url in ("https://upstream.test/", "http://upstream.test:81/", "http://other.test/"):
            assert made.take(parse_destination(url)) is None
        assert made.idle == 1


@pytest.mark.parametrize("what", ["extra bytes", "closed"])
async def test_a_connection_that_is_not_silent_is_never_taken(what: str) -> None:
    async with pool() as (made, backend):
        made.give_back(await made.dial(ORIGIN))
        if what == "extra bytes":
            backend.ends[0].send(b"HTTP/1.1 200 OK\r\n")
        else:
            backend.ends[0].shutdown(socket.SHUT_WR)
        assert made.take(ORIGIN) is None
        assert backend.is_closed(0)


async def test_none_is_kept_where_none_is_wanted() -> None:
    async with pool(idle_connections=0) as (made, backend):
        made.give_back(await made.dial(ORIGIN))
        assert made.idle == 0
        assert backend.is_closed(0)


async def test_one_too_many_is_closed_when_it_was_not_needed_for_a_second(
    mock_clock: MockClock,
) -> None:
    async with pool() as (made, backend):  # it looks once a second
        for connection in [await made.dial(ORIGIN) for _ in range(4)]:
            made.give_back(connection)
        taken = [made.take(ORIGIN) for _ in range(3)]
        mock_clock.jump(1.5)
        await wait_all_tasks_blocked()
        mock_clock.jump(0.3)
        for each in taken:
            assert each is not None
            made.give_back(each)
        assert made.idle == 4
        mock_clock.jump(0.8)
        await wait_all_tasks_blocked()
        assert made.idle == 3
        assert backend.is_closed(0)
        mock_clock.jump(1)
        await wait_all_tasks_blocked()
        assert made.idle == 2
        assert backend.is_closed(3)


async def test_idle_connections_expire(mock_clock: MockClock) -> None:
    async with pool() as (made, backend):
        made.give_back(await made.dial(ORIGIN))
        mock_clock.jump(54)
        await wait_all_tasks_blocked()
        assert made.idle == 1
        mock_clock.jump(1.5)
        await wait_all_tasks_blocked()
        assert made.idle == 0
        assert backend.is_closed(0)


async def test_one_too_many_is_not_kept_for_longer_than_others(mock_clock: MockClock) -> None:
    async with pool(idle_connections=1, idle_connection_seconds=0.5) as (made, _):
        connections = [await made.dial(ORIGIN) for _ in range(3)]
        await wait_all_tasks_blocked()
        mock_clock.jump(0.4)
        await wait_all_tasks_blocked()
        for connection in connections:
            made.give_back(connection)
        mock_clock.jump(0.6)  # the first sweep
        await wait_all_tasks_blocked()
        assert made.idle == 0


async def test_a_connection_is_too_old_at_its_very_second(mock_clock: MockClock) -> None:
    async with pool() as (made, backend):
        made.give_back(await made.dial(ORIGIN))
        mock_clock.jump(55)
        assert made.take(ORIGIN) is None
        assert backend.is_closed(0)


async def test_nothing_is_kept_after_the_end() -> None:
    async with pool() as (made, backend):
        connection = await made.dial(ORIGIN)
        made.close()
        made.give_back(connection)
        assert made.idle == 0
        assert backend.is_closed(0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (httpcore.ConnectError("ECONNREFUSED"), "upstream-unreachable"),
        (httpcore.ConnectTimeout("late"), "upstream-timeout"),
    ],
)
async def test_a_failure_to_connect_is_the_upstreams(error: Exception, code: str) -> None:
    class Failing(PairBackend):
        async def connect_tcp(self, *args: object, **kw: object) -> SocketStream:
            raise error

    made = Pool(
        Failing(),
        ssl.create_default_context(),
        connect_seconds=10,
        idle_connections=1,
        idle_connection_seconds=1,
    )
    with pytest.raises(UpstreamFailure) as caught:
        await made.dial(ORIGIN)
    assert caught.value.code == code


async def test_a_handshake_that_stalls_is_closed_at_the_deadline(
    autojump_clock: MockClock,
) -> None:
    backend = PairBackend()
    made = Pool(
        backend,
        ssl.create_default_context(),
        connect_seconds=10,
        idle_connections=1,
        idle_connection_seconds=1,
    )
    with pytest.raises(UpstreamFailure) as caught:
        await made.dial(parse_destination("https://upstream.test/"))
    assert caught.value.code == "upstream-timeout"
    backend.ends[0].recv(65536)  # our hello
    assert backend.is_closed(0)
    backend.ends[0].close()
