"""A flow: the bytes of one body on their way from one socket to another.

The pump moves flows; this is what it moves. Memory is what counts here, since there are thousands:
a flow has no task, no scope and no buffer of its own, only the rest that a sink did not take.
"""

import math
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import trio

from swproxy.http.framing import Body
from swproxy.net.failure import DownstreamGone
from swproxy.net.stream import unsent_bytes
from swproxy.net.tls import BLOCKED, take_failure

__all__ = ["BUFFER_SIZE", "EVENT_BYTES", "RECORD_SIZE", "Endpoint", "Flow", "Heartbeat"]

EVENT_BYTES = 4096
"""More than an event of a token stream has."""

BUFFER_SIZE = 131072
"""Bytes received at once: eight TLS records, and few enough that a stalled client holds little."""

RECORD_SIZE = 16384
"""The most that a TLS record holds (RFC 8446 section 5.1)."""


STEP_SECONDS = 20.0
STEP_FACTOR = 6
"""What an application reads, its kernel tells only in steps: when a part of its receive buffer is
free again, or a segment of up to 64 KiB is used up. In between, one that reads and one that hangs
look the same. Over loopback, steps are up to 128 KiB, or 16 s apart at 8 KB/s; so however short
`write_seconds` is, that long is waited for one, but no longer than six times as long as said."""


class Endpoint:
    """A socket that the pump watches, and the flows that end or begin at it."""

    __slots__ = ("gone", "interest", "on_gone", "reader", "sock", "writer")

    def __init__(self, sock: socket.socket, interest: int) -> None:
        self.sock = sock
        self.interest = interest
        self.gone = False
        self.on_gone: Callable[[], None] | None = None
        self.reader: Flow | None = None
        self.writer: Flow | None = None


@dataclass(slots=True)
class Heartbeat:
    """What a flow sends of its own when its source has been silent for `seconds`.

    `ready` tells whether it may stand where the flow is now.
    """

    seconds: float
    data: bytes
    ready: Callable[[], bool]
    beaten: float = 0.0
    """when it was last sent"""


class Flow:
    """Bytes on their way from one socket to another, followed by the framing of their body.

    `idle_seconds` bounds the time between bytes of the source, `write_seconds` the time that the
    sink takes none (see `stalled`). `received` counts the bytes that the pump has read, `sent`
    those that the sink has taken, whatever was pushed ahead of them (an answer's head, and what
    came with it) included; `pending` is what was received and not yet taken. A flow in which
    `urgent_bytes` arrive at once is not kept waiting for others. At most `read_bytes` are received
    at once: BUFFER_SIZE, or less where it takes long to follow the body, but never less than a TLS
    record. When the clock is at `ends_at`, it is over, whatever moves.
    """

    __slots__ = (
        "_unsent",
        "body",
        "ends_at",
        "error",
        "heartbeat",
        "idle_seconds",
        "moved",
        "pending",
        "read_bytes",
        "received",
        "sent",
        "sink",
        "source",
        "task",
        "urgent_bytes",
        "write_seconds",
    )

    def __init__(
        self,
        source: socket.socket,
        sink: Endpoint,
        body: Body,
        *,
        idle_seconds: float = math.inf,
        write_seconds: float = math.inf,
        ends_at: float = math.inf,
        urgent_bytes: int = EVENT_BYTES,
        heartbeat: Heartbeat | None = None,
        read_bytes: int = BUFFER_SIZE,
    ) -> None:
        self.source = Endpoint(source, 0)
        self.sink = sink
        self.body = body
        self.idle_seconds = idle_seconds
        self.write_seconds = write_seconds
        self.ends_at = ends_at
        self.urgent_bytes = urgent_bytes
        self.heartbeat = heartbeat
        self.read_bytes = read_bytes
        self.pending: bytes | memoryview = b""
        self.received = 0
        self.sent = 0
        self.moved = 0.0
        self._unsent = 0
        self.task: trio.lowlevel.Task | None = None
        self.error: Exception | None = None

    def __repr__(self) -> str:
        return (
            f"<Flow {self.source.sock.fileno()} -> {self.sink.sock.fileno()}: received"
            f" {self.received}, sent {self.sent}, pending {len(self.pending)}, {self.error!r}>"
        )

    @property
    def finished(self) -> bool:
        """Tell whether the last byte of the body has been handed to the kernel."""
        return self.body.ended and not self.pending

    def push(self, data: bytes | memoryview) -> None:
        """Send `data`, keeping in `pending` what the kernel does not take at once.

        Raises DownstreamGone when the sink is closed.
        """
        sink = self.sink.sock
        size = len(data)
        try:
            sent = sink.send(data)
            while sent < size and isinstance(sink, ssl.SSLSocket):
                # OpenSSL takes a record at a time; short means full only when it says so.
                data = memoryview(data)[sent:]
                self.sent += sent
                size -= sent
                sent = sink.send(data)
        except BLOCKED:
            sent = 0
        except OSError as error:
            take_failure(sink)
            raise DownstreamGone from error
        self.sent += sent
        self.pending = b"" if sent == size else bytes(memoryview(data)[sent:])

    def stalled(self, now: float) -> bool:
        """Tell whether the sink has taken nothing for too long; to be asked now and then.

        That the kernel takes nothing is no sign of it: it reports room only when a third of its
        buffer is free, megabytes that a slow reader needs minutes for.
        """
        unsent = unsent_bytes(self.sink.sock)
        if unsent < self._unsent:
            self.moved = now
        self._unsent = unsent
        patience = max(self.write_seconds, min(STEP_SECONDS, STEP_FACTOR * self.write_seconds))
        return now - self.moved > patience
