"""Where a message body ends, without looking at what is in it.

A relay that forwards bytes verbatim still has to know the byte at which a body is over: that is
where a connection may be used again, and where a cut answer differs from a whole one. Each class
here follows one framing of RFC 9112 section 6, fed with whatever pieces the socket gave:

    part = body.feed(piece)     what to forward of it
    body.ended                  the last byte has been seen
    body.excess                 the bytes of that piece that came after it: the next request from a
                                client, a reason to trust the connection no more from an upstream
    body.eof()                  the peer closed; raises unless that is a proper end
    body.tap = take             hand the payload in each piece to `take` as well, in bytes to keep

`ChunkedBody` forwards the chunks as they came, or their payload alone (`payload_only`: a client
that speaks HTTP/1.0, an upload that is framed anew). Trailers are read, checked, counted and
dropped (RFC 9110 section 6.5.1 lets an intermediary do so): no field is merged into a head that
was judged without it. A line that never ends, lines that outweigh the data and trailers without end
are refused, so a body costs a bounded number of bytes to follow. A line that can't become a good
one is refused before its end has come, so nobody waits for it.

The smaller the chunks, the more there are in a piece, down to one for each six bytes. So runs of
small ones, whatever their sizes, are followed by one match of a regular expression, at a tenth of
what a chunk costs that is looked at by itself.

Nothing here does I/O, and a body that was found wrong stays wrong: after a FramingError the
connection is closed and the object is dropped.
"""

import re
from collections.abc import Callable
from typing import Protocol

__all__ = [
    "Body",
    "ChunkedBody",
    "ContentLengthBody",
    "FramingError",
    "PayloadBody",
    "Tap",
    "UntilCloseBody",
]

_MAX_LINE = 1024
"""Bytes in a chunk-size line with its extensions. h11 and nginx set no limit of their own; Go 4096;
real extensions (signatures of chunked uploads) take under 100."""

_MAX_TRAILERS = 8192
"""Bytes in a trailer section: the size of one generous header buffer."""

_LINES_ALLOWANCE = 16384
_LINES_A_BYTE = 8
"""What the lines between the chunks may come to: 16 KB, and eight bytes for each of the data.
Chunks of a single byte take five; Go allows sixteen a chunk and two a byte."""

_EXTENSION_COST = 128
"""What an extension counts for besides its bytes, as each of its chunks is looked at by itself."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
_QUOTED = rb'"(?:[\t\x20!\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION = (
    rb"[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
)

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*)[ \t]*")
"""As upstreams write it: some pad the size with blanks."""

_STRICT_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*)")
"""Section 7.1 to the letter, for clients: what reads in two ways is how requests are smuggled."""


def _small_chunks(end_of_line: bytes) -> bytes:
    """Return the pattern of a chunk of 1 to 255 bytes, whose size line ends so."""
    digits = [b"[%x%X]" % (digit, digit) if digit > 9 else b"%d" % digit for digit in range(16)]
    sizes = [
        b"%b(?:%b.{%d}|%b)"
        % (
            digits[first],
            end_of_line,
            first,
            b"|".join(
                b"%b%b.{%d}" % (digits[second], end_of_line, 16 * first + second)
                for second in range(16)
            ),
        )
        for first in range(1, 16)
    ]
    return rb"(?s:0{0,14}(?:%b)\r\n)" % b"|".join(sizes)


_SMALL_CHUNK = _small_chunks(rb"\r\n")
_FIND_SMALL_CHUNK = re.compile(_SMALL_CHUNK)
_STRICT_RUN = re.compile(b"(?>" + _SMALL_CHUNK + b")++")
_RUN = re.compile(b"(?>" + _small_chunks(rb"[ \t]*\r\n") + b")++")

_FEW = 8
_FEW_SIZES = {spell % size: size for spell in (b"%x", b"%X") for size in range(1, 1024)}
"""So many chunks in a piece, of these sizes as they are written, are taken one by one where their
payload is listened to. That is faster than to match them as a run first, and to find them again."""

_TRAILER_LINE = re.compile(_TOKEN + rb":" + _TEXT)

_SIZE_BEGUN = re.compile(rb"(?:[0-9A-Fa-f]{1,16}(?:[ \t;]" + _TEXT + rb")?)?\r?")
_TRAILER_BEGUN = re.compile(rb"(?:" + _TOKEN + rb"(?::" + _TEXT + rb")?)?\r?")
"""What a line looks like, as far as it has come, that may still become a good one."""


class FramingError(Exception):
    """The peer sent a body that breaks its own framing, or ended before it was whole."""


class Body(Protocol):
    """A body being followed, whatever its framing."""

    ended: bool
    excess: bytes

    def feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """Return the part of `data` to forward; raise FramingError where it breaks the framing.

        `data` may be a view of a buffer that is used again as soon as the caller has its answer,
        and the answer may be a view of `data`: whoever keeps either makes bytes of it.
        """

    def eof(self) -> None:
        """Take the peer's end of stream; raise FramingError unless the body may end there."""


