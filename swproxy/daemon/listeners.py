"""Listening sockets: handed over or opened as configured, and accepted from without falling over.

An accept loop is where a server meets its limits first. Out of descriptors it must neither spin nor
die: it gives up idle upstream connections, pauses, and goes on (trio's `serve_listeners` is the
model).

A socket of our own has connections waiting in its queue when we stop to accept, and the kernel
resets them when it is closed; so the queue is emptied first. One that the service manager handed
over stays open with it, and its queue is for whoever is started next.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from swproxy.config.listen_address import ListenAddress, TcpAddress, UnixAddress
from swproxy.net.failure import EXHAUSTED

__all__ = ["Listener", "accept_forever", "accept_rest", "close_listeners", "open_listeners"]

BACKLOG = 4096
"""Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn."""

_PAUSE_SECONDS = 0.1
_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound

Handle = Callable[[socket.socket, str], None]


@dataclass(slots=True, eq=False)
class Listener:
    """A listening socket, and whether it is our own to close for all."""

    sock: socket.socket
    own: bool = True
    inode: int = 0
    """of a Unix socket that we made, since another process may have put its own in its place"""

    @property
    def address(self) -> str:
        """What is listened on, for people."""
        name = self.sock.getsockname()
        if isinstance(name, tuple):
            host, port = name[:2]
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return f"unix:{name}"

    def close(self) -> None:
        """Close the socket, and take the name of a Unix one from the file system."""
        if self.inode and self.sock.fileno() >= 0:
            path = Path(self.sock.getsockname())
            with contextlib.suppress(OSError):
                if path.stat().st_ino == self.inode:
                    path.unlink()
        self.sock.close()


_HINTS = {
    errno.EADDRINUSE: ". `ss -ltnp` shows by whom: stop that, or configure another",
    errno.EACCES: ". Ports below 1024 are root's: let systemd or a web server have them",
    errno.EADDRNOTAVAIL: ". `ip address` lists those of this machine",
}


def open_listeners(
    addresses: Sequence[ListenAddress], handed_over: Sequence[socket.socket] = ()
) -> list[Listener]:
    """Take the sockets handed over, and open those addresses that none of them listens on.

    Raises OSError whose text names the address; none that was opened here is left open then.
    """
    listeners = [Listener(sock, own=False) for sock in handed_over]
    names = [sock.getsockname() for sock in handed_over]
    opened: list[Listener] = []
    try:
        for address in addresses:
            try:
                if isinstance(address, UnixAddress):
                    if address.path not in names:
                        opened.append(_open_unix(address.path))
                    continue
                for family, place in _resolve(address.host, address.port):
                    if not any(_covers(name, place) for name in names):
                        opened.append(_open_tcp(family, place))
            except OSError as error:
                raise OSError(error.errno, _refusal(address, error)) from error
    except BaseException:
        close_listeners(opened)
        raise
    return listeners + opened


def _refusal(address: ListenAddress, error: OSError) -> str:
    number = error.errno or 0
    reason = os.strerror(number) if number > 0 else error.strerror
    hint = _HINTS.get(number, "") if isinstance(address, TcpAddress) else ""
    return f"cannot listen on {address}: {reason}{hint}"


def _resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, (str(to[0]), port)) for family, _, _, _, to in found))


def _covers(name: object, place: tuple[str, int]) -> bool:
    """Tell whether a socket bound to `name` gets the connections to `place` already."""
    if not isinstance(name, tuple) or name[1] != place[1]:
        return False
    return name[0] == place[0] or name[0] in _ANY


def _open_tcp(family: socket.AddressFamily, place: tuple[str, int]) -> Listener:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return Listener(sock)


def _open_unix(path: str) -> Listener:
    if Path(path).is_socket():
        # Left behind by a process that died; one that answers belongs to somebody else.
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) == errno.ECONNREFUSED:
                Path(path).unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(path)
        Path(path).chmod(0o660)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        return Listener(sock, inode=Path(path).stat().st_ino)
    except BaseException:
        sock.close()
        raise


def close_listeners(listeners: Sequence[Listener]) -> None:
    """Close every one."""
    for listener in listeners:
        listener.close()


async def accept_forever(
    listener: socket.socket,
    handle: Handle,
    *,
    batch: int,
    hold: Callable[[], float],
    exhausted: Callable[[], None],
) -> None:
    """Call `handle(connection, client address)` for every connection, until cancelled.

    `batch` connections are accepted before others, tasks or workers, get their turn; other workers
    get `hold()` seconds for it first. `exhausted` is called when the process or the system has run
    out of descriptors or memory.
    """
    while True:
        await trio.lowlevel.wait_readable(listener)
        if seconds := hold():
            await trio.sleep(seconds)
        try:
            for _ in range(batch):
                _accept(listener, handle)
        except BlockingIOError:
            continue
        except OSError as error:
            # What accept(2) reports may be an error of the one connection, which is gone then.
            if error.errno in EXHAUSTED:
                exhausted()
                await trio.sleep(_PAUSE_SECONDS)


def accept_rest(listener: socket.socket, handle: Handle) -> None:
    """Handle the connections that wait in the queue, as far as there are descriptors for them."""
    try:
        while True:
            _accept(listener, handle)
    except ConnectionError:
        accept_rest(listener, handle)
    except OSError:
        return


def _accept(listener: socket.socket, handle: Handle) -> None:
    sock, peer = listener.accept()
    handle(sock, peer[0] if isinstance(peer, tuple) else "")
