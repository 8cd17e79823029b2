"""Where WebSocket frames end, without looking at what is in them (RFC 6455 section 5.2).

A tunnel relays bytes verbatim and leaves it to the two ends to judge them: masks, reserved bits,
text that is no UTF-8 pass as they came. The one thing that a relay has to know is where a frame of
its own may be put, for it may have to say goodbye: between two frames, even between the fragments
of one message (section 5.4). So a tracker reads the lengths of the frames that go by in one
direction and nothing else; a piece inside a large frame costs it a subtraction, and a run of small
frames, of which a piece may hold tens of thousands, one match of a regular expression.
"""

import os
import re

__all__ = ["GOING_AWAY", "POLICY_VIOLATION", "FrameTracker", "close_frame"]

_CLOSE = 0x8
_MASKED = 0x80

_LONGEST_CONTROL = 125
"""Bytes of a control frame's payload (section 5.5)."""

GOING_AWAY = 1001
POLICY_VIOLATION = 1008
"""Section 7.4.1: an endpoint, or what stands for it, goes down; it was sent what it won't have."""


_SMALL = 32
"""Bytes of payload that a small frame has less than; larger ones are too few to matter."""


def _byte(value: int) -> bytes:
    return b"\\x%02x" % value


def _lengths(flag: int, mask_bytes: int) -> bytes:
    """Return the pattern of a length below _SMALL, and of the mask and the payload behind it."""
    lengths = [
        _byte(flag | length) + b".{%d}" % (mask_bytes + length) for length in range(1, _SMALL)
    ]
    most = _byte(flag | _SMALL - 1)
    empty = _byte(flag) + b".{%d}" % mask_bytes
    # Without the look ahead, whatever is none of them is compared with each of them.
    return b"(?=[%b-%b])(?:%b)" % (_byte(flag), most, b"|".join((empty, *lengths)))


_NOT_CLOSE = b"[^%b]" % b"".join(_byte(_CLOSE | high << 4) for high in range(16))
_SMALL_REST = b"|".join(
    (
        _lengths(0, 0),
        _lengths(_MASKED, 4),
        # The same lengths in more bytes than they need.
        rb"\x7e\x00%b|\xfe\x00%b" % (_lengths(0, 0), _lengths(0, 4)),
        rb"\x7f\x00{7}%b|\xff\x00{7}%b" % (_lengths(0, 0), _lengths(0, 4)),
    )
)
_SMALL_BUT_CLOSE = re.compile(b"(?>(?s:%b(?:%b)))++" % (_NOT_CLOSE, _SMALL_REST))
_SMALL_FRAMES = re.compile(b"(?>(?s:.(?:%b)))++" % _SMALL_REST)


class FrameTracker:
    """Follows the frames of one direction; stands where the pump has a body's framing.

    `closing` is set once a Close frame has gone by. `ended` is set by the end of the stream alone:
    when to end the connection is up to the two ends.
    """

    __slots__ = ("_held", "_left", "closing", "ended", "excess")

    def __init__(self) -> None:
        self.closing = False
        self.ended = False
        self.excess = b""
        self._left = 0
        self._held = b""

    @property
    def at_boundary(self) -> bool:
        """Tell whether the next byte begins a frame."""
        return not self._left and not self._held

    def feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """Return all of `data`."""
        if len(data) <= self._left:
            self._left -= len(data)
        else:
            self._follow(self._held + bytes(data) if self._held else data)
        return data

    def eof(self) -> None:
        """Take the end of the stream; whether it came too early is not for a relay to say."""
        self.ended = True

    def _follow(self, data: bytes | memoryview) -> None:
        size = len(data)
        position = self._left
        while size - position >= 2:
            small = _SMALL_FRAMES if self.closing else _SMALL_BUT_CLOSE
            if run := small.match(data, position):
                position = run.end()
                continue
            if data[position] & 0x0F == _CLOSE:
                self.closing = True
            length = data[position + 1]
            header = 2
            if length & _MASKED:
                length -= _MASKED
                header = 6
            if length > 125:
                more = 2 if length == 126 else 8
                if size - position < 2 + more:
                    break
                length = int.from_bytes(data[position + 2 : position + 2 + more], "big")
                header += more
            position += header + length
        self._held = bytes(data[position:])
        self._left = max(0, position - size)


def close_frame(status: int, reason: str = "", *, masked: bool) -> bytes:
    """Return a Close frame (section 5.5.1); clients' frames are masked (section 5.3).

    `reason` is ASCII, and short enough for a control frame.
    """
    payload = status.to_bytes(2, "big") + reason.encode("ascii")
    if len(payload) > _LONGEST_CONTROL:
        raise ValueError(f"reason: a control frame has room for {_LONGEST_CONTROL - 2} characters")
    if not masked:
        return bytes((0x88, len(payload))) + payload
    mask = os.urandom(4)
    masking = bytes([byte ^ mask[place % 4] for place, byte in enumerate(payload)])
    return bytes((0x88, _MASKED | len(payload))) + mask + masking
