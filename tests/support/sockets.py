"""WebSockets byte by byte, for tests that look at the wire: a handshake, frames, an upstream."""

import base64
import re
from collections.abc import Awaitable, Callable

from swproxy.http.websocket import accept_value
from tests.support.proxy import Proxy
from tests.support.upstream import Handler
from tests.support.wire import End, Response

KEY = base64.b64encode(b"sixteen bytes ok")
LINES = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\n"
)
CLOSE = b"\x88\x02\x03\xe8"
MASK = b"mask"

_KEY_LINE = re.compile(rb"\r\nsec-websocket-key: ([^\r]*)", re.IGNORECASE)


def frame(payload: bytes, *, opcode: int = 1, final: bool = True, masked: bool = False) -> bytes:
    """Return one frame."""
    size = len(payload)
    if size < 126:
        length = bytes((size,))
    elif size < 65536:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    first = bytes((opcode | (0x80 if final else 0),))
    if not masked:
        return first + length + payload
    key = MASK * (size // 4 + 1)
    hidden = bytes(a ^ b for a, b in zip(payload, key, strict=False))
    return first + bytes((length[0] | 0x80,)) + length[1:] + MASK + hidden


def unmasked(data: bytes) -> tuple[int, bytes]:
    """Return opcode and payload of one short masked frame."""
    size = data[1] & 0x7F
    assert data[1] & 0x80
    assert len(data) == 6 + size
    return data[0] & 0x0F, bytes(a ^ data[2 + i % 4] for i, a in enumerate(data[6:]))


def switching(
    then: Callable[[End], Awaitable[None]] | None = None,
    *,
    answer: bytes = b"",
    behind: bytes = b"",
    request: bytes | None = None,
) -> Handler:
    """Return an upstream that accepts a handshake and goes on with `then`, or waits for the end.

    `answer` is more header lines, `behind` leaves in one write with the head, `request` is the head
    of the request if it has been read already. A request without a key gets KEY's answer.
    """

    async def serve(end: End) -> None:
        head = request or await end.read_head()
        found = _KEY_LINE.search(head)
        asked = found[1] if found else KEY
        await end.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_value(asked) + b"\r\n" + answer + b"\r\n" + behind
        )
        await (then(end) if then else end.wait_closed())

    return serve


async def ask(
    client: End, swproxy: Proxy, url: str, headers: bytes = LINES, *, behind: bytes = b""
) -> Response:
    """Send a signed handshake and `behind` in one write; return a 101's head, or an answer."""
    await client.send(swproxy.request(url, headers=headers) + behind)
    head = await client.read_head()
    response = Response.parse(head)
    if response.status == 101:
        return response
    length = int(response.headers["content-length"])
    body = await client.read_exactly(length)
    return Response(response.status, response.headers, head, body)
