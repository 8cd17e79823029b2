"""WebSockets that echo: many tunnels, one message under way on each, read by one thread.

Frames are well-formed, but nobody here masks or parses: with a mask of zeros (allowed, if
pointless) a message's frame is the same bytes every time, so what is measured is the relay.
"""

from __future__ import annotations

import base64
import select
import ssl
import time
from collections.abc import Sequence
from dataclasses import replace

from bench.client import PATIENCE_SECONDS, Connections, LoadError, Window, connect
from bench.site import Request
from bench.upstream import FRAME_DOWN, FRAME_UP

__all__ = ["HANDSHAKE", "Echoes"]

HANDSHAKE = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", base64.b64encode(b"bench bench bench"[:16]).decode()),
)
_READ_BYTES = 65536


class Echoes(Connections):
    """Open tunnels to the echoing upstream."""

    def __init__(self, request: Request, context: ssl.SSLContext) -> None:
        super().__init__(replace(request, headers=(*request.headers, *HANDSHAKE)), context)
        self._missing: dict[int, int] = {}

    def open(self, count: int) -> None:
        """Open so many tunnels; raise LoadError when one is refused."""
        head = self._request.head()
        for number in range(count):
            sock = connect(self._request, self._context)
            self._socks[sock.fileno()] = sock
            try:
                sock.sendall(head)
                answer = b""
                while b"\r\n\r\n" not in answer:
                    part = sock.recv(_READ_BYTES)
                    if not part:
                        raise LoadError("closed without an answer")
                    answer += part
            except OSError as error:
                raise LoadError(f"tunnel {number + 1} of {count}: {error}") from error
            if answer[9:12] != b"101":
                raise LoadError(f"answered {answer.splitlines()[0].decode('latin-1')!r}")
            sock.setblocking(False)
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def talk(self, seconds: float) -> Window:
        """Send a message on each tunnel, and another when its echo is whole, for so long."""
        result = Window()
        began = now = time.perf_counter()
        sent_at = dict.fromkeys(self._socks, began)
        for fd in self._socks:
            self._say(fd)
        while now < began + seconds:
            ready = self._epoll.poll(PATIENCE_SECONDS)
            if not ready:
                raise LoadError(f"no echo within {PATIENCE_SECONDS:.0f} seconds")
            whole = self._hear(ready)
            now = time.perf_counter()
            for fd in whole:
                result.latencies_ms.append(1000 * (now - sent_at[fd]))
                sent_at[fd] = now
                self._say(fd)
        result.seconds = now - began
        self._fall_silent()
        return result

    def _fall_silent(self) -> None:
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while any(self._missing.values()):
            if time.perf_counter() > deadline:
                raise LoadError("the last echoes did not come")
            self._hear(self._epoll.poll(PATIENCE_SECONDS))

    def _say(self, fd: int) -> None:
        self._missing[fd] = len(FRAME_DOWN)
        self._socks[fd].send(FRAME_UP)

    def _hear(self, ready: Sequence[tuple[int, int]]) -> list[int]:
        whole = []
        for fd, _ in ready:
            try:
                data = self._socks[fd].recv(_READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
            except OSError as error:
                raise LoadError(f"a tunnel was cut: {error}") from error
            if not data:
                raise LoadError("a tunnel ended")
            self._missing[fd] -= len(data)
            if self._missing[fd] == 0:
                whole.append(fd)
            elif self._missing[fd] < 0:
                raise LoadError("more came back than was sent")
        return whole
