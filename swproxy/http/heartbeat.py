"""Where a comment may be put into an event stream (WHATWG HTML section 9.2.6).

Whoever stands between a model that thinks and a page that waits, a load balancer most of all, takes
silence for a dead connection after a while. A line that begins with a colon is ignored by
every reader of event streams, so it is what breaks a silence. Between two events it stands for
itself; inside of one it could cut a line in two.
"""

__all__ = ["COMMENT", "EventBoundary"]

COMMENT = b":\n\n"
"""An empty comment. The blank line ends no event, since none has begun; it is there for readers
that split at blank lines before they look for comments."""

_BLANK_LINE = (b"\n\n", b"\n\r\n", b"\r\r")
_LONGEST = 3


class EventBoundary:
    """Follows the payload of an event stream, and knows whether an event is under way."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = b"\n\n"

    def feed(self, payload: bytes | memoryview) -> None:
        """Take what has gone by."""
        last = bytes(payload[-_LONGEST:])
        self._last = last if len(last) == _LONGEST else (self._last + last)[-_LONGEST:]

    @property
    def at_boundary(self) -> bool:
        """Tell whether the next byte begins an event, or is the stream's first."""
        return self._last.endswith(_BLANK_LINE)
