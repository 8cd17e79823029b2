"""Where a store of limits is, as a URL tells it.

    redis://host:6379/0        plain TCP; valkey:// is the same
    rediss://host              TLS; valkeys:// is the same
    unix:///run/valkey.sock    a Unix socket

Several `host:port`, joined by commas, are the nodes of one store: a primary with its replicas, or
some nodes of a cluster. What follows the slash is the number of the database.
"""

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["StoreAddress", "parse_store_url"]

_TLS: Final = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
_DEFAULT_PORT: Final = 6379
_NODE: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::([1-9][0-9]{0,4}))?")
_DATABASE: Final = re.compile(r"0|[1-9][0-9]{0,5}")


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """The nodes of a store, host and port, or the path of a Unix socket."""

    nodes: tuple[tuple[str, int], ...] = ()
    path: str = ""
    tls: bool = False
    database: int = 0

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes
        )


def parse_store_url(text: str) -> StoreAddress:
    """Read a store's URL; raises ValueError with the reason, which quotes nothing of it."""
    scheme, mark, rest = text.partition("://")
    if scheme == "unix" and mark:
        path, _, query = rest.partition("?")
        if not path.startswith("/") or "\0" in path:
            raise ValueError("names no absolute path: unix:///run/valkey/valkey.sock")
        return StoreAddress(path=path, database=_database(query.removeprefix("db=")))
    if not mark or scheme not in _TLS:
        raise ValueError("is not a URL of redis://, rediss://, valkey://, valkeys:// or unix://")
    place, _, database = rest.partition("/")
    if "@" in place:
        raise ValueError("holds a user or a password; store.username and store.password are for it")
    return StoreAddress(
        nodes=tuple([_node(each) for each in place.split(",")]),
        tls=_TLS[scheme],
        database=_database(database),
    )


def _node(text: str) -> tuple[str, int]:
    match = _NODE.fullmatch(text)
    if match is None or int(match[2] or _DEFAULT_PORT) > 65535:
        raise ValueError("has a node that is not host:port")
    return match[1].strip("[]"), int(match[2] or _DEFAULT_PORT)


def _database(text: str) -> int:
    if not text:
        return 0
    if not _DATABASE.fullmatch(text):
        raise ValueError("has a database that is not a number")
    return int(text)
