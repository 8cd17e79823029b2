"""What a request head may look like: the one place where the rules of syntax stand.

h11 parses the head. It is liberal in places where a proxy must not be, because the next server in
the line may read the same bytes in another way: two lengths that agree, a line that ends in a bare
LF, a header folded over two lines, a length together with a transfer coding. So a head is held
against the grammar and the table below as the raw bytes that arrived, and reaches h11 only then.
What can't become a good head is refused as soon as that shows, so nobody waits for its end.

Sections of RFC 9112 stand beside the rules. Where it leaves a choice, the stricter one is taken.
"""

import re

import h11

from swproxy.config.config import Limits
from swproxy.sw1.refusal import Refusal

__all__ = ["UNREAD", "RequestHead", "hops_left", "parse_head", "skip_empty_lines", "take_head"]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"

_HEAD = re.compile(
    rb"(?P<method>" + _TOKEN + rb"{1,32}) "
    rb"(?P<target>[\x21-\x7e]+) "
    rb"HTTP/1\.(?P<minor>[01])\r\n"
    rb"(?P<fields>(?:" + _TOKEN + rb"+:[\t\x20-\x7e\x80-\xff]*\r\n)*)"
    rb"\r\n"
)
"""Sections 3, 5 and 5.1: no white space before a colon, no folding, no control characters, CRLF."""

_REQUEST_LINE = re.compile(_TOKEN + rb"{1,32} [\x21-\x7e]+ HTTP/1\.[01]\r\n")

_IMPOSSIBLE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""What no head contains, complete or not: bare LF, bare CR, other control characters."""

_EMPTY_LINES = re.compile(rb"(?>\r\n)*+")
_MOST_EMPTY = 32
"""Bytes of empty lines at once before a request; some old clients send one line behind a body."""

_HOST = rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?"

_FORBIDDEN = (
    # Section 6.2, 6.3 rule 5: one length, in digits, without a sign or leading zeros.
    (
        rb"\ncontent-length:(?![ \t]*(?:0|[1-9][0-9]{0,17})[ \t]*\r)",
        "Content-Length is not a plain number.",
    ),
    (rb"(?s)\ncontent-length:.*\ncontent-length:", "There is more than one Content-Length."),
    # Section 6.1: chunked, once, and nothing beside it.
    (
        rb"\ntransfer-encoding:(?![ \t]*chunked[ \t]*\r)",
        "Transfer-Encoding is not simply chunked.",
    ),
    (
        rb"(?s)\ntransfer-encoding:.*\ntransfer-encoding:",
        "There is more than one Transfer-Encoding.",
    ),
    # Section 6.1, 6.3 rule 3: the classic of request smuggling.
    (
        rb"(?s)\n(?:content-length:.*\ntransfer-encoding:|transfer-encoding:.*\ncontent-length:)",
        "Content-Length and Transfer-Encoding are both there.",
    ),
    # Section 3.2: one Host, well-formed.
    (rb"(?s)\nhost:.*\nhost:", "There is more than one Host."),
    (rb"\nhost:(?![ \t]*" + _HOST + rb"[ \t]*\r)", "Host is empty or malformed."),
)
"""(pattern that must not occur in the lower-cased head, what is wrong if it does)"""

_RULES = tuple((re.compile(pattern), reason) for pattern, reason in _FORBIDDEN)

_TARGET = re.compile(rb"/[^#\\]*")
"""Section 3.2.1, origin-form: the only one that this proxy is addressed in."""

_LENGTH = b"content-length"

_HOPS = re.compile(rb"[0-9]{1,9}")


class RequestHead:
    """A request line and headers that passed every rule.

    `headers` has lower-case names and values as received, without the white space around them.
    `content_length` is None for a chunked body, 0 where there is none.
    """

    __slots__ = (
        "content_length",
        "expects_continue",
        "expects_other",
        "headers",
        "http11",
        "keep_alive",
        "method",
        "target",
    )

    def __init__(self, request: h11.Request) -> None:
        self.method = request.method
        self.target = request.target
        self.headers: list[tuple[bytes, bytes]] = list(request.headers)
        self.http11 = request.http_version == b"1.1"
        self.content_length: int | None = 0
        self.keep_alive = self.http11
        self.expects_continue = False
        self.expects_other = False
        for name, value in self.headers:
            if name == _LENGTH:
                self.content_length = int(value)
            elif name == b"transfer-encoding":
                self.content_length = None
            elif name == b"connection" and b"close" in _list(value):
                self.keep_alive = False
            elif name == b"expect" and self.http11:
                # RFC 9110 section 10.1.1; HTTP/1.0 knows no expectations.
                expected = _list(value)
                self.expects_continue |= b"100-continue" in expected
                self.expects_other |= expected != [b"100-continue"]

    def get(self, name: bytes) -> bytes | None:
        """Return the value of the first header of that lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


