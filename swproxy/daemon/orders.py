"""What a supervisor and its workers say to each other, over a socket pair.

Down go whole configurations, checked by the supervisor, so that all workers hold the same one
however the files change meanwhile; the first comes with the descriptors to use. Up come single
bytes: READY, RELOADED, REFUSED, and BEAT each time that a worker's loop and pump have gone round.
The pair's end tells each side that the other is gone.

A message down is its length (4 bytes, big-endian) and a pickle. Only the parent process can write
to the pair, and it is the one that started the reader, so nothing is unpickled from a stranger.
"""

import pickle
import struct
from dataclasses import dataclass
from typing import Any

from swproxy.config.config import Config

__all__ = ["BEAT", "READY", "REFUSED", "RELOADED", "Decoder", "Orders", "pack"]

READY = b"+"
RELOADED = b"r"
REFUSED = b"x"
BEAT = b"."

_LENGTH = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is told. Descriptors, of listeners and of memory, come with the first."""

    config: Config
    name: str = ""
    listeners: tuple[tuple[int, bool], ...] = ()
    """descriptor, and whether the socket is our own to empty before it is closed"""
    tally: int = -1
    share: tuple[int, int, int] = (-1, 1, 0)
    """descriptor, count and place, as `Share` takes them"""


def pack(orders: Orders) -> bytes:
    """Return `orders` as a message."""
    config = orders.config
    # The applications are a read-only view, which does not pickle.
    apps = dict(config.apps)
    parts = (config.server, config.limits, config.upstream, config.cors, apps, config.store)
    data = pickle.dumps((parts, orders.name, orders.listeners, orders.tally, orders.share))
    return _LENGTH.pack(len(data)) + data


class Decoder:
    """Takes messages out of the bytes as they come."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[Orders]:
        """Return the messages that `data` completes."""
        self._data += data
        found: list[Orders] = []
        while len(self._data) >= 4:
            end = 4 + _LENGTH.unpack_from(self._data)[0]
            if len(self._data) < end:
                break
            message: Any = pickle.loads(self._data[4:end])  # noqa: S301 - from our parent, see above
            self._data = self._data[end:]
            parts, *rest = message
            found.append(Orders(Config(*parts), *rest))
        return found
