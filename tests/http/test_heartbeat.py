"""Where a comment may stand in an event stream, against a reader of event streams."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy.http.heartbeat import COMMENT, EventBoundary


def read(stream: bytes) -> list[list[bytes]]:
    """Return the fields of each event as WHATWG HTML section 9.2.6 has them read."""
    text = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[list[bytes]] = []
    fields: list[bytes] = []
    for line in text.split(b"\n")[:-1]:
        if line.startswith(b":"):
            continue
        if line:
            fields.append(line)
        elif fields:
            events.append(fields)
            fields = []
    return [*events, fields]


NEWLINES = [b"\n", b"\r\n", b"\r"]


@pytest.mark.parametrize("newline", NEWLINES)
def test_a_comment_at_a_boundary_changes_nothing(newline: bytes) -> None:
    lines = [
        b"event: a",
        b"data: 1",
        b"",
        b"data: 2",
        b"data: 3",
        b"",
        b": x",
        b"",
        b"data: 4",
        b"",
    ]
    stream = newline.join([*lines, b""])
    boundaries = 0
    for place in range(len(stream) + 1):
        boundary = EventBoundary()
        boundary.feed(stream[:place])
        if boundary.at_boundary:
            boundaries += 1
            assert read(stream[:place] + COMMENT + stream[place:]) == read(stream)
    assert boundaries >= 5


@given(
    pieces=st.lists(st.sampled_from([b"\n", b"\r\n", b"\r", b"data: x", b":", b"event: y", b""])),
    places=st.lists(st.integers(0, 200)),
)
def test_however_it_is_cut(pieces: list[bytes], places: list[int]) -> None:
    stream = b"".join(pieces)
    whole = EventBoundary()
    whole.feed(stream)
    ends = sorted({place % (len(stream) + 1) for place in places} | {0, len(stream)})
    boundary = EventBoundary()
    for start, end in itertools.pairwise(ends):
        boundary.feed(memoryview(stream)[start:end])
    assert boundary.at_boundary == whole.at_boundary


def test_a_stream_that_has_not_begun_is_at_a_boundary() -> None:
    assert EventBoundary().at_boundary
