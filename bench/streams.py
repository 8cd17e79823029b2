"""Many open streams read by one thread, and the delay of every event on its way here."""

from __future__ import annotations

import select
import socket
import ssl
import time

from bench.client import Connections, LoadError, Window, connect
from bench.upstream import STAMP

__all__ = ["Streams"]

_WAVE = 32  # streams opened at once
_READ_BYTES = 65536


class Streams(Connections):
    """Streams of one kind; open them, watch them, close them."""

    def __len__(self) -> int:
        return len(self._socks)

    def open(self, total: int, *, seconds: float, read: bool = True) -> None:
        """Open streams until there are `total`; raise LoadError when that takes too long.

        With `read` each stream's first event is awaited; without, nothing is ever read.
        """
        deadline = time.monotonic() + seconds
        head = self._request.head()
        while len(self._socks) < total:
            if time.monotonic() > deadline:
                raise LoadError(
                    f"only {len(self._socks)} of {total} streams open after {seconds:.0f} seconds"
                )
            wave = []
            try:
                for _ in range(min(_WAVE, total - len(self._socks))):
                    sock = connect(self._request, self._context)
                    wave.append(sock)
                    sock.sendall(head)
                for sock in wave:
                    if read:
                        _await_event(sock)
            except OSError as error:
                for sock in wave:
                    sock.close()
                raise LoadError(
                    f"stream {len(self._socks) + len(wave)} of {total}: {error}"
                ) from error
            for sock in wave:
                sock.setblocking(False)
                self._socks[sock.fileno()] = sock
                if read:
                    self._epoll.register(sock.fileno(), select.EPOLLIN)

    def watch(self, seconds: float) -> Window:
        """Read for so long; raise LoadError if a stream ends."""
        result = Window()
        delays = result.latencies_ms
        began = now = time.monotonic_ns()
        end = began + int(seconds * 1e9)
        while now < end:
            for fd, _ in self._epoll.poll((end - now) / 1e9):
                for data, at in self._read(self._socks[fd]):
                    # An event torn by two reads is not timed; whole ones are the rule.
                    delays.extend((at - int(stamp)) / 1e6 for stamp in STAMP.findall(data))
            now = time.monotonic_ns()
        result.seconds = (now - began) / 1e9
        return result

    def _read(self, sock: socket.socket) -> list[tuple[bytes, int]]:
        parts: list[tuple[bytes, int]] = []
        while True:
            try:
                data = sock.recv(_READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                return parts
            except OSError as error:
                raise LoadError(f"a stream was cut: {error}") from error
            if not data:
                raise LoadError("a stream ended")
            parts.append((data, time.monotonic_ns()))
            if not isinstance(sock, ssl.SSLSocket) or not sock.pending():
                return parts


def _await_event(sock: socket.socket) -> None:
    data = b""
    while not STAMP.search(data):
        part = sock.recv(_READ_BYTES)
        if not part:
            raise ConnectionResetError("closed before its first event")
        data += part
        if len(data) > 12 and data[9:12] != b"200":
            raise ConnectionRefusedError(data.splitlines()[0].decode("latin-1"))
