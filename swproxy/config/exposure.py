"""What others could read, write or reach of a configuration: doubtful, and told as warnings.

Whoever reads a key has it, whoever writes a file decides where keys go, and a signed URL that
travels in the clear is anybody's. None of it keeps the daemon from serving.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

from swproxy.config.assembly import AppSource, Table
from swproxy.config.config import Server
from swproxy.config.faults import Fault
from swproxy.config.listen_address import ListenAddress, TcpAddress
from swproxy.policy.addresses import is_public

__all__ = ["Mode", "handed_over_to_others", "open_to_others", "reached_by_others"]

Mode = Callable[[Path], int]
"""Gives the `st_mode` of a file or directory; 0 if it is not there."""

_SHARED = stat.S_IRWXO | stat.S_IWGRP
_MOUNTED = (Path("/run/secrets"), Path("/var/run/secrets"))
"""Where containers have their secrets. Docker's are readable by all, and only in the container."""

_IN_THE_CLEAR = (
    "is reached by others, without TLS: whoever sees a signed URL pass can use it. Set"
    " server.tls_certificate, or listen on 127.0.0.1 behind a web server that ends TLS"
)
_PASSES = (
    "is reached by others, in the clear: whoever sees server.admin_token pass can use it. 127.0.0.1"
    " or unix:/path, behind a web server that ends TLS, is not"
)
_NO_PAGE = (
    "is reached from other machines, so the live page is not served there: it needs"
    " server.admin_token, or 127.0.0.1 or unix:/path"
)
_TELLS = "is reached by others: metrics tell who uses what. 127.0.0.1 or unix:/path is not"


def open_to_others(
    path: Path, sources: Sequence[AppSource], keys: Iterable[Path], mode: Mode
) -> Iterator[Fault]:
    """Warn of files and directories that more than an owner and a group have a say in.

    `path` is the main file, `keys` are the files that hold keys.
    """
    files = dict.fromkeys([path, *(source.file for source in sources)])
    literal = {each.file for each in sources if any("${" not in s for s in _secrets(each.table))}
    for file in sorted(files):
        if file in literal and mode(file) & _SHARED:
            reason = f"holds a secret and is open to others: run `chmod 600 {file}`"
            yield Fault(file, "", reason)
        elif mode(file) & stat.S_IWOTH:
            yield Fault(file, "", f"can be written by anybody: run `chmod o-w {file}`")
    for file in dict.fromkeys(keys):
        shared = _SHARED
        if any(file.is_relative_to(place) for place in _MOUNTED):
            shared &= ~(stat.S_IROTH | stat.S_IRGRP)
        if mode(file) & shared:
            yield Fault(file, "", f"holds a key and is open to others: run `chmod 600 {file}`")
    for directory in dict.fromkeys([path.parent, path.parent / "apps"]):
        found = mode(directory)
        # In one like /tmp nobody can take the place of another's file.
        if found & stat.S_IWOTH and not found & stat.S_ISVTX:
            reason = f"is a directory that anybody can write in: run `chmod o-w {directory}`"
            yield Fault(directory, "", reason)


def _secrets(table: Table) -> list[str]:
    secrets = table.get("secrets")
    return [each for each in secrets if isinstance(each, str)] if isinstance(secrets, list) else []


def reached_by_others(path: Path, server: Server) -> Iterator[Fault]:
    """Warn of listeners that strangers reach and should not: in the clear, or for metrics."""
    for number, address in enumerate(server.listen):
        if _is_public(address) and server.tls_certificate is None:
            yield Fault(path, f"server.listen[{number}]", _IN_THE_CLEAR)
    if server.admin_listen is not None:
        for reason in _of_admin(server.admin_listen, server):
            yield Fault(path, "server.admin_listen", reason)


def handed_over_to_others(
    path: Path, server: Server, public: Iterable[TcpAddress], admin: Iterable[TcpAddress]
) -> Iterator[Fault]:
    """Warn likewise of the service manager's sockets, but for those configured as well."""
    for address in public:
        known = address in server.listen or server.tls_certificate is not None
        if _is_public(address) and not known:
            yield Fault(path, f"socket {address}", _IN_THE_CLEAR)
    for address in admin:
        if address != server.admin_listen:
            for reason in _of_admin(address, server):
                yield Fault(path, f"admin socket {address}", reason)


def _of_admin(address: ListenAddress, server: Server) -> Iterator[str]:
    """Give what is doubtful about an address of the admin listener."""
    if _is_public(address):
        yield _PASSES if server.admin_token else _TELLS
    elif not server.admin_token and _is_elsewhere(address):
        yield _NO_PAGE


def _is_elsewhere(address: ListenAddress) -> bool:
    """Tell whether another machine can get there, as far as an address says so."""
    if not isinstance(address, TcpAddress):
        return False
    try:
        return not ip_address(address.host.partition("%")[0]).is_loopback
    except ValueError:
        return address.host != "localhost"


def _is_public(address: ListenAddress) -> bool:
    """Tell whether strangers can get there: on a public address, or on all there are."""
    if not isinstance(address, TcpAddress):
        return False
    try:
        literal = ip_address(address.host.partition("%")[0])
    except ValueError:
        return False  # a name; what it stands for is known to whoever resolves it
    return literal.is_unspecified or is_public(literal)
