"""The load generator where a tool won't do: one thread, one epoll, no framework.

`ClosedLoop` keeps a number of requests in flight and times each one's first byte. Closed loop
means that a connection asks again as soon as its answer is whole, so beyond what the subject can
serve the time to first byte is time spent in its queue.
"""

from __future__ import annotations

import contextlib
import gc
import re
import select
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from bench.site import Request

__all__ = [
    "ClosedLoop",
    "Connections",
    "Load",
    "LoadError",
    "Window",
    "answer_end",
    "connect",
    "fetch",
    "no_garbage",
]

PATIENCE_SECONDS = 15.0
_READ_BYTES = 65536
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class LoadError(Exception):
    """The subject gave something else than the expected answer, or none."""


@dataclass(slots=True)
class Load:
    """What a closed loop saw: times to first byte in milliseconds, and its rate."""

    first_byte_ms: list[float] = field(default_factory=list)
    requests: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


@dataclass(slots=True)
class Window:
    """What came in a span of time: how late each thing was, and how long the span."""

    latencies_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0


class Connections:
    """Connections for one request, read by one thread; closed at the end of a `with`."""

    def __init__(self, request: Request, context: ssl.SSLContext) -> None:
        self._request = request
        self._context = context
        self._epoll = select.epoll()
        self._socks: dict[int, socket.socket] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._epoll.close()
        for sock in self._socks.values():
            sock.close()


