"""Where WebSocket frames end, without looking at what is in them (RFC 6455 section 5.2).

A tunnel relays bytes verbatim and leaves it to the two ends to judge them: masks, reserved bits,
text that is no UTF-8 pass as they came. The one thing that a relay has to know is where a frame of
its own may be put, for it may have to say goodbye: between two frames, even between the fragments
of one message (section 5.4). So a tracker reads the lengths of the frames that go by in one
direction and nothing else; a piece inside a large frame costs it a subtraction.
"""

import os

__all__ = ["GOING_AWAY", "POLICY_VIOLATION", "FrameTracker", "close_frame"]

_CLOSE = 0x8
_MASKED = 0x80

_LONGEST_CONTROL = 125
"""Bytes of a control frame's payload (section 5.5)."""

GOING_AWAY = 1001
POLICY_VIOLATION = 1008
"""Section 7.4.1: an endpoint, or what stands for it, goes down; it was sent what it won't have."""


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
