"""The WebSocket handshake, seen by whoever stands between its two ends (RFC 6455 section 4).

A handshake is an HTTP request that asks to be a WebSocket from its answer on. It is judged twice:
the client's half before anything is done for it (`read_handshake`), the upstream's 101 before the
client is told of it (`check_switch`). Between them the fields that are the business of the two ends
(key, version, sub-protocols, extensions) travel as they are; Connection and Upgrade are ours on
either side, as they are about one connection each.

`websocket` is the only upgrade there is here. A request that names another is served as if it had
named none (RFC 9110 section 7.8 lets a server ignore it); one that names `websocket` and gets the
rest wrong is refused, whatever its HTTP version: taking it for an ordinary request would give its
sender an answer that explains nothing.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from swproxy.http.request import RequestHead
from swproxy.policy.field_names import Header
from swproxy.sw1.refusal import Refusal

__all__ = ["Handshake", "accept_value", "check_switch", "read_handshake"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Section 1.3."""

_KEY_BYTES = 16

_PROTOCOL = b"sec-websocket-protocol"


@dataclass(frozen=True, slots=True)
class Handshake:
    """The client's half of a good handshake.

    `origins` are the pages that ask (a browser names one, other clients none), `protocols` the
    sub-protocols on offer.
    """

    key: bytes
    origins: tuple[bytes, ...]
    protocols: tuple[bytes, ...]


def read_handshake(head: RequestHead) -> Handshake | None:
    """Return the handshake that a request is, or None where it asks for no WebSocket.

    Raises Refusal ("upgrade-invalid") for one that breaks section 4.2.1.
    """
    if b"websocket" not in _options(head.headers, b"upgrade"):
        return None
    if head.method != b"GET" or not head.http11:
        raise _invalid("it is not a GET of HTTP/1.1")
    if head.content_length != 0:
        raise _invalid("it has a body")
    if b"upgrade" not in _options(head.headers, b"connection"):
        raise _invalid("its Connection header does not name Upgrade")
    if _values(head.headers, b"sec-websocket-version") != [b"13"]:
        raise _invalid("its Sec-WebSocket-Version is not 13")
    keys = _values(head.headers, b"sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        raise _invalid("its Sec-WebSocket-Key is not 16 bytes in base64")
    return Handshake(
        key=keys[0],
        origins=tuple(_values(head.headers, b"origin")),
        protocols=tuple(_list(head.headers, _PROTOCOL)),
    )


def accept_value(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept that answers a Sec-WebSocket-Key (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def check_switch(
    handshake: Handshake, headers: Sequence[Header]
) -> tuple[list[Header], list[Header]]:
    """Return the headers of an upstream's 101 (names in lower case), and its choice among them.

    The choice is the sub-protocol, one of those that the client offered, so there is nothing in it
    to keep from the client. One that the client did not offer was settled between the application's
    configured offer and the upstream, and is left out: the client would have to give up the
    connection, and it may be a token. Raises ValueError, saying why, for an answer that is none to
    this handshake (section 4.1).
    """
    if _options(headers, b"upgrade") != [b"websocket"]:
        raise ValueError("its Upgrade is not websocket")
    if b"upgrade" not in _options(headers, b"connection"):
        raise ValueError("its Connection does not name Upgrade")
    if _values(headers, b"sec-websocket-accept") != [accept_value(handshake.key)]:
        raise ValueError("its Sec-WebSocket-Accept does not belong to the key")
    chosen = [value for value in _values(headers, _PROTOCOL) if value in handshake.protocols]
    others = [header for header in headers if header[0] != _PROTOCOL]
    return others, [(_PROTOCOL, value) for value in chosen]


def _invalid(why: str) -> Refusal:
    return Refusal("upgrade-invalid", f"The WebSocket handshake is not valid: {why}.")


def _values(headers: Sequence[Header], name: bytes) -> list[bytes]:
    return [value.strip(b" \t") for key, value in headers if key == name]


def _list(headers: Sequence[Header], name: bytes) -> list[bytes]:
    items = b",".join(_values(headers, name)).split(b",")
    return [item for item in (each.strip(b" \t") for each in items) if item]


def _options(headers: Sequence[Header], name: bytes) -> list[bytes]:
    return [item.lower() for item in _list(headers, name)]


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False
