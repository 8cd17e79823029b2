"""The one way out: resolved once, checked, pinned."""

import socket
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import httpcore
import pytest
import trio

from swproxy.net.dial import GuardedBackend
from swproxy.net.names import NameNotResolved
from swproxy.sw1.refusal import Refusal

LOOPBACK = [ip_network("127.0.0.0/8"), ip_network("::1/128")]


class Resolver(trio.abc.HostnameResolver):
    """Answers with what the test says, a different answer each time it is asked."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        assert host is not None
        assert isinstance(port, int)
        self.asked.append(host.decode())
        return [
            (
                socket.AF_INET6 if ":" in text else socket.AF_INET,
                socket.SOCK_STREAM,
                0,
                "",
                (text, port),
            )
            for text in self.answers.pop(0)
        ]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def connected(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::1"],
        ["fd00:ec2::254"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        ["93.184.216.34", "127.0.0.1"],
        ["127.0.0.1", "93.184.216.34"],
    ],
)
async def test_one_address_that_is_not_public_spoils_the_name(
    answer: list[str], listener: socket.socket
) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(answer))
    port = listener.getsockname()[1]
    with pytest.raises(Refusal) as caught:
        await GuardedBackend([]).connect_tcp("rebound.test", port)
    assert caught.value.code == "destination-not-public"
    assert answer[0] not in str(caught.value)
    assert not connected(listener)


async def test_a_literal_address_is_judged_alike(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with pytest.raises(Refusal):
        await GuardedBackend([ip_network("10.0.0.0/8")]).connect_tcp("127.0.0.1", port)
    assert not connected(listener)


async def test_the_address_checked_is_the_address_connected_to(listener: socket.socket) -> None:
    # A second look-up, were there one, would find another place.
    resolver = Resolver(["127.0.0.1"], ["192.0.2.1"])
    trio.socket.set_custom_hostname_resolver(resolver)
    stream = await GuardedBackend(LOOPBACK).connect_tcp("api.test", listener.getsockname()[1])
    assert stream.socket.getpeername() == listener.getsockname()
    assert resolver.asked == ["api.test"]
    stream.close()


async def test_the_next_address_is_tried_when_one_refuses(listener: socket.socket) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(["127.0.0.2", "::1", "127.0.0.1"]))
    stream = await GuardedBackend(LOOPBACK).connect_tcp("api.test", listener.getsockname()[1])
    assert stream.socket.getpeername() == listener.getsockname()
    stream.close()


async def test_the_error_names_no_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(httpcore.ConnectError) as caught:
        await GuardedBackend(LOOPBACK).connect_tcp("127.0.0.1", port)
    assert str(caught.value) == "ECONNREFUSED"


async def test_a_name_without_an_address() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver([]))
    with pytest.raises(NameNotResolved):
        await GuardedBackend([]).connect_tcp("nowhere.test", 80)


async def test_late_is_a_timeout_and_leaves_no_socket() -> None:
    # A full backlog: the kernel answers no further connection.
    with socket.socket() as server, socket.socket() as first:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        first.connect(server.getsockname())
        with pytest.raises(httpcore.ConnectTimeout):
            await GuardedBackend(LOOPBACK).connect_tcp(
                "127.0.0.1", server.getsockname()[1], timeout=0.05
            )


async def test_a_destination_is_never_a_unix_socket() -> None:
    with pytest.raises(httpcore.ConnectError):
        await GuardedBackend(LOOPBACK).connect_unix_socket("/run/secret.sock")
