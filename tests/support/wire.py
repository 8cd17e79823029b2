"""One end of the wire: a raw connection, what may be seen on it, and the tests' certificates.

All of it runs over real loopback sockets in the test's own event loop.
"""

import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import trio
import trustme

APP_ID = "test-app"
SECRET = "canary-signing-secret-4f1c"
API_KEY = "canary-api-key-93ab"
PATIENCE = 10.0
"""Seconds after which a test that waits for bytes gives up; never what a test asserts."""


@cache
def authority() -> trustme.CA:
    """Return the certificate authority of all tests."""
    return trustme.CA()


@cache
def server_context() -> ssl.SSLContext:
    """Return a TLS context for localhost and 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("localhost", "127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


class End:
    """One end of a connection: whole heads and exact counts on top of a trio stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.received = bytearray()
        self._taken = 0

    async def send(self, data: bytes) -> None:
        with trio.fail_after(PATIENCE):
            await self.stream.send_all(data)

    async def _more(self) -> bool:
        with trio.fail_after(PATIENCE):
            data = await self.stream.receive_some(65536)
        self.received += data
        return bool(data)

    async def read_until(self, mark: bytes) -> bytes:
        """Return bytes up to and including `mark`; EOFError if the stream ends before."""
        while (at := self.received.find(mark, self._taken)) < 0:
            if not await self._more():
                raise EOFError(bytes(self.received[self._taken :]))
        start, self._taken = self._taken, at + len(mark)
        return bytes(self.received[start : self._taken])

    async def read_exactly(self, count: int) -> bytes:
        """Return `count` bytes; EOFError if the stream ends before."""
        while len(self.received) - self._taken < count:
            if not await self._more():
                raise EOFError(bytes(self.received[self._taken :]))
        start, self._taken = self._taken, self._taken + count
        return bytes(self.received[start : self._taken])

    async def read_head(self) -> bytes:
        """Return a message head, the empty line included."""
        return await self.read_until(b"\r\n\r\n")

    async def read_to_end(self) -> bytes:
        """Return what is left until a clean end; trio.BrokenResourceError on a reset."""
        while await self._more():
            pass
        start, self._taken = self._taken, len(self.received)
        return bytes(self.received[start:])

    async def read_response(self, *, head_only: bool = False) -> "Response":
        """Return one whole response, by its own framing."""
        head = await self.read_head()
        response = Response.parse(head)
        if head_only or response.status in (204, 304):
            return response
        if "content-length" in response.headers:
            body = await self.read_exactly(int(response.headers["content-length"]))
        elif response.headers.get("transfer-encoding") == "chunked":
            body = await self._read_chunks()
        else:
            body = await self.read_to_end()
        return replace(response, body=body)

    async def _read_chunks(self) -> bytes:
        body = b""
        while size := int((await self.read_until(b"\r\n")).split(b";")[0], 16):
            body += await self.read_exactly(size)
            assert await self.read_exactly(2) == b"\r\n"
        while await self.read_until(b"\r\n") != b"\r\n":
            pass
        return body

    async def read_request(self) -> tuple[bytes, bytes]:
        """Return head and body of one request; EOFError if the stream ends before."""
        head = await self.read_head()
        lowered = head.lower()
        if b"\r\ntransfer-encoding: chunked\r\n" in lowered:
            return head, await self._read_chunks()
        _, found, rest = lowered.partition(b"\r\ncontent-length: ")
        length = int(rest.split(b"\r\n")[0]) if found else 0
        return head, await self.read_exactly(length)

    def forget(self) -> None:
        """Drop what was received and taken: for traffic without end."""
        del self.received[: self._taken]
        self._taken = 0

    async def wait_closed(self) -> str:
        """Wait until the peer is gone; return "closed" or "reset"."""
        try:
            while await self._more():
                pass
        except trio.BrokenResourceError:
            return "reset"
        return "closed"

    @property
    def socket(self) -> Any:
        """The trio socket at the bottom."""
        stream: Any = self.stream
        while isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        return stream.socket

    def half_close(self) -> None:
        """End our sending side only."""
        self.socket.shutdown(socket.SHUT_WR)

    async def reset(self) -> None:
        """Close with a reset, as a process that dies does with unread bytes."""
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await self.aclose()

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self.stream)


@dataclass(frozen=True)
class Response:
    """A response as a client sees it; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    raw: bytes
    body: bytes = b""

    @classmethod
    def parse(cls, head: bytes) -> "Response":
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        pairs = [line.split(":", 1) for line in lines]
        headers = {name.lower(): value.strip() for name, value in pairs}
        return cls(int(first.split(" ")[1]), headers, head)


def client_context() -> ssl.SSLContext:
    """Return a TLS context that trusts the tests' authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    return context


SECRETS = (SECRET, API_KEY)
"""What nobody but the upstream may see, and of the upstream only the second."""


def reveals(data: bytes, *, signatures: Iterator[str] | Sequence[str] = ()) -> list[str]:
    """Return the secrets in `data`."""
    return [secret for secret in (*SECRETS, *signatures) if secret.encode() in data]


def open_descriptors(pid: int | str = "self") -> int:
    """Return how many descriptors a process has open, this one if none is given."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
