"""What is known of one request when it ends: the source of the access log and of the metrics."""

from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["Observer", "Outcome", "Record"]

Outcome = Literal["complete", "refused", "upstream-failed", "client-gone", "preflight", "aborted"]
"""How a request ended; "aborted" is by ourselves."""


@dataclass(slots=True)
class Record:
    """One request. Times are of the monotonic clock, in seconds.

    Bytes are of bodies, as they were on the wire: chunk framing included, heads not.

    `app`, `origin` and `path` are set only once the signature holds, so nothing here is what a
    stranger chose. No field ever holds a query, a header's value, a secret or a signature.
    """

    request_id: str
    client: str
    method: str
    started: float
    app: str = ""
    origin: str = ""
    path: str = ""
    user: str = ""
    """who the URL says that the call is made for"""
    plan: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    status: int = 0
    outcome: Outcome = "aborted"
    code: str = ""
    """the problem's code, where there was one"""
    limit: str = ""
    """of a refusal by a limit: whose, and of what"""
    detail: str = ""
    for_operator: str = ""
    """of a refusal: what is to be logged although no client may read it"""
    bytes_up: int = 0
    bytes_down: int = 0
    first_byte: float | None = None
    streamed: bool = False
    """whether an upstream's answer has begun to leave, and so `Observer.began` was called"""
    metered: bool = False
    """whether what the call used was to be read off its answer"""
    tokens_in: int | None = None
    tokens_out: int | None = None
    """what it used, None where nobody knows; of an answer that was cut, an estimate"""
    model: str = ""
    """the one that answered, as the upstream calls it"""
    kind: str = "http"
    ended: float = 0.0


class Observer(Protocol):
    """Whoever wants to know of requests: the daemon's log and metrics, or a test."""

    def began(self, record: Record) -> None:
        """Take note that an answer has begun to stream."""

    def ended(self, record: Record) -> None:
        """Take note that a request is over, however it ended. Must not block."""

    def crashed(self, error: BaseException) -> None:
        """Take note of a fault of the program itself. What is logged must not hold its message."""
