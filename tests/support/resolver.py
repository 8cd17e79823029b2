"""A name service for tests: names resolve to what a test says, in the running trio loop."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import trio


class Resolver(trio.abc.HostnameResolver):
    """Names and their addresses; any other name does not exist. `asked` counts questions."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self.names = dict(names)
        self.asked: list[str] = []

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - trio's interface
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        assert host is not None
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        await trio.lowlevel.checkpoint()
        if name not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        found = []
        for text in self.names[name]:
            version = ip_address(text.partition("%")[0]).version
            kind = socket.AF_INET if version == 4 else socket.AF_INET6
            place = (text, port) if version == 4 else (text, port, 0, 0)
            found.append((kind, socket.SOCK_STREAM, 6, "", place))
        return found

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@contextmanager
def resolving(names: Mapping[str, Sequence[str]]) -> Iterator[Resolver]:
    """Let names resolve as given, in the running trio loop."""
    resolver = Resolver(names)
    before = trio.socket.set_custom_hostname_resolver(resolver)
    try:
        yield resolver
    finally:
        trio.socket.set_custom_hostname_resolver(before)