UNREAD = RequestHead(h11.Request(method="GET", target="/", headers=[], http_version="1.0"))
"""Stands for a head that could not be read: nothing is known of it, least of all where it ends."""
UNREAD.method = b""
UNREAD.content_length = None


def hops_left(head: RequestHead) -> int | None:
    """Return how many more times an OPTIONS request may be passed on; None if as often as it likes.

    RFC 9110 section 7.6.2, which says it of OPTIONS and TRACE only. Raises Refusal
    ("request-malformed").
    """
    if head.method != b"OPTIONS":
        return None
    values = [value for name, value in head.headers if name == b"max-forwards"]
    if not values:
        return None
    if len(values) > 1 or not _HOPS.fullmatch(values[0]):
        raise Refusal("request-malformed", "Max-Forwards is not a plain number.")
    return int(values[0])


def _list(value: bytes) -> list[bytes]:
    return [item.strip(b" \t") for item in value.lower().split(b",")]


def skip_empty_lines(buffer: bytes) -> bytes:
    """Return `buffer` without empty lines at its beginning (section 2.2).

    Raises Refusal ("request-malformed") where there are too many.
    """
    if not buffer.startswith(b"\r\n"):
        return buffer
    begun = _EMPTY_LINES.match(buffer)
    assert begun is not None
    if begun.end() > _MOST_EMPTY:
        raise Refusal("request-malformed", "There are too many empty lines before the request.")
    return buffer[begun.end() :]


def take_head(buffer: bytes, seen: int, limits: Limits) -> tuple[RequestHead | None, bytes]:
    """Cut a complete head off `buffer`, of which `seen` bytes have been looked at before.

    Returns the head, or None as long as its end is missing, and what is left of the buffer.
    Raises what `parse_head` does, target-too-long or head-too-large.
    """
    if buffer.startswith(b"\r\n"):
        buffer, seen = skip_empty_lines(buffer), 0
    most = limits.head_bytes
    end = buffer.find(b"\r\n\r\n", max(0, seen - 3)) + 4
    if 3 < end <= most:
        return parse_head(buffer[:end], header_count=limits.header_count), buffer[end:]
    _check_beginning(buffer[:most], seen)
    if len(buffer) >= most:
        if b"\r\n" not in buffer[:most]:
            raise Refusal("target-too-long", "The URL is too long.")
        raise Refusal("head-too-large", f"The request head is larger than {most} bytes.")
    return None, buffer


def _check_beginning(data: bytes, seen: int) -> None:
    """Refuse an incomplete head that can't become a good one, looking at what is new in it."""
    line_ended = data.find(b"\r\n", max(0, seen - 1)) >= 0 and b"\r\n" not in data[:seen]
    if line_ended and _REQUEST_LINE.match(data) is None:
        raise Refusal("request-malformed", "The request line is malformed.")
    if _IMPOSSIBLE.search(data, max(0, seen - 1)):
        raise Refusal("request-malformed", "The request is not HTTP/1.1.")


def parse_head(data: bytes, *, header_count: int) -> RequestHead:
    """Parse a complete head, the empty line at its end included.

    Raises Refusal: request-malformed, too-many-headers or method-not-allowed.
    """
    match = _HEAD.fullmatch(data)
    if match is None:
        part = "A header line" if _REQUEST_LINE.match(data) else "The request line"
        raise Refusal("request-malformed", f"{part} is malformed.")
    if data.count(b"\n") - 2 > header_count:
        raise Refusal("too-many-headers", f"More than {header_count} headers were sent.")
    lowered = data.lower()
    for pattern, reason in _RULES:
        if pattern.search(lowered):
            raise Refusal("request-malformed", reason)
    if match["minor"] == b"0" and b"\ntransfer-encoding:" in lowered:
        raise Refusal("request-malformed", "HTTP/1.0 has no Transfer-Encoding.")
    if match["method"] in (b"CONNECT", b"TRACE"):
        raise Refusal("method-not-allowed", f"{match['method'].decode()} is not served here.")
    if not _TARGET.fullmatch(match["target"]):
        raise Refusal("request-malformed", "The request target is not a path with a query.")
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(data) + 1)
    connection.receive_data(data)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise Refusal("request-malformed", "The request is not HTTP/1.1.") from error
    assert isinstance(event, h11.Request)
    return RequestHead(event)
