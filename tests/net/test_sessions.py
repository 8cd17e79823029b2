"""TLS sessions: each that is taken may cost memory for good, so few are."""

from ssl import SSLSession, SSLSocket
from typing import cast

from swproxy.net.sessions import AGAIN_SECONDS, KEPT_SECONDS, MOST_ORIGINS, Sessions


class Socket:
    """A connection whose server resumes or not; it counts how often it is asked for its session."""

    def __init__(self, *, session_reused: bool = False) -> None:
        self.session_reused = session_reused
        self.asked = 0

    @property
    def session(self) -> SSLSession:
        self.asked += 1
        return cast(SSLSession, self)

    def given_to(self, sessions: Sessions, origin: str, now: float) -> "Socket":
        sessions.remember(origin, cast(SSLSocket, self), now)
        return self


def test_a_server_that_never_resumes_is_rarely_asked() -> None:
    sessions = Sessions()
    every = 0.5
    asked = sum(
        Socket().given_to(sessions, "a", step * every).asked
        for step in range(round(2 * AGAIN_SECONDS / every) + 1)
    )
    assert asked == 3


def test_one_that_resumes_is_asked_once() -> None:
    sessions = Sessions()
    first = Socket().given_to(sessions, "a", 0.0)
    later = [
        Socket(session_reused=True).given_to(sessions, "a", now * AGAIN_SECONDS).asked
        for now in range(1, 5)
    ]
    assert later == [0, 0, 0, 0]
    assert sessions.resume("a", 5 * AGAIN_SECONDS) is cast(SSLSession, first)


def test_thousands_of_origins_take_no_more_than_some() -> None:
    sessions = Sessions()
    first = [Socket().given_to(sessions, f"{n}", 0.0).asked for n in range(4 * MOST_ORIGINS)]
    assert sum(first) == MOST_ORIGINS
    assert sessions.resume("0", KEPT_SECONDS - 1) is not None
    sessions.sweep(KEPT_SECONDS + 1)
    assert sessions.resume("0", KEPT_SECONDS + 1) is not None
    assert sessions.resume("1", KEPT_SECONDS + 1) is None
    second = [Socket().given_to(sessions, f"new {n}", KEPT_SECONDS + 1).asked for n in range(300)]
    assert sum(second) == MOST_ORIGINS - 1
