"""The stand-in for a realtime API: a WebSocket on which it repeats, token by token, what it hears.

The protocol is a small version of OpenAI's: the caller sends `response.create` with a text, and
gets `response.output_text.delta` for each token, then `response.done`. A caller may go on with
another text, and may leave at any time.

This is the server's side of RFC 6455 as far as a browser behind swproxy needs it: text messages,
fragments, pings, the closing handshake. Like all of the demo's parties it is no example of how to
face the internet.
"""

import base64
import hashlib
import json
from collections.abc import Awaitable, Callable

import trio

from swproxy.demo.answers import tokens
from swproxy.demo.web import Exchange

__all__ = ["Closed", "Socket", "accept", "converse"]

MESSAGE_BYTES = 1 << 16
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _CLOSE, _PING = 0x0, 0x1, 0x8, 0x9


class Closed(Exception):  # noqa: N818 - that it is closed is no error
    """The other side has ended the WebSocket, or broken its rules."""


class Socket:
    """The server's end of a WebSocket."""

    def __init__(self, stream: trio.abc.Stream, received: bytes) -> None:
        self._stream = stream
        self._buffer = received
        self._sending = trio.Lock()

    async def send(self, text: str) -> None:
        """Send a text message. Raises trio.BrokenResourceError."""
        await self._send(_TEXT, text.encode())

    async def close(self, code: int) -> None:
        """Say that the conversation is over (section 5.5.1)."""
        await self._send(_CLOSE, code.to_bytes(2, "big"))

    async def receive(self) -> str:
        """Return the next text message. Raises Closed."""
        message = b""
        while True:
            first, payload = await self._receive_frame()
            opcode = first & 0x0F
            if opcode == _PING:
                await self._send(0xA, payload)
            elif opcode == _CLOSE:
                await self._send(_CLOSE, payload[:2])
                raise Closed
            elif opcode in (_TEXT, _CONTINUATION):
                message += payload
                if len(message) > MESSAGE_BYTES:
                    raise Closed
                if first & 0x80:
                    return message.decode(errors="replace")

    async def _receive_frame(self) -> tuple[int, bytes]:
        first, second = await self._take(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await self._take(2 if size == 126 else 8), "big")
        if not second & 0x80 or size > MESSAGE_BYTES:
            raise Closed  # a browser's frames are masked (section 5.1)
        mask = await self._take(4)
        hidden = await self._take(size)
        return first, bytes(byte ^ mask[at % 4] for at, byte in enumerate(hidden))

    async def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            try:
                data = await self._stream.receive_some()
            except trio.BrokenResourceError:
                raise Closed from None
            if not data:
                raise Closed
            self._buffer += bytes(data)
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    async def _send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        length = bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
        async with self._sending:
            await self._stream.send_all(bytes((0x80 | opcode,)) + length + payload)


async def accept(exchange: Exchange) -> Socket | None:
    """Answer a WebSocket's handshake; None for a request that is none."""
    headers = exchange.request.headers
    key = headers.get("sec-websocket-key", "").encode()
    if headers.get("upgrade", "").lower() != "websocket" or not key:
        return None
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    answer = ("Sec-WebSocket-Accept", base64.b64encode(digest).decode())
    return Socket(*await exchange.switch("websocket", [answer]))


async def converse(
    socket: Socket, *, pace: Callable[[], Awaitable[object]], report: Callable[[str], None]
) -> None:
    """Repeat what is heard until the caller leaves; `pace` is awaited after each token."""
    said = 0
    send, heard = trio.open_memory_channel[str](16)

    async def listen() -> None:
        try:
            while True:
                event = json.loads(await socket.receive())
                if event.get("type") == "response.create":
                    await send.send(str(event.get("text", "")))
        except (Closed, ValueError, AttributeError, trio.BrokenResourceError):
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        try:
            async for text in heard:
                for token in tokens(text):
                    delta = {"type": "response.output_text.delta", "delta": token}
                    await socket.send(json.dumps(delta))
                    said += 1
                    await pace()
                await socket.send(json.dumps({"type": "response.done"}))
        except trio.BrokenResourceError:
            nursery.cancel_scope.cancel()
    report(f"realtime: the caller left after I had said {said} tokens")
