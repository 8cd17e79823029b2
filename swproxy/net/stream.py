"""One connected socket, plain or TLS, as httpcore's network-stream interface sees it.

The wrapper is thin on purpose. `trio.SSLStream` is correct for any transport and pays for it with
memory BIOs, locks and several task switches a record; a non-blocking `ssl.SSLSocket` lets OpenSSL
read the descriptor itself, which measured at 39 against 62 microseconds of CPU a relayed chunk.
It also leaves a descriptor that the pump can watch without this class in between.

Two rules make waiting on the descriptor enough. Every read asks for at least one whole TLS record
(`READ_SIZE`), so OpenSSL never holds decrypted bytes that the descriptor does not announce; and
OpenSSL reads no further than the record it was asked for.
"""

import contextlib
import fcntl
import math
import socket
import ssl
import sys
import termios
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpcore
import trio

from swproxy.net.tls import BLOCKED, check_end, clear_errors, take_failure

__all__ = ["READ_SIZE", "SocketStream", "abort_socket", "unsent_bytes"]

READ_SIZE = 65536
"""Bytes asked for in one read; at least the 16,384 of a TLS record (RFC 8446 section 5.1)."""

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError)


def abort_socket(sock: socket.socket) -> None:
    """Close `sock` with a reset, so that the peer cannot take what it got for a whole message."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def unsent_bytes(sock: socket.socket) -> int:
    """Return how many bytes the peer has not taken yet; 0 where the system does not tell.

    SIOCOUTQ (tcp(7), unix(7)). Under TLS they are bytes of records.
    """
    try:
        return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


class SocketStream(httpcore.AsyncNetworkStream):
    """A connected, non-blocking stream socket that this object owns; `sent` counts bytes written.

    Raises httpcore's exceptions: ReadError, WriteError, ConnectError and their timeouts.
    """

    __slots__ = ("sent", "socket")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.sent = 0

    async def read(self, max_bytes: int = READ_SIZE, timeout: float | None = None) -> bytes:
        """Return at least one byte, or b"" when the peer has ended its side in good order."""
        if timeout is not None:
            with _deadline(timeout, httpcore.ReadTimeout):
                return await self.read(max_bytes)
        while True:
            await trio.lowlevel.wait_readable(self.socket)
            try:
                data = self.socket.recv(max_bytes)
                if not data:
                    check_end(self.socket)
                return data
            except _WOULD_BLOCK:
                continue
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(self.socket)
            except OSError as error:
                take_failure(self.socket)
                raise httpcore.ReadError(_reason(error)) from error

    def read_now(self, max_bytes: int = READ_SIZE) -> bytes:
        """Return what has arrived already; b"" if that is nothing, or the end."""
        try:
            return self.socket.recv(max_bytes)
        except BLOCKED:
            return b""
        except OSError:
            take_failure(self.socket)
            return b""  # it shows again at the next read

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`; returns without a checkpoint when the kernel takes it at once."""
        view = memoryview(buffer)
        sent = self.send_now(view)
        if sent == len(view):
            return
        with _deadline(timeout, httpcore.WriteTimeout):
            while sent < len(view):
                view = view[sent:]
                await trio.lowlevel.wait_writable(self.socket)
                sent = self.send_now(view)

    def send_now(self, view: bytes | memoryview) -> int:
        """Send what the kernel takes at once of `view`; return how many bytes that was."""
        before, size = self.sent, len(view)
        try:
            self.sent += self.socket.send(view)
            while (sent := self.sent - before) < size and isinstance(self.socket, ssl.SSLSocket):
                # OpenSSL takes a record at a time; short means full only when it says so.
                self.sent += self.socket.send(memoryview(view)[sent:])
        except BLOCKED:
            pass
        except OSError as error:
            take_failure(self.socket)
            raise httpcore.WriteError(_reason(error)) from error
        return self.sent - before

    async def aclose(self) -> None:
        """Close at once; never blocks, never raises."""
        self.close()

    def close(self) -> None:
        """End our side in good order (TLS: with close_notify) and close the descriptor."""
        self.end_tls()
        self.socket.close()

    def end_tls(self) -> None:
        """Send TLS's close_notify, without which an answer that ends by closing looks cut."""
        if isinstance(self.socket, ssl.SSLSocket):
            try:
                self.socket.unwrap()
            except BLOCKED:
                pass  # it is on its way, and the peer's is not waited for
            except (OSError, ValueError):
                take_failure(self.socket)

    async def linger(self, timeout: float, pause: float = math.inf) -> None:
        """End our side, and read on until the peer ends its own; what comes is dropped.

        To close with bytes unread would be a reset, and take from the peer what it has not read yet
        (RFC 9112 section 9.6). Gives up after `timeout` seconds, or when nothing comes for `pause`.
        """
        self.end_tls()
        with contextlib.suppress(OSError, httpcore.ReadError, httpcore.ReadTimeout):
            self.socket.shutdown(socket.SHUT_WR)
            with trio.move_on_after(timeout):
                while await self.read(timeout=pause):
                    pass

    def abort(self) -> None:
        """Close with a reset."""
        abort_socket(self.socket)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> "SocketStream":
        """Take the client's side of a TLS handshake; the socket moves to the stream returned."""
        return await self.handshake(ssl_context, server_hostname, timeout)

    async def handshake(
        self,
        context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
        *,
        server_side: bool = False,
        session: ssl.SSLSession | None = None,
        turn: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> "SocketStream":
        """Wrap the socket in TLS. Raises ConnectError, also when a certificate does not hold.

        `turn` is awaited before each step, of which one takes a millisecond.
        """
        try:
            wrapped = context.wrap_socket(
                self.socket,
                server_side=server_side,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,
                server_hostname=server_hostname,
                session=session,
            )
        except (OSError, ValueError) as error:
            raise httpcore.ConnectError(_reason(error)) from error
        stream = SocketStream(wrapped)
        try:
            with _deadline(timeout, httpcore.ConnectTimeout):
                await _until_done(wrapped, wrapped.do_handshake, turn)
        except OSError as error:
            clear_errors()
            stream.close()
            raise httpcore.ConnectError(_reason(error)) from error
        except BaseException:
            stream.close()
            raise
        return stream

    def is_clean(self) -> bool:
        """Tell whether an idle connection is fit for use: open, with not one unread byte."""
        try:
            self.socket.recv(1)
        except _WOULD_BLOCK:
            return True
        except OSError:
            take_failure(self.socket)
            return False
        return False

    def get_extra_info(self, info: str) -> Any:
        """Answer httpcore's questions about the transport."""
        if info == "socket":
            return self.socket
        if info == "ssl_object":
            return self.socket if isinstance(self.socket, ssl.SSLSocket) else None
        if info == "is_readable":
            return not self.is_clean()
        return None


async def _until_done(
    sock: ssl.SSLSocket, step: Callable[[], object], turn: Callable[[], Awaitable[None]]
) -> None:
    while True:
        await turn()
        try:
            step()
        except ssl.SSLWantReadError:
            await trio.lowlevel.wait_readable(sock)
        except ssl.SSLWantWriteError:
            await trio.lowlevel.wait_writable(sock)
        else:
            return


@contextlib.contextmanager
def _deadline(timeout: float | None, late: type[Exception]) -> Iterator[None]:
    with trio.move_on_after(math.inf if timeout is None else timeout) as scope:
        yield
    if scope.cancelled_caught:
        raise late(f"no progress for {timeout:g} seconds")


def _reason(error: BaseException) -> str:
    """Say what the operating system or OpenSSL said, without addresses or data."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or 'failed'}"
    return getattr(error, "strerror", None) or type(error).__name__
