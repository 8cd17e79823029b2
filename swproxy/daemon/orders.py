"""What a supervisor and its workers say to each other, over a socket pair.

Down go whole configurations, checked by the supervisor, so that all workers hold the same one
however the files change meanwhile; the first comes with the descriptors to use. Up come single
bytes: READY, RELOADED, REFUSED, and BEAT each time that a worker's loop and pump have gone round.
The pair's end tells each side that the other is gone.

While somebody looks at the live feed, questions go down as well, `Tell` and `End`, and each is
answered, in their order.

A message down is its length (4 bytes, big-endian) and a pickle. Only the parent process can write
to the pair, and it is the one that started the reader, so nothing is unpickled from a stranger. An
answer up is ANSWER, its length, and JSON: what a worker says, its parent only reads.
"""

import json
import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from swproxy.config.config import Config

__all__ = [
    "ANSWER",
    "BEAT",
    "READY",
    "REFUSED",
    "RELOADED",
    "Decoder",
    "End",
    "Message",
    "Orders",
    "Tell",
    "Words",
    "pack",
    "pack_answer",
]

READY = b"+"
RELOADED = b"r"
REFUSED = b"x"
BEAT = b"."
ANSWER = b"="

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


@dataclass(frozen=True, slots=True)
class Tell:
    """A question: how things are, and which requests there were after the first `since`."""

    since: int


@dataclass(frozen=True, slots=True)
class End:
    """A call that is to be ended; the answer is whether there is such a one."""

    request_id: str


Message = Orders | Tell | End


def pack(message: Message) -> bytes:
    """Return a message down."""
    data = pickle.dumps(_flat(message) if isinstance(message, Orders) else message)
    return _LENGTH.pack(len(data)) + data


def _flat(orders: Orders) -> object:
    config = orders.config
    # The applications are a read-only view, which does not pickle.
    apps = dict(config.apps)
    parts = (config.server, config.limits, config.upstream, config.cors, apps, config.store)
    return parts, orders.name, orders.listeners, orders.tally, orders.share


def pack_answer(answer: object) -> bytes:
    """Return a worker's answer as it goes up."""
    data = json.dumps(answer, separators=(",", ":")).encode()
    return ANSWER + _LENGTH.pack(len(data)) + data


class Words:
    """Takes what a worker says out of the bytes as they come."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, Any]]:
        """Give each word that `data` completes, and with ANSWER what is answered."""
        self._data += data
        while self._data:
            word, end, answer = self._data[:1], 1, None
            if word == ANSWER:
                if len(self._data) < 5:
                    return
                end = 5 + _LENGTH.unpack_from(self._data, 1)[0]
                if len(self._data) < end:
                    return
                answer = json.loads(self._data[5:end])
            self._data = self._data[end:]
            yield word, answer


class Decoder:
    """Takes messages out of the bytes as they come."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that `data` completes."""
        self._data += data
        found: list[Message] = []
        while len(self._data) >= 4:
            end = 4 + _LENGTH.unpack_from(self._data)[0]
            if len(self._data) < end:
                break
            message: Any = pickle.loads(self._data[4:end])  # noqa: S301 - from our parent, see above
            self._data = self._data[end:]
            if isinstance(message, Tell | End):
                found.append(message)
            else:
                parts, *rest = message
                found.append(Orders(Config(*parts), *rest))
        return found