Tap = Callable[[bytes], object]
"""Who is told of payload that goes by. It must not fail."""


class PayloadBody(Body, Protocol):
    """A message's body, whose payload can be listened to."""

    tap: Tap | None


class ContentLengthBody:
    """A body of a length known beforehand (RFC 9112 section 6.2); 0 for a message without one."""

    __slots__ = ("_remaining", "announced", "ended", "excess", "tap")

    def __init__(self, length: int) -> None:
        self.tap: Tap | None = None
        self.announced = length
        self._remaining = length
        self.ended = length == 0
        self.excess = b""

    def feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """Return `data` up to the last byte of the body."""
        size = len(data)
        if size > self._remaining:
            self.excess = bytes(data[self._remaining :])
            data = data[: self._remaining]
            size = self._remaining
        self._remaining -= size
        self.ended = not self._remaining
        if self.tap is not None:
            self.tap(bytes(data))
        return data

    def eof(self) -> None:
        """Refuse: a body that has ended is fed no more, so bytes are missing."""
        if not self.ended:
            raise FramingError(f"closed {self._remaining} bytes before the end of the body")


class UntilCloseBody:
    """A body that ends where the connection does (RFC 9112 section 6.3, rule 8)."""

    __slots__ = ("ended", "excess", "tap")

    def __init__(self) -> None:
        self.tap: Tap | None = None
        self.ended = False
        self.excess = b""

    def feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """Return all of `data`."""
        if self.tap is not None:
            self.tap(bytes(data))
        return data

    def eof(self) -> None:
        """Take the end of the stream for the end of the body."""
        self.ended = True


