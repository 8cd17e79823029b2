"""What a method says of its requests (RFC 9110 section 9): may one be repeated, has it a body."""

from typing import Final

__all__ = ["idempotent", "in_doubt", "wants_length"]

_IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
_WITHOUT_BODY: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"DELETE"))
_WITH_BODY: Final = frozenset((b"POST", b"PUT", b"PATCH"))


def idempotent(method: bytes) -> bool:
    """Whether doing it twice is doing it once (section 9.2.2); not known of an extension."""
    return method in _IDEMPOTENT


def in_doubt(method: bytes, *, body: bool) -> bool:
    """Whether an upstream may disagree with us on where the request or its answer ends.

    Some send a body in answer to a HEAD, late. Some do not expect a body with a GET and its like
    (section 9.3.1), and would take it for the next request on the connection.
    """
    return method == b"HEAD" or (body and method in _WITHOUT_BODY)


def wants_length(method: bytes) -> bool:
    """Whether its requests say Content-Length: 0 when they have no body (section 8.6)."""
    return method in _WITH_BODY
