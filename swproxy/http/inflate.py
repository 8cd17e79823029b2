"""Follows a compressed answer (RFC 9110 section 8.4.1) for what is in it, at a bounded price.

A thousand bytes of zeros are one byte of deflate, so whoever inflates what others send has to say
how much that may come to. Here each piece may become so many times its size, and no more comes out
at once than PIECE_BYTES; what goes beyond is given up, not followed more slowly.
"""

import zlib
from collections.abc import Iterator

__all__ = ["InflateError", "Inflater"]

PIECE_BYTES = 65536

_ALLOWANCE = 262144
_RATIO = 16
"""A piece may come to the first, and to the second for each of its bytes beyond. Answers of models
are compressed to a tenth as a whole, and less when each event is flushed."""

_MOST_MEMBERS = 16
"""Members of one gzip stream, each of which costs a window. Servers send one."""

_ZLIB_OR_GZIP = 47
_RAW = -15


class InflateError(Exception):
    """The data is no compressed stream, or comes to more than it may."""


class Inflater:
    """Inflates gzip, and deflate with zlib's header or, as some servers send it, without."""

    __slots__ = ("_begun", "_members", "_stream")

    def __init__(self) -> None:
        self._begun = b""
        self._members = 0
        self._stream: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` comes to, in pieces. Raises InflateError."""
        allowance = _ALLOWANCE + _RATIO * len(data)
        rest = self._begun + data
        self._begun = b""
        while rest:
            if self._stream is None:
                if len(rest) < 2:
                    self._begun = rest  # two bytes tell what it is
                    return
                self._begin(rest)
            assert self._stream is not None
            piece, rest = self._inflate(self._stream, rest)
            allowance -= len(piece)
            if allowance < 0:
                raise InflateError("the answer comes to too much")
            if piece:
                yield piece

    def _begin(self, data: bytes) -> None:
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise InflateError("the answer has too many members")
        gzip = data.startswith(b"\x1f\x8b")
        # RFC 1950 section 2.2: method 8, and a check that makes both bytes a multiple of 31.
        has_header = data[0] & 0x0F == 8 and not int.from_bytes(data[:2], "big") % 31
        self._stream = zlib.decompressobj(_ZLIB_OR_GZIP if gzip or has_header else _RAW)

    def _inflate(self, stream: "zlib._Decompress", data: bytes) -> tuple[bytes, bytes]:
        try:
            piece = stream.decompress(data, PIECE_BYTES)
        except zlib.error as error:
            raise InflateError("the answer is not compressed as it says") from error
        if stream.eof:
            self._stream = None
            return piece, stream.unused_data
        return piece, stream.unconsumed_tail
