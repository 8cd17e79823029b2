"""The upstream behind every subject: one process, one epoll loop, http and https at once.

It must cost so little that it never is what a figure shows, so it parses no more than it has to
(it is only ever asked by proxies under test, well-formed), keeps ready-made answers, and sends
events straight from a timer loop. Its ceiling is what `direct` shows.

    /small                  2 bytes
    /key                    "yes" if the request carried the API key, else "no"
    /bytes/N                N bytes, as fast as they are taken
    /sink                   reads a body of any Content-Length, then 2 bytes
    /idle                   one event, then silence
    /sse/MS/PHASES          one event every MS milliseconds; the streams are dealt out to PHASES
                            groups whose turns are spread over the interval (1: all in step)
    /echo                   a WebSocket: a FRAME_DOWN for each FRAME_UP
    /stats                  the counters of `Stats` as JSON

Each event is 150 bytes and carries the CLOCK_MONOTONIC time at which it was handed to the kernel.
"""

from __future__ import annotations

import argparse
import base64
import gc
import hashlib
import heapq
import json
import os
import re
import select
import socket
import ssl
import sys
import time
from dataclasses import asdict, dataclass, field

from swproxy.net.tls import clear_errors

__all__ = [
    "API_KEY",
    "EVENT_BYTES",
    "FRAME_DOWN",
    "FRAME_UP",
    "STAMP",
    "Upstream",
    "event",
    "switching",
]

API_KEY = "Bearer bench-api-key"
EVENT_BYTES = 150
STAMP = re.compile(rb"t=(\d{20});")

FRAME_DOWN = b"\x82\x7e\x00\x96" + bytes(150)
FRAME_UP = b"\x82\xfe\x00\x96" + bytes(4) + bytes(150)
"""A WebSocket message of 150 bytes from either end; the client's is masked, with zeros."""

_READ_BYTES = 256 * 1024
_BLOCK = memoryview(bytes(range(256)) * 4096)  # 1 MiB, what /bytes is made of
_TURN_BYTES = 4 * 1024 * 1024  # then others get their turn
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_PAD = b"x" * (EVENT_BYTES - len(b"data: t=;\n\n") - 20)
_WEBSOCKET_KEY = re.compile(rb"\r\nsec-websocket-key: *([^\r]+)", re.IGNORECASE)
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def event(now_ns: int) -> bytes:
    """Return one server-sent event of EVENT_BYTES, framed as one chunk."""
    return b"96\r\ndata: t=%020d;%b\n\n\r\n" % (now_ns, _PAD)


