"""Where the daemon listens: `host:port`, `[v6]:port` or `unix:/path`, as values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import PurePosixPath

__all__ = ["ListenAddress", "TcpAddress", "UnixAddress", "parse_listen"]

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\Z")
# ipaddress takes anything for the name of a network interface.
_ZONE = re.compile(r"[A-Za-z0-9_.-]*")
# A sockaddr_un holds 108 bytes on Linux and 104 on macOS, the last of them a NUL.
_UNIX_PATH_BYTES = 103


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP listener's place: an IP address or a host name, and a port (0: any free one)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket's absolute path."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


ListenAddress = TcpAddress | UnixAddress


def parse_listen(text: str) -> ListenAddress:
    """Read one listen entry; a ValueError's text says what is wrong with it."""
    if text.startswith("unix:"):
        return _parse_unix(text.removeprefix("unix:"))
    if "://" in text:
        raise ValueError("expects host:port without a scheme")
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError("has no port: write host:port, [v6]:port or unix:/path")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError("has no valid port: expects a number from 0 to 65535 after the last colon")
    return TcpAddress(_parse_host(host), int(port))


def _parse_unix(path: str) -> UnixAddress:
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ValueError("expects an absolute path of a socket after unix:")
    if len(path.encode()) > _UNIX_PATH_BYTES:
        raise ValueError(f"has a socket path longer than {_UNIX_PATH_BYTES} bytes")
    return UnixAddress(str(PurePosixPath(path)))


def _parse_host(host: str) -> str:
    if not host:
        raise ValueError("has no host: write 127.0.0.1, 0.0.0.0 (every IPv4 address) or [::]")
    if host.startswith("[") and host.endswith("]"):
        address = host[1:-1]
        try:
            if _ZONE.fullmatch(address.partition("%")[2]):
                return str(IPv6Address(address))
        except ValueError:
            pass
        raise ValueError("has no valid IPv6 address between the brackets")
    if ":" in host:
        raise ValueError("expects an IPv6 address in brackets, as in [::1]:3000")
    try:
        return str(ip_address(host))
    except ValueError:
        if _HOST_NAME.match(host) and not host.rpartition(".")[2].isdigit():
            return host
        raise ValueError("has no valid host before the port") from None
