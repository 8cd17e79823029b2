"""Listening sockets handed over by the service manager: sd_listen_fds(3)."""

import os
import socket
from collections.abc import Mapping

__all__ = ["VARIABLES", "take_sockets"]

VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
"""Environment variables meant for this process alone, not for its children."""

FIRST_DESCRIPTOR = 3


def take_sockets(environ: Mapping[str, str]) -> list[tuple[str, socket.socket]]:
    """Return the sockets handed over to this process, each with its name ("" without one).

    Raises ValueError for a descriptor that is no listening stream socket, as with Accept=yes.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environ.get("LISTEN_FDS", "")
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    taken: list[tuple[str, socket.socket]] = []
    try:
        for index in range(int(count) if count.isdecimal() else 0):
            name = names[index] if index < len(names) else ""
            taken.append((name, _adopt(FIRST_DESCRIPTOR + index, name)))
    except BaseException:
        for _, sock in taken:
            sock.close()
        raise
    return taken


def _adopt(descriptor: int, name: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ValueError(f"descriptor {descriptor} ({name!r}) is no socket") from error
    try:
        listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        listening = 0
    if sock.type != socket.SOCK_STREAM or not listening:
        sock.detach()
        raise ValueError(
            f"descriptor {descriptor} ({name!r}) is no listening stream socket: the unit needs"
            " ListenStream= and Accept=no"
        )
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock
