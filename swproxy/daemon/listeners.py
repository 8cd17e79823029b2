"""Listening sockets: opened as configured, and accepted from without falling over.

An accept loop is where a server meets its limits first. Out of descriptors it must neither spin nor
die: it gives up idle upstream connections, pauses, and goes on (trio's `serve_listeners` is the
model). Beyond the configured number of connections the oldest idle one makes room for a new one;
if none is idle the newcomer is told to come again.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from swproxy.policy.listen import ListenAddress, UnixAddress

__all__ = ["accept_forever", "close_listeners", "open_listeners"]

BACKLOG = 4096
"""Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn."""

_BATCH = 64
"""Connections accepted before other tasks get their turn."""

_PAUSE_SECONDS = 0.1
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def open_listeners(addresses: Sequence[ListenAddress]) -> list[socket.socket]:
    """Bind and listen. Raises OSError whose text names the address; none is left open then."""
    opened: list[socket.socket] = []
    try:
        for address in addresses:
            try:
                opened.extend(_open(address))
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                raise OSError(error.errno, f"cannot listen on {address}: {reason}") from error
    except BaseException:
        close_listeners(opened)
        raise
    return opened


def _open(address: ListenAddress) -> list[socket.socket]:
    if isinstance(address, UnixAddress):
        return [_open_unix(address.path)]
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    opened: list[socket.socket] = []
    try:
        for family, kind, protocol, _, place in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            opened.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(place)
            listener.listen(BACKLOG)
            listener.setblocking(False)
    except BaseException:
        close_listeners(opened)
        raise
    return opened


def _open_unix(path: str) -> socket.socket:
    if Path(path).is_socket():
        # Left behind by a process that died; one that answers belongs to somebody else.
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) == errno.ECONNREFUSED:
                Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path)
        Path(path).chmod(0o660)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def close_listeners(listeners: Sequence[socket.socket]) -> None:
    """Close the sockets, and take the names of Unix ones from the file system."""
    for listener in listeners:
        with contextlib.suppress(OSError):
            name = listener.getsockname()
            if listener.family == socket.AF_UNIX and name:
                Path(name).unlink()
        listener.close()


async def accept_forever(
    listener: socket.socket,
    handle: Callable[[socket.socket, str], None],
    *,
    exhausted: Callable[[], None],
) -> None:
    """Call `handle(connection, client address)` for every connection, until cancelled.

    `exhausted` is called when the process or the system has run out of descriptors or memory.
    """
    while True:
        await trio.lowlevel.wait_readable(listener)
        try:
            for _ in range(_BATCH):
                sock, peer = listener.accept()
                handle(sock, peer[0] if isinstance(peer, tuple) else "")
        except BlockingIOError:
            continue
        except OSError as error:
            # What accept(2) reports may be an error of the one connection, which is gone then.
            if error.errno in _EXHAUSTED:
                exhausted()
                await trio.sleep(_PAUSE_SECONDS)
