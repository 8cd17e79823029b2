"""The errors of TLS, which OpenSSL keeps in one queue for all connections of a thread.

Whoever calls OpenSSL has to empty that queue before the next call, for it is how OpenSSL tells
"failed" from "nothing to read yet": a call that finds an old error there says "failed", whatever
connection the error came from. Python empties it after each failure but one. Since version 3.4
OpenSSL files what the operating system said to a write (EPIPE, ECONNRESET) in the queue as well, as
ERR_LIB_SYS, and Python raises it as OSError and leaves it there (CPython issue 148594). So one peer
that goes away makes the next read of any other connection raise BrokenPipeError instead of
SSLWantReadError, again and again until some handshake happens to empty the queue: whole streams are
cut, and idle connections look dead.

Python has no call for ERR_clear_error, but a handshake begins with it. `clear_errors` takes a step
of one that never gets on: a server's, to which no client ever says hello. It is to be called
wherever an operation on a TLS socket has failed in earnest, which is with any OSError that is not
in BLOCKED, before another socket is touched; `take_failure` does so. An operation that succeeds,
or has to wait, leaves nothing in the queue and pays nothing; where the queue was empty, an error
in earnest is the same without it. Once no Python that is supported has that issue, this function
can go.

`trio.SSLStream` leaves nothing behind, since its OpenSSL meets memory only and never the operating
system; but it suffers like any other from what another connection of its thread has left.
"""

import contextlib
import errno
import socket
import ssl
import threading
import weakref

__all__ = ["BLOCKED", "check_end", "clear_errors", "take_failure"]

BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a socket raises, plain or TLS, that can do nothing now."""


class _Unanswered(threading.local):
    """A handshake for each thread, as the queue is each thread's own."""

    def __init__(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.step = context.wrap_bio(
            ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True
        ).do_handshake


_unanswered = _Unanswered()

_failed: weakref.WeakSet[ssl.SSLSocket] = weakref.WeakSet()
"""Connections on which an operation has failed in earnest."""


def clear_errors() -> None:
    """Empty this thread's queue of OpenSSL's errors; never fails, takes 1.5 microseconds."""
    with contextlib.suppress(ssl.SSLWantReadError):
        _unanswered.step()


def take_failure(sock: socket.socket) -> None:
    """Clear up behind an operation on `sock` that failed in earnest, and remember that it did."""
    clear_errors()
    if isinstance(sock, ssl.SSLSocket):
        _failed.add(sock)


def check_end(sock: socket.socket) -> None:
    """Raise ConnectionResetError where the end of `sock` that was just read can't be a good one.

    Pythons before 3.11.4 take what comes behind a failed operation for an end in good order.
    """
    if sock in _failed:
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
