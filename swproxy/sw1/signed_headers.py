"""What is signed beside the URL: values of headers, and a body's length in all its counts."""

import codecs
from collections.abc import Sequence

from swproxy.sw1.claims import Claims
from swproxy.sw1.query import show
from swproxy.sw1.refusal import Refusal

__all__ = ["CONTENT_LENGTH", "Counts", "signed_values"]

CONTENT_LENGTH = "content-length"


def signed_values(claims: Claims, headers: Sequence[tuple[bytes, bytes]]) -> dict[str, bytes]:
    """Return the trimmed value of each signed header by its name.

    Content-Length may be absent if the body is signed: a chunked upload sends none, and the body
    will tell. Raise Refusal for any other that is absent, for one that came twice (which of them
    would the upstream believe?), and for a line break, which would forge lines in what is hashed.
    """
    found: dict[str, bytes] = {}
    if not claims.signed_headers:
        return found
    wanted = {name.encode(): name for name in claims.signed_headers}
    for raw_name, value in headers:
        name = wanted.get(raw_name)
        if name is None:
            continue
        if name in found:
            raise Refusal(
                "signed-header-duplicate",
                f"The signed header {show(name)} was sent more than once.",
            )
        if b"\n" in value or b"\r" in value or b"\0" in value:
            raise Refusal(
                "signed-header-invalid",
                f"The signed header {show(name)} holds a line break or a NUL.",
            )
        found[name] = value.strip(b" \t")
    for name in claims.signed_headers:
        may_be_counted = name == CONTENT_LENGTH and claims.body_signed
        if name not in found and not may_be_counted:
            raise Refusal(
                "signed-header-missing",
                f"The URL signs the header {show(name)}, which was not sent.",
            )
    return found


class Counts:
    """A body's length in bytes, and if it is UTF-8, in code points and UTF-16 units."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = True
        self._bytes = 0
        self._points = 0
        self._units = 0

    def add(self, data: bytes) -> None:
        """Count the next bytes."""
        self._bytes += len(data)
        if not self._text:
            return
        try:
            text = self._decoder.decode(data)
        except UnicodeDecodeError:
            self._text = False
            return
        self._points += len(text)
        self._units += len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2

    def lengths(self) -> list[bytes]:
        """Return the distinct counts as they would be written in Content-Length."""
        counts = [self._bytes]
        cut_inside_a_character = self._decoder.getstate()[0]
        if self._text and not cut_inside_a_character:
            counts += [self._points, self._units]
        return [b"%d" % count for count in dict.fromkeys(counts)]