class ChunkedBody:
    """A body in chunks (RFC 9112 section 7.1).

    The position in the grammar is held in three values: `_remaining` bytes of chunk data still to
    come, `_footer` set while the CRLF behind them is awaited, `_trailers` counting from the moment
    the last chunk was seen (None before). With none of them, a size line comes next. `_line` is
    the beginning of a line, or of a footer, whose end has not arrived.

    `_payload` counts the bytes of data, `_lines` those between them. Of an upstream, a run of small
    chunks that is forwarded as it is counts as data altogether.
    """

    __slots__ = (
        "_footer",
        "_line",
        "_lines",
        "_payload",
        "_remaining",
        "_size_line",
        "_strict",
        "_trailers",
        "ended",
        "excess",
        "payload_only",
        "tap",
    )

    def __init__(self, *, payload_only: bool = False, strict: bool = False) -> None:
        self.tap: Tap | None = None
        self.ended = False
        self.excess = b""
        self.payload_only = payload_only
        self._size_line = _STRICT_SIZE_LINE if strict else _SIZE_LINE
        self._strict = strict
        self._remaining = 0
        self._footer = False
        self._trailers: int | None = None
        self._line = b""
        self._payload = 0
        self._lines = 0

    def feed(self, data: bytes | memoryview) -> bytes:
        """Return the chunks in `data` as they are, or their payload alone; never a trailer."""
        piece = bytes(data)
        held = len(self._line)
        if not (held or self._remaining or self._footer) and self._are_small_chunks(piece):
            return piece
        if held:
            # These bytes were forwarded when they came, unless they are of a trailer.
            piece, self._line = self._line + piece, b""
        payload: list[bytes] = []
        position = self._follow(piece, payload) if self._trailers is None else 0
        data = b"".join(payload)
        if data and self.tap is not None:
            self.tap(data)
        if self.payload_only:
            part = data
        else:
            part = piece[held:position] if held or position < len(piece) else piece
        if self._trailers is None:
            return part
        self._read_trailers(piece, position)
        return part + b"\r\n" if self.ended and not self.payload_only else part

    def _are_small_chunks(self, piece: bytes) -> bool:
        """Take a piece of whole small chunks that is passed on, as nearly all of a token stream."""
        if self.payload_only or self._strict or self._trailers is not None:
            return False
        if self.tap is not None:
            payload = _payload_of_few(piece)
            if payload is not None:
                self._payload += len(piece)
                self.tap(payload)
            return payload is not None
        run = _RUN.match(piece)
        if run is None or run.end() < len(piece):
            return False
        self._payload += len(piece)
        return True

    def _follow(self, piece: bytes, payload: list[bytes]) -> int:
        """Follow chunks to the end of the piece, or of the last chunk's line; return where."""
        position, size = 0, len(piece)
        wanted = self.payload_only or self.tap is not None
        picked_apart = wanted or self._strict
        # What is picked apart has to be found again by the same pattern.
        run_of_small = _STRICT_RUN if picked_apart else _RUN
        while position < size and self._trailers is None:
            if self._remaining:
                step = min(self._remaining, size - position)
                if wanted:
                    payload.append(piece[position : position + step])
                self._remaining -= step
                self._payload += step
                self._footer = not self._remaining
                position += step
                continue
            if not self._footer and (run := run_of_small.match(piece, position)):
                if picked_apart:
                    data = self._pick_apart(piece, position, run.end())
                    if wanted:
                        payload.append(data)
                else:
                    self._payload += run.end() - position
                position = run.end()
                continue
            end = piece.find(b"\r\n", position)
            if self._footer:
                if end != position and piece[position:] != b"\r":
                    raise FramingError("chunk data does not end where its size says")
                self._footer = end < 0
            elif end >= 0:
                self._read_size(piece[position:end])
            if end < 0:
                self._hold(piece[position:], _MAX_LINE, _SIZE_BEGUN)
                return size
            position = end + 2
        return position

    def _pick_apart(self, piece: bytes, start: int, end: int) -> bytes:
        """Count a run of whole small chunks, and return its payload."""
        chunks = _FIND_SMALL_CHUNK.findall(piece, start, end)
        data = b"".join([chunk[chunk.index(b"\n") + 1 : -2] for chunk in chunks])
        self._payload += len(data)
        self._count_lines(end - start - len(data))
        return data

    @property
    def between_chunks(self) -> bool:
        """Tell whether a chunk may be put in here."""
        return self._trailers is None and not (self._remaining or self._footer or self._line)

    @property
    def announced(self) -> int:
        """Bytes of payload seen and announced: a chunk's size counts before its data has come.

        Of a client, that is; see the class.
        """
        return self._payload + self._remaining

    def eof(self) -> None:
        """Refuse: the last chunk and the empty line behind it have not been seen."""
        if not self.ended:
            raise FramingError("closed before the last chunk")

    def _hold(self, line: bytes, most: int, begun: re.Pattern[bytes]) -> None:
        if len(line) > most:
            raise FramingError("a line in the chunked body is too long")
        if not begun.fullmatch(line):
            raise FramingError("a line in the chunked body is malformed")
        self._line = line

    def _read_size(self, line: bytes) -> None:
        match = self._size_line.fullmatch(line) if len(line) <= _MAX_LINE else None
        if match is None:
            raise FramingError("illegal chunk size line")
        self._count_lines(len(line) + 4 + (_EXTENSION_COST if match[2] else 0))
        self._remaining = int(match[1], 16)
        if not self._remaining:
            self._trailers = 0

    def _count_lines(self, count: int) -> None:
        self._lines += count
        if self._lines > _LINES_ALLOWANCE + _LINES_A_BYTE * self._payload:
            raise FramingError("more lines between the chunks than data")

    def _read_trailers(self, piece: bytes, position: int) -> None:
        assert self._trailers is not None
        while position < len(piece):
            end = piece.find(b"\r\n", position)
            if end < 0:
                self._hold(piece[position:], _MAX_TRAILERS, _TRAILER_BEGUN)
                return
            line = piece[position:end]
            position = end + 2
            if not line:
                self.ended = True
                self.excess = piece[position:]
                return
            self._trailers += len(line) + 2
            if self._trailers > _MAX_TRAILERS or not _TRAILER_LINE.fullmatch(line):
                raise FramingError("illegal trailer section")


def _payload_of_few(piece: bytes) -> bytes | None:
    """Return what is in a few whole chunks, or None if the piece is anything else."""
    line = piece.find(b"\r\n", 0, 5)
    if _FEW_SIZES.get(piece[:line]) == len(piece) - line - 4 and piece.endswith(b"\r\n"):
        return piece[line + 2 : -2]  # most often it is one
    payload = b""
    end = 0
    for _ in range(_FEW):
        line = piece.find(b"\r\n", end, end + 5)
        size = _FEW_SIZES.get(piece[end:line])
        if size is None:
            return None
        start = line + 2
        end = start + size + 2
        if piece[end - 2 : end] != b"\r\n":
            return None
        payload += piece[start : end - 2]
        if end == len(piece):
            return payload
    return None
