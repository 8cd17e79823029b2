"""The pump's view of the operating system: epoll, and the stand-in for systems without it."""

import select
import socket
from collections.abc import Callable, Iterator

import pytest

from swproxy.net.poller import GONE, READ, WRITE, Poller, PortablePoller, ReadinessPoller

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture(params=[Poller, PortablePoller])
def poller(request: pytest.FixtureRequest) -> Iterator[ReadinessPoller]:
    make: Callable[[], ReadinessPoller] = request.param
    made = make()
    yield made
    made.close()


def test_reports_readable_and_writable_only_if_asked(poller: ReadinessPoller, pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b"x")
    poller.register(ours, WRITE)
    assert poller.ready() == [(ours.fileno(), WRITE)]
    poller.modify(ours, READ)
    assert poller.ready() == [(ours.fileno(), READ)]
    poller.modify(ours, READ | WRITE)
    assert poller.ready() == [(ours.fileno(), READ | WRITE)]
    ours.recv(1)
    assert poller.ready() == [(ours.fileno(), WRITE)]
    poller.unregister(ours)
    assert poller.ready() == []


def test_reports_a_peer_that_is_gone_though_nobody_reads(
    poller: ReadinessPoller, pair: Pair
) -> None:
    ours, theirs = pair
    poller.register(ours, GONE)
    assert poller.ready() == []
    theirs.close()
    ((descriptor, events),) = poller.ready()
    assert descriptor == ours.fileno()
    assert events & GONE


def test_unread_bytes_are_no_sign_of_a_peer_being_gone(poller: ReadinessPoller, pair: Pair) -> None:
    ours, theirs = pair
    poller.register(ours, GONE)
    theirs.send(b"another request")
    assert poller.ready() == []
    assert ours.recv(100) == b"another request"


def test_epoll_sees_a_peer_gone_behind_unread_bytes(pair: Pair) -> None:
    ours, theirs = pair
    poller = Poller()
    poller.register(ours, GONE)
    theirs.send(b"another request")
    theirs.close()
    assert [events & GONE for _, events in poller.ready()] == [GONE]
    poller.close()


def test_its_descriptor_is_readable_while_events_wait(poller: ReadinessPoller, pair: Pair) -> None:
    ours, theirs = pair
    poller.register(ours, READ)
    assert select.select([poller.fileno()], [], [], 0)[0] == []
    theirs.send(b"x")
    assert select.select([poller.fileno()], [], [], 0)[0] == [poller.fileno()]
