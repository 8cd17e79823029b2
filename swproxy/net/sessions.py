"""TLS sessions of upstreams, which later connections resume: no certificates, one round trip less.

To ask a socket for its session is not free. It makes a copy, which costs as much as the relaying of
a chunk; and Python before 3.12.8 and 3.13.1 makes two and forgets one, 6 KB that are never freed
(https://github.com/python/cpython/issues/116810). Debian 12 has such a Python. So an origin that
does not resume what it gave is asked again only after ten minutes, and no more than so many origins
are: when all places are taken, a new one has to wait until one has not been used for an hour.
"""

from dataclasses import dataclass
from ssl import SSLSession, SSLSocket

__all__ = ["Sessions"]

KEPT_SECONDS = 3600.0
"""How long one is kept that nobody resumes."""

AGAIN_SECONDS = 600.0
"""How long an origin is not asked again."""

MOST_ORIGINS = 256
"""Each takes 15 KB."""


@dataclass(slots=True)
class _Kept:
    session: SSLSession
    taken: float
    used: float


class Sessions:
    """The sessions of some origins. `now` is in seconds of any one clock."""

    def __init__(self) -> None:
        # In the order of their last use, the oldest first.
        self._kept: dict[str, _Kept] = {}

    def resume(self, origin: str, now: float) -> SSLSession | None:
        """Return the session to resume with an origin, if there is one."""
        kept = self._kept.pop(origin, None)
        if kept is None:
            return None
        kept.used = now
        self._kept[origin] = kept
        return kept.session

    def remember(self, origin: str, sock: SSLSocket, now: float) -> None:
        """Keep the session of a new connection, once its tickets have come.

        In TLS 1.3 they come behind the handshake, so this is for when an answer has begun.
        """
        kept = self._kept.get(origin)
        if kept is None:
            wanted = len(self._kept) < MOST_ORIGINS
        else:
            # A server that has not resumed it has forgotten it, or never will.
            wanted = not sock.session_reused and now - kept.taken >= AGAIN_SECONDS
        if wanted and (session := sock.session) is not None:
            self._kept.pop(origin, None)
            self._kept[origin] = _Kept(session, now, now)

    def sweep(self, now: float) -> None:
        """Forget those that have not been used for long."""
        for origin, kept in list(self._kept.items()):
            if now - kept.used < KEPT_SECONDS:
                break
            del self._kept[origin]
