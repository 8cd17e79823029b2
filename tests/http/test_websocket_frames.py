"""The frame tracker, held against frames that a real library wrote, cut at every place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

from swproxy.http.websocket_frames import GOING_AWAY, FrameTracker, close_frame

Shape = tuple[Opcode, int, bool]

FRAMES = st.tuples(
    st.sampled_from([Opcode.CONT, Opcode.TEXT, Opcode.BINARY, Opcode.PING, Opcode.PONG]),
    st.sampled_from([0, 1, 125, 126, 127, 65535, 65536]),
    st.booleans(),
)


def written(shape: Shape, *, mask: bool) -> bytes:
    opcode, size, final = shape
    if opcode in (Opcode.PING, Opcode.PONG):
        return Frame(opcode, bytes(min(size, 125))).serialize(mask=mask)
    return Frame(opcode, bytes(size), final).serialize(mask=mask)


@given(st.lists(FRAMES, max_size=5), st.booleans(), st.data())
def test_boundaries_are_found_however_the_frames_are_cut(
    frames: list[Shape], mask: bool, data: st.DataObject
) -> None:
    pieces = [written(frame, mask=mask) for frame in frames]
    whole = b"".join(pieces)
    ends = {0}
    for piece in pieces:
        ends.add(max(ends) + len(piece))
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=20))
    near = [min(len(whole), max(0, end + step)) for end in ends for step in range(-2, 15)]
    tracker = FrameTracker()
    position = 0
    for cut in sorted({*cuts, *near, len(whole)}):
        if cut == position:
            continue
        part = memoryview(whole)[position:cut]
        assert tracker.feed(part) is part
        assert tracker.at_boundary == (cut in ends)
        position = cut
    assert not tracker.closing
    assert not tracker.ended


@given(st.lists(FRAMES, max_size=3), st.booleans())
def test_a_close_frame_is_noticed(frames: list[Shape], mask: bool) -> None:
    before = b"".join(written(frame, mask=mask) for frame in frames)
    close = Frame(Opcode.CLOSE, Close(1000, "bye").serialize()).serialize(mask=mask)
    tracker = FrameTracker()
    for start in range(0, len(before), 1021):
        tracker.feed(before[start : start + 1021])
    assert not tracker.closing
    tracker.feed(close)
    assert tracker.closing
    assert tracker.at_boundary


@given(st.lists(st.sampled_from([*range(12), 31, 32, 125, 126, 127, 128, 160, 254, 255, 0x88])))
def test_small_frames_end_at_once_where_they_end_byte_by_byte(values: list[int]) -> None:
    data = bytes(values)
    whole, bytewise = FrameTracker(), FrameTracker()
    whole.feed(data)
    for value in values:
        bytewise.feed(bytes((value,)))
    assert (whole.at_boundary, whole.closing) == (bytewise.at_boundary, bytewise.closing)
    whole.feed(b"\x81\x00")
    bytewise.feed(b"\x81\x00")
    assert whole.at_boundary == bytewise.at_boundary


def test_any_bytes_are_followed_without_complaint() -> None:
    tracker = FrameTracker()
    tracker.feed(b"\xff\xff" + b"\xff" * 8)  # a length that no frame may have
    assert not tracker.at_boundary
    tracker.feed(b"x" * 100000)
    assert not tracker.at_boundary
    tracker.eof()
    assert tracker.ended


@pytest.mark.parametrize(("status", "reason"), [(1001, ""), (1008, "x" * 123), (1008, "Over.")])
def test_what_is_said_at_the_end_is_a_close_frame(status: int, reason: str) -> None:
    for masked in (False, True):
        reader = StreamReader()
        reader.feed_data(close_frame(status, reason, masked=masked))
        with pytest.raises(StopIteration) as whole:
            next(Frame.parse(reader.read_exact, mask=masked))
        frame = whole.value.value
        assert frame.opcode is Opcode.CLOSE
        assert Close.parse(frame.data) == Close(status, reason)
    # Section 5.3: unpredictable.
    assert close_frame(status, reason, masked=True) != close_frame(status, reason, masked=True)


def test_a_close_frame_has_no_room_for_more() -> None:
    with pytest.raises(ValueError, match="123 characters"):
        close_frame(GOING_AWAY, "x" * 124, masked=False)
