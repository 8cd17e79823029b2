"""What subjects and load generators share: where things are, and what a request looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

__all__ = [
    "APP_ID",
    "APP_SECRET",
    "BODY_BYTES",
    "EXPIRY_SECONDS",
    "IDLE_CONNECTIONS",
    "METERED_ID",
    "ROOT",
    "Request",
    "Site",
    "target_of",
]

APP_ID = "bench"
METERED_ID = "metered"
APP_SECRET = "bench-secret-bench-secret-bench"
ROOT = Path(__file__).resolve().parent.parent
EXPIRY_SECONDS = 6 * 3600  # longer than a session lasts
IDLE_CONNECTIONS = 256  # kept to the upstream at most, swproxy's default
BODY_BYTES = 256 * 1024 * 1024  # request bodies up to here, above what `bulk` sends


@dataclass(frozen=True, slots=True)
class Site:
    """What a subject needs to know: upstream ports, trust anchor, where to write, which cores."""

    ports: Mapping[str, int]
    ca_file: Path
    directory: Path
    cores: frozenset[int]
    workers: int = 1

    def url(self, scheme: str, path: str) -> str:
        """Return the upstream's URL of a path."""
        return f"{scheme}://127.0.0.1:{self.ports[scheme]}{path}"


@dataclass(frozen=True, slots=True)
class Request:
    """A request that can be sent over and over."""

    port: int
    target: str
    tls: bool = False
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def url(self) -> str:
        """The URL for a load generator that takes one."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{self.target}"

    def head(self, *, length: int | None = None) -> bytes:
        """Return the bytes of the head, for a body of `length` bytes or none."""
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        return "\r\n".join([*lines, "", ""]).encode()


def target_of(url: str) -> str:
    """Return the request target of a URL."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
