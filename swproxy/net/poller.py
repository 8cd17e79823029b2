"""Readiness of many descriptors behind one, so that a single trio task can serve them all.

trio charges a task switch, an epoll_ctl and a timeout scope for each wait. An established stream
needs none of the three: its two descriptors stay registered in an epoll of our own, and one task
waits for that epoll's descriptor (`fileno`), which turns readable when any of them is ready.

`Poller` is epoll with its EPOLLRDHUP, which tells that a client is gone although nobody reads from
it. `PortablePoller` does the same over `selectors` where there is no epoll (macOS): there a client
that has sent more than one request at a time is noticed only when a write to it fails.
"""

import contextlib
import select
import selectors
import socket
from typing import Protocol

__all__ = ["GONE", "READ", "WRITE", "PortablePoller", "ReadinessPoller", "make_poller"]

READ = 1
WRITE = 4
GONE = 0x2000
"""Interest in, or news of, the peer having closed. The values are epoll's own (EPOLLIN, EPOLLOUT,
EPOLLRDHUP), so that on Linux nothing is translated."""


class ReadinessPoller(Protocol):
    """What the pump needs of the operating system."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while events wait."""

    def register(self, sock: socket.socket, interest: int) -> None:
        """Begin to watch `sock`, for any of READ, WRITE and GONE, or for nothing yet."""

    def modify(self, sock: socket.socket, interest: int) -> None:
        """Change what `sock` is watched for."""

    def unregister(self, sock: socket.socket) -> None:
        """Stop watching `sock`; no event of it is returned any more."""

    def ready(self) -> list[tuple[int, int]]:
        """Return (descriptor, events) of what is ready now."""

    def close(self) -> None:
        """Release the descriptor."""


if hasattr(select, "epoll"):

    class Poller:
        """Level-triggered epoll."""

        def __init__(self) -> None:
            self._epoll = select.epoll()
            self.fileno = self._epoll.fileno
            self.close = self._epoll.close

        def register(self, sock: socket.socket, interest: int) -> None:
            """See ReadinessPoller."""
            self._epoll.register(sock, interest)

        def modify(self, sock: socket.socket, interest: int) -> None:
            """See ReadinessPoller."""
            self._epoll.modify(sock, interest)

        def unregister(self, sock: socket.socket) -> None:
            """See ReadinessPoller."""
            self._epoll.unregister(sock)

        def ready(self) -> list[tuple[int, int]]:
            """See ReadinessPoller."""
            return self._epoll.poll(0)


class PortablePoller:
    """The same over the selectors module."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._interest: dict[int, int] = {}

    def fileno(self) -> int:
        """See ReadinessPoller."""
        # Not in the abstract class, since select() has none; epoll's and kqueue's selectors do.
        number: int = self._selector.fileno()
        return number

    def register(self, sock: socket.socket, interest: int) -> None:
        """See ReadinessPoller."""
        self._interest[sock.fileno()] = 0
        self.modify(sock, interest)

    def modify(self, sock: socket.socket, interest: int) -> None:
        """See ReadinessPoller."""
        was = _mask(self._interest[sock.fileno()])
        self._interest[sock.fileno()] = interest
        mask = _mask(interest)
        if was and mask:
            self._selector.modify(sock, mask)
        elif mask:
            self._selector.register(sock, mask)
        elif was:
            self._selector.unregister(sock)

    def unregister(self, sock: socket.socket) -> None:
        """See ReadinessPoller."""
        self.modify(sock, 0)
        del self._interest[sock.fileno()]

    def ready(self) -> list[tuple[int, int]]:
        """See ReadinessPoller."""
        found: list[tuple[int, int]] = []
        for key, mask in self._selector.select(0):
            assert isinstance(key.fileobj, socket.socket)
            interest = self._interest[key.fd]
            events = WRITE if mask & selectors.EVENT_WRITE else 0
            if mask & selectors.EVENT_READ:
                if interest & READ:
                    events |= READ
                elif _at_end(key.fileobj):
                    events |= GONE
                else:
                    self.modify(key.fileobj, interest & ~GONE)
            if events:
                found.append((key.fd, events))
        return found

    def close(self) -> None:
        """See ReadinessPoller."""
        self._selector.close()


def _mask(interest: int) -> int:
    mask = selectors.EVENT_READ if interest & (READ | GONE) else 0
    return mask | (selectors.EVENT_WRITE if interest & WRITE else 0)


def _at_end(sock: socket.socket) -> bool:
    # socket.socket's own method: an SSLSocket refuses to peek, and what is asked is of TCP.
    with contextlib.suppress(BlockingIOError):
        try:
            return not socket.socket.recv(sock, 1, socket.MSG_PEEK)
        except ConnectionError:
            return True
    return False


def make_poller() -> ReadinessPoller:
    """Return the best poller of this system."""
    return Poller() if hasattr(select, "epoll") else PortablePoller()
