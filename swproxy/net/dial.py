"""The only way out: every connection to an upstream is dialled here.

The destination's name has been allowed by then, but a name is only a promise: whoever answers for
it in the DNS chooses the address. So the address is checked here, at the moment of connecting, and
the one that was checked is the one connected to; nothing resolves again in between (an answer that
is shared or kept, see `names`, is checked all the same). If any address
of a name is not public, none is used: an attacker who mixes one good address with one bad gains
nothing by trying often.

The interface is httpcore's network backend, so that a test can put another behind the pool.
"""

import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

import httpcore
import trio

from swproxy.net.failure import EXHAUSTED
from swproxy.net.names import NameNotResolved, look_up
from swproxy.net.stream import SocketStream
from swproxy.policy.addresses import Address, Network, closed
from swproxy.sw1.refusal import Refusal

__all__ = ["DescriptorsExhausted", "GuardedBackend", "NameNotResolved"]

_STAGGER_SECONDS = 0.25
"""Head start of one address before the next is tried beside it (RFC 8305 section 5)."""

_MOST_ADDRESSES = 8
"""Addresses of one name that are tried; a name with more is a farm, and eight are enough."""


class DescriptorsExhausted(httpcore.ConnectError):
    """No fault of the upstream's: this process or the system has no socket left to give."""


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Dials addresses that are public, or in a network that the configuration opens."""

    def __init__(
        self,
        private_networks: Sequence[Network],
        look_up: Callable[[str], Awaitable[tuple[str, ...]]] = look_up,
    ) -> None:
        """Dial names whose addresses are those that `look_up` returns."""
        self._private_networks = tuple(private_networks)
        self._look_up = look_up

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 - httpcore's interface
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> SocketStream:
        """Resolve, check, connect.

        Raises Refusal ("destination-not-public"), NameNotResolved, httpcore.ConnectError, or
        httpcore.ConnectTimeout after `timeout` seconds for all of it.
        """
        with trio.move_on_after(float("inf") if timeout is None else timeout) as scope:
            addresses = await self._resolve(host)
            if reason := closed(addresses, self._private_networks):
                raise Refusal(
                    "destination-not-public",
                    "The destination's address is not a public one.",
                    for_operator=reason,
                )
            sock = await _connect_first(addresses[:_MOST_ADDRESSES], port)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option in socket_options or ():
                    sock.setsockopt(*option)
            except OSError as error:
                sock.close()
                raise httpcore.ConnectError(str(error)) from error
            return SocketStream(sock)
        assert scope.cancelled_caught
        raise httpcore.ConnectTimeout(f"not connected within {timeout:g} seconds")

    async def connect_unix_socket(
        self,
        path: str,  # noqa: ARG002
        timeout: float | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> SocketStream:
        """Refuse: a destination is never a file of this machine."""
        raise httpcore.ConnectError("unix sockets are no destinations")

    async def sleep(self, seconds: float) -> None:
        """Sleep, as httpcore asks between its retries."""
        await trio.sleep(seconds)

    async def _resolve(self, host: str) -> list[Address]:
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            pass
        return [ipaddress.ip_address(text) for text in await self._look_up(host)]


async def _connect_first(addresses: Sequence[Address], port: int) -> socket.socket:
    """Return the first socket that connects, starting the attempts a little apart."""
    winner: socket.socket | None = None
    errors: list[OSError] = []

    async def attempt(address: Address, scope: trio.CancelScope, failed: trio.Event) -> None:
        nonlocal winner
        try:
            sock = await _connect(address, port)
        except OSError as error:
            errors.append(error)
            failed.set()
            return
        if winner is None:
            winner = sock
            scope.cancel()
        else:
            sock.close()

    if len(addresses) == 1:
        try:
            return await _connect(addresses[0], port)
        except OSError as error:
            raise _failure(error) from error
    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(attempt, address, nursery.cancel_scope, failed)
                with trio.move_on_after(_STAGGER_SECONDS):
                    await failed.wait()
    except BaseException:
        # Cancelled from outside in the very step in which an attempt succeeded.
        if winner is not None:
            winner.close()
        raise
    if winner is None:
        raise _failure(errors[0]) from errors[0]
    return winner


async def _connect(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        code = sock.connect_ex((str(address), port))
        if code == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, errno.errorcode.get(code, "unknown"))
    except BaseException:
        sock.close()
        raise
    return sock


def _failure(error: OSError) -> httpcore.ConnectError:
    kind = DescriptorsExhausted if error.errno in EXHAUSTED else httpcore.ConnectError
    return kind(errno.errorcode.get(error.errno or 0, "failed"))
