"""Names looked up for somebody who waits at a terminal: side by side, and not for long."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterable
from ipaddress import ip_address

from swproxy.policy.addresses import Address

__all__ = ["resolve"]

_SECONDS = 2.0
"""For all names together; one that takes longer is of no help to who waits."""

_MOST_NAMES = 64
"""Each has a thread of its own, which the system's resolver may hold for longer than we wait."""


def resolve(names: Iterable[str]) -> dict[str, list[Address]]:
    """Return the addresses of names, as far as the system knows them within two seconds."""
    found: dict[str, list[Address]] = {}

    def look_up(name: str) -> None:
        with contextlib.suppress(OSError, UnicodeError):
            entries = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            # A link-local answer carries its zone behind a percent sign.
            texts = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in entries)
            found[name] = [ip_address(text) for text in texts]

    # Daemon threads, so that a resolver that hangs does not keep the command from ending.
    threads = [
        threading.Thread(target=look_up, args=(name,), daemon=True)
        for name in list(names)[:_MOST_NAMES]
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + _SECONDS
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return dict(found)
