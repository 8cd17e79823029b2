"""What the service manager is told, and how often it wants to hear from us: sd_notify(3).

The protocol is one datagram of `NAME=value` lines to a Unix socket, small enough that no library is
needed for it. Without a service manager (no NOTIFY_SOCKET) everything here does nothing.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping

__all__ = ["VARIABLES", "Notifier"]

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Environment variables meant for this process alone, not for its children."""


class Notifier:
    """The line to the service manager.

    `watchdog_seconds` is how long it waits for a sign of life before it ends this process; None if
    it does not.
    """

    def __init__(self, address: str = "", watchdog_seconds: float | None = None) -> None:
        self.watchdog_seconds = watchdog_seconds
        self._address = address
        self._status = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Notifier":
        """Make the notifier that `environ` asks for; a malformed request is none."""
        address = environ.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls()
        for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environ.get("WATCHDOG_USEC", "")
        watchdog = int(microseconds) / 1e6 if for_us and microseconds.isdecimal() else None
        return cls(address, watchdog or None)

    def ready(self) -> None:
        """Say that the start, or a reload, is done."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Say that a reload begins; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Give a sign of life."""
        if self.watchdog_seconds is not None:
            self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Say in a line what the process is doing, if that has changed."""
        if text != self._status:
            self._status = text
            self._send("STATUS=" + " ".join(text.split()))

    def _send(self, message: str) -> None:
        if not self._address:
            return
        name = self._address
        if name.startswith("@"):  # abstract: the name begins with a NUL
            name = "\0" + name[1:]
        # A manager that does not listen is no reason to stop serving.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(message.encode(), name)