@contextlib.contextmanager
def no_garbage() -> Iterator[None]:
    """Keep the garbage collector out of a measurement."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def connect(request: Request, context: ssl.SSLContext) -> socket.socket:
    """Return a blocking connection to where the request goes; raise OSError."""
    sock = socket.create_connection(("127.0.0.1", request.port), PATIENCE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if request.tls:
        return context.wrap_socket(sock, server_hostname="localhost")
    return sock


def answer_end(data: bytes) -> int | None:
    """Return the length of the small answer at the start of `data`, None while incomplete.

    Raises LoadError for a status other than 200 and for an answer without a length.
    """
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    if data[8:13] != b" 200 ":
        raise LoadError(f"answered {data[:head_end].splitlines()[0].decode('latin-1')!r}")
    if length := _CONTENT_LENGTH.search(data, 0, head_end):
        end = head_end + 4 + int(length[1])
        return end if len(data) >= end else None
    if _CHUNKED.search(data, 0, head_end):
        last = data.find(b"\r\n0\r\n\r\n", head_end + 2)
        return None if last < 0 else last + 7
    raise LoadError("answered without Content-Length or chunks")


def fetch(request: Request, context: ssl.SSLContext) -> bytes:
    """Send one request and return the body of its answer; raise LoadError unless it is a 200."""
    with connect(request, context) as sock:
        sock.sendall(request.head())
        data = b""
        while True:
            part = sock.recv(_READ_BYTES)
            data += part
            if (end := answer_end(data)) is not None:
                return data[data.find(b"\r\n\r\n") + 4 : end]
            if not part:
                raise LoadError("closed before its answer was whole")


class _Exchange:
    """One connection and the request in flight on it."""

    __slots__ = ("awaiting", "buffer", "connecting", "sock", "started")

    def __init__(self, sock: socket.socket, *, connecting: bool) -> None:
        self.sock = sock
        self.connecting = connecting
        self.started = 0
        self.awaiting = False
        self.buffer = b""


class ClosedLoop:
    """`concurrency` requests in flight at once, over kept or over fresh connections.

    The time to first byte of a kept connection runs from handing the request to the kernel, that
    of a fresh one from before its connect (TLS handshake included where the client speaks TLS).
    """

    def __init__(
        self, request: Request, context: ssl.SSLContext, *, concurrency: int, fresh: bool
    ) -> None:
        self._request = request
        self._head = request.head()
        self._context = context
        self._fresh = fresh
        self._concurrency = concurrency
        self._epoll = select.epoll()
        self._exchanges: dict[int, _Exchange] = {}
        self._sources = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for exchange in list(self._exchanges.values()):
            self._discard(exchange)
        self._epoll.close()

    def run(self, *, requests: int, seconds: float) -> Load:
        """Run until so many answers or so much time; raise LoadError.

        The first `concurrency` answers, which pay for connections and caches, are not counted.
        """
        load = Load()
        for _ in range(self._concurrency):
            if self._fresh:
                self._open()
            else:
                self._keep()
        warm = self._concurrency
        began = time.perf_counter()
        deadline = began + seconds
        with no_garbage():
            while load.requests < requests and time.perf_counter() < deadline:
                for first_byte_ns in self._turn():
                    if warm:
                        warm -= 1
                        began = time.perf_counter()
                        deadline = began + seconds
                        continue
                    load.requests += 1
                    load.first_byte_ms.append(first_byte_ns / 1e6)
        load.seconds = time.perf_counter() - began
        if not load.requests:
            raise LoadError("too slow: no answer within the time given")
        return load

    def _turn(self) -> Iterator[int]:
        ready = self._epoll.poll(PATIENCE_SECONDS)
        if not ready:
            raise LoadError(f"no answer within {PATIENCE_SECONDS:.0f} seconds")
        for fd, _ in ready:
            exchange = self._exchanges[fd]
            try:
                if exchange.connecting:
                    self._establish(exchange)
                    continue
                first_byte_ns = self._receive(exchange)
            except _WOULD_BLOCK:
                continue
            except OSError as error:
                raise LoadError(f"connection lost: {error}") from error
            if first_byte_ns is None:
                continue
            if self._fresh:
                self._discard(exchange)
                self._open()
            else:
                self._ask(exchange)
            yield first_byte_ns

    def _ask(self, exchange: _Exchange) -> None:
        exchange.buffer = b""
        exchange.awaiting = True
        if not self._fresh:
            exchange.started = time.perf_counter_ns()
        exchange.sock.send(self._head)

    def _receive(self, exchange: _Exchange) -> int | None:
        data = exchange.sock.recv(_READ_BYTES)
        if exchange.awaiting:
            exchange.awaiting = False
            exchange.started = time.perf_counter_ns() - exchange.started
        if not data:
            raise LoadError("closed before its answer was whole")
        exchange.buffer += data
        return exchange.started if answer_end(exchange.buffer) is not None else None

    def _keep(self) -> None:
        sock = connect(self._request, self._context)
        sock.setblocking(False)
        exchange = self._exchanges[sock.fileno()] = _Exchange(sock, connecting=False)
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._ask(exchange)

    def _open(self) -> None:
        started = time.perf_counter_ns()
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Closed connections linger; many source addresses have ports enough for all of them.
        self._sources += 1
        sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        sock.bind((f"127.0.0.{2 + self._sources % 250}", 0))
        with contextlib.suppress(BlockingIOError):
            sock.connect(("127.0.0.1", self._request.port))
        if self._request.tls:
            sock = self._context.wrap_socket(
                sock, server_hostname="localhost", do_handshake_on_connect=False
            )
        exchange = self._exchanges[sock.fileno()] = _Exchange(sock, connecting=True)
        exchange.started = started
        self._epoll.register(sock.fileno(), select.EPOLLOUT)

    def _establish(self, exchange: _Exchange) -> None:
        fd = exchange.sock.fileno()
        if isinstance(exchange.sock, ssl.SSLSocket):
            try:
                exchange.sock.do_handshake()
            except ssl.SSLWantReadError:
                self._epoll.modify(fd, select.EPOLLIN)
                return
        exchange.connecting = False
        self._epoll.modify(fd, select.EPOLLIN)
        self._ask(exchange)

    def _discard(self, exchange: _Exchange) -> None:
        fd = exchange.sock.fileno()
        del self._exchanges[fd]
        self._epoll.unregister(fd)
        exchange.sock.close()