def answer(body: bytes, content_type: bytes = b"text/plain") -> bytes:
    """Return a whole response."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        content_type,
        len(body),
        body,
    )


def switching(head: bytes) -> bytes:
    """Return the answer that makes a request with this head a WebSocket (RFC 6455 4.2.2)."""
    found = _WEBSOCKET_KEY.search(head)
    if found is None:
        return _NOT_FOUND
    digest = hashlib.sha1(found[1] + _WEBSOCKET_GUID, usedforsecurity=False).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % base64.b64encode(digest)
    )


_SMALL = answer(b"ok")
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


@dataclass(slots=True)
class Stats:
    """What was done since the start."""

    requests: int = 0
    chunks: int = 0
    skipped: int = 0  # events not sent because the stream's last one had not been taken yet
    sent: int = 0  # bytes of /bytes bodies that the kernel took
    open: int = 0  # connections


class _Connection:
    """One client connection and what is still to be done on it."""

    __slots__ = ("armed", "echo", "fill", "inbox", "outbox", "ready", "sink", "sock", "tls")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self.ready = self.tls is None
        self.inbox = b""
        self.outbox = b""
        self.fill = 0
        self.sink = 0
        self.echo = False
        self.armed = select.EPOLLIN


@dataclass(slots=True, order=True)
class _Beat:
    """The streams that get their events at the same moments."""

    due_ns: int
    number: int
    interval_ns: int = field(compare=False)
    key: tuple[int, int, int] = field(compare=False)
    members: list[_Connection] = field(compare=False, default_factory=list)


class Upstream:
    """The server; `serve` runs until `end` is called, from whatever thread."""

    def __init__(self, listeners: list[tuple[socket.socket, ssl.SSLContext | None]]) -> None:
        self.stats = Stats()
        self._epoll = select.epoll()
        self._listeners = {sock.fileno(): (sock, context) for sock, context in listeners}
        for fd, (sock, _) in self._listeners.items():
            sock.setblocking(False)
            self._epoll.register(fd, select.EPOLLIN)
        self._ending = os.eventfd(0)
        self._epoll.register(self._ending, select.EPOLLIN)
        self._connections: dict[int, _Connection] = {}
        self._beats: dict[tuple[int, int, int], _Beat] = {}
        self._due: list[_Beat] = []
        self._joined: dict[tuple[int, int], int] = {}

    def end(self) -> None:
        """Make `serve` close everything and return."""
        os.eventfd_write(self._ending, 1)

    def serve(self) -> None:
        """Serve until ended."""
        try:
            self._loop()
        finally:
            for connection in list(self._connections.values()):
                self._drop(connection)
            for listener, _ in self._listeners.values():
                listener.close()
            self._epoll.close()
            os.close(self._ending)

    def _loop(self) -> None:
        fd = self._epoll.fileno()
        while True:
            patience: int | None = None
            if self._due:
                # epoll rounds a timeout up to a millisecond, which would bunch the beats together.
                wait = (self._due[0].due_ns - time.monotonic_ns()) / 1e9
                if wait > 0:
                    select.select([fd], [], [], wait)
                patience = 0
            for ready, events in self._epoll.poll(patience):
                if ready in self._listeners:
                    self._accept(*self._listeners[ready])
                    continue
                if ready == self._ending:
                    return
                self._move(self._connections[ready], events)
            self._beat()

    def _accept(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        for _ in range(64):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            self._connections[sock.fileno()] = _Connection(sock)
            self.stats.open += 1
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _move(self, connection: _Connection, events: int) -> None:
        try:
            if not connection.ready:
                assert connection.tls is not None
                connection.tls.do_handshake()
                connection.ready = True
            if events & select.EPOLLOUT:
                self._write(connection)
            if events & ~select.EPOLLOUT:
                self._read(connection)
        except _WOULD_BLOCK:
            return
        except OSError:
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        self.stats.open -= 1
        fd = connection.sock.fileno()
        del self._connections[fd]
        self._epoll.unregister(fd)
        connection.sock.close()
        clear_errors()  # or what it has died of would end others

    def _read(self, connection: _Connection) -> None:
        while True:
            data = connection.sock.recv(_READ_BYTES)
            if not data:
                raise ConnectionResetError
            if connection.sink:
                connection.sink -= len(data)
                if connection.sink <= 0:
                    connection.sink = 0
                    self._send(connection, _SMALL)
            elif connection.echo:
                connection.inbox += data
                count, rest = divmod(len(connection.inbox), len(FRAME_UP))
                connection.inbox = connection.inbox[len(connection.inbox) - rest :]
                self._send(connection, FRAME_DOWN * count)
            else:
                connection.inbox += data
                self._serve_heads(connection)
            if connection.tls is None or not connection.tls.pending():
                return

    def _serve_heads(self, connection: _Connection) -> None:
        while True:
            head, found, rest = connection.inbox.partition(b"\r\n\r\n")
            if not found:
                return
            connection.inbox = rest
            self.stats.requests += 1
            path = head.split(b" ", 2)[1].partition(b"?")[0]
            if path == b"/small":
                self._send(connection, _SMALL)
            else:
                self._respond(connection, path, head)

    def _respond(self, connection: _Connection, path: bytes, head: bytes) -> None:
        match path.split(b"/")[1:]:
            case [b"key"]:
                carried = b"\r\nauthorization: " + API_KEY.encode().lower() in head.lower()
                self._send(connection, answer(b"yes" if carried else b"no"))
            case [b"bytes", count]:
                connection.fill = int(count)
                connection.outbox = (
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                    b"Content-Length: %d\r\n\r\n" % connection.fill
                )
                self._write(connection)
            case [b"sink"]:
                length = _CONTENT_LENGTH.search(head)
                connection.sink = int(length[1]) if length else 0
                connection.sink -= len(connection.inbox)
                connection.inbox = b""
                if connection.sink <= 0:
                    connection.sink = 0
                    self._send(connection, _SMALL)
            case [b"idle"]:
                self._send(connection, _STREAM_HEAD + event(time.monotonic_ns()))
            case [b"sse", interval, phases]:
                self._send(connection, _STREAM_HEAD + event(time.monotonic_ns()))
                self._join(connection, int(interval) * 1_000_000, int(phases))
            case [b"echo"]:
                answered = switching(head)
                connection.echo = answered is not _NOT_FOUND
                self._send(connection, answered)
            case [b"stats"]:
                body = json.dumps(asdict(self.stats)).encode()
                self._send(connection, answer(body, b"application/json"))
            case _:
                self._send(connection, _NOT_FOUND)

    def _send(self, connection: _Connection, data: bytes) -> None:
        try:
            sent = connection.sock.send(data)
        except _WOULD_BLOCK:
            sent = 0
        if sent < len(data):
            connection.outbox += data[sent:]
            self._arm(connection, select.EPOLLIN | select.EPOLLOUT)

    def _write(self, connection: _Connection) -> None:
        sock = connection.sock
        turn = _TURN_BYTES
        try:
            while connection.outbox:
                connection.outbox = connection.outbox[sock.send(connection.outbox) :]
            while connection.fill and turn > 0:
                sent = sock.send(_BLOCK[: min(len(_BLOCK), connection.fill)])
                connection.fill -= sent
                self.stats.sent += sent
                turn -= sent
        except _WOULD_BLOCK:
            pass
        more = connection.outbox or connection.fill
        self._arm(connection, select.EPOLLIN | (select.EPOLLOUT if more else 0))

    def _arm(self, connection: _Connection, events: int) -> None:
        if connection.armed != events:
            connection.armed = events
            self._epoll.modify(connection.sock.fileno(), events)

    def _join(self, connection: _Connection, interval_ns: int, phases: int) -> None:
        count = self._joined.get((interval_ns, phases), 0)
        self._joined[interval_ns, phases] = count + 1
        phase = count % phases
        key = (interval_ns, phases, phase)
        beat = self._beats.get(key)
        if beat is None:
            start = (time.monotonic_ns() // interval_ns + 1) * interval_ns
            due = start + interval_ns * phase // phases
            beat = self._beats[key] = _Beat(due, len(self._beats), interval_ns, key)
            heapq.heappush(self._due, beat)
        beat.members.append(connection)

    def _beat(self) -> None:
        now = time.monotonic_ns()
        while self._due and self._due[0].due_ns <= now:
            beat = heapq.heappop(self._due)
            beat.members = [member for member in beat.members if member.sock.fileno() >= 0]
            if not beat.members:
                del self._beats[beat.key]
                continue
            for member in beat.members:
                self._send_event(member)
            # A late beat is not made up for: that would send several events at once.
            beat.due_ns += beat.interval_ns * max(1, -(-(now - beat.due_ns) // beat.interval_ns))
            heapq.heappush(self._due, beat)

    def _send_event(self, connection: _Connection) -> None:
        if connection.outbox:
            self.stats.skipped += 1
            return
        try:
            self._send(connection, event(time.monotonic_ns()))
        except OSError:
            self._drop(connection)
        else:
            self.stats.chunks += 1


def main() -> None:
    """Listen on two free ports of 127.0.0.1, print them as JSON, and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    options = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate, options.key)
    plain = socket.create_server(("127.0.0.1", 0), backlog=4096)
    secure = socket.create_server(("127.0.0.1", 0), backlog=4096)
    ports = {"http": plain.getsockname()[1], "https": secure.getsockname()[1]}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    gc.freeze()
    Upstream([(plain, None), (secure, context)]).serve()


if __name__ == "__main__":
    main()
