"""Where a body ends, against h11's reader and against the grammar, whatever way it is cut up."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swproxy.http.framing import (
    Body,
    ChunkedBody,
    ContentLengthBody,
    FramingError,
    UntilCloseBody,
)

NEXT = b"GET /next HTTP/1.1\r\n\r\n"


@dataclass(frozen=True)
class Outcome:
    """How a body was understood: its payload, whether it ended, and what was left over."""

    payload: bytes
    ended: bool
    excess: bytes = b""


def follow(body: Body, pieces: Iterable[bytes]) -> Outcome:
    """Feed `pieces` until the body ends; raises FramingError."""
    forwarded = b""
    rest = iter(pieces)
    while not body.ended:
        piece = next(rest, None)
        if piece is None:
            return Outcome(forwarded, ended=False)
        forwarded += bytes(body.feed(piece))
    return Outcome(forwarded, ended=True, excess=body.excess + b"".join(rest))


def bytewise(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Return `data` cut at `places`, no piece of it empty."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


def read_with_h11(data: bytes) -> Outcome | None:
    """Return what h11 makes of a chunked body, or None if it refuses it."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert isinstance(connection.next_event(), h11.Request)
    connection.receive_data(data)
    payload = b""
    try:
        while (event := connection.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.EndOfMessage):
                return Outcome(payload, ended=True, excess=bytes(connection.trailing_data[0]))
            assert isinstance(event, h11.Data)
            payload += event.data
    except h11.RemoteProtocolError:
        return None
    return Outcome(payload, ended=False)


WELL_FORMED = {
    "empty": (b"0\r\n\r\n", b""),
    "one chunk": (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "two chunks": (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
    "upper and lower case": (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
    "leading zeros": (b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
    "a chunk that looks like framing": (b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n"),
    "an extension": (b"5;name=value\r\nhello\r\n0;last\r\n\r\n", b"hello"),
    "a quoted extension": (b'5;n="v;\\"w"\r\nhello\r\n0\r\n\r\n', b"hello"),
    "a trailer": (b"5\r\nhello\r\n0\r\nChecksum: x\r\nOther:\r\n\r\n", b"hello"),
    "a trailer that would be a head": (
        b"0\r\nContent-Length: 9\r\nAuthorization: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"",
    ),
}

MALFORMED = {
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "a signed size": b"+5\r\nhello\r\n0\r\n\r\n",
    "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "a size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a size with an underscore": b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "a size in other digits": "\u0665\r\nhello\r\n0\r\n\r\n".encode(),
    "a size too long": b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    "a size that overflows": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "a size in another base": b"g\r\nhello\r\n0\r\n\r\n",
    "white space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "two sizes": b"5 5\r\nhello\r\n0\r\n\r\n",
    "a comma": b"5,5\r\nhello\r\n0\r\n\r\n",
    "a bare LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "a bare CR after the size": b"5\rhello\r\n0\r\n\r\n",
    "nothing but LFs": b"5\nhello\n0\n\n",
    "NUL in the size": b"5\x00\r\nhello\r\n0\r\n\r\n",
    "a bare LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a bare CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "NUL in an extension": b"5;a\x00\r\nhello\r\n0\r\n\r\n",
    "an extension without a name": b"5;\r\nhello\r\n0\r\n\r\n",
    "an extension without a value": b"5;a=\r\nhello\r\n0\r\n\r\n",
    "a quote that does not end": b'5;a="b\r\nhello\r\n0\r\n\r\n',
    "an extension that is no token": b"5;a@b\r\nhello\r\n0\r\n\r\n",
    "a second extension that is none": b"5;a;;b\r\nhello\r\n0\r\n\r\n",
    "data longer than its size": b"4\r\nhello\r\n0\r\n\r\n",
    "data shorter than its size": b"6\r\nhello\r\n0\r\n\r\n",
    "a bare LF after the data": b"5\r\nhello\n0\r\n\r\n",
    "a bare CR after the data": b"5\r\nhello\r0\r\n\r\n",
    "nothing after the data": b"5\r\nhello0\r\n\r\n",
    "a bare LF after the last chunk": b"0\n\r\n",
    "a bare LF at the end": b"0\r\n\n",
    "a trailer without a colon": b"0\r\nChecksum\r\n\r\n",
    "a trailer without a name": b"0\r\n: x\r\n\r\n",
    "a folded trailer": b"0\r\nChecksum: x\r\n y\r\n\r\n",
    "white space before a trailer's colon": b"0\r\nChecksum : x\r\n\r\n",
    "a bare LF in a trailer": b"0\r\nChecksum: x\ny: z\r\n\r\n",
    "a bare CR in a trailer": b"0\r\nChecksum: x\ry: z\r\n\r\n",
    "NUL in a trailer": b"0\r\nChecksum: \x00\r\n\r\n",
    "trailers without end": b"0\r\n" + b"a: b\r\n" * 2000 + b"\r\n",
    "a trailer without end": b"0\r\na: " + b"b" * 9000,
    "a size line without end": b"5;" + b"a" * 1100,
    "more extensions than data": (b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 20 + b"0\r\n\r\n",
    "an extension for each byte": b"1;a\r\nx\r\n" * 200 + b"0\r\n\r\n",
}

STRICT_ONLY = {
    "an extension that ends in a blank": b"5;a \r\nhello\r\n0\r\n\r\n",
    "a blank after the size": b"5 \r\nhello\r\n0\r\n\r\n",
}
"""What an upstream may write, since it harms nobody there, and a client may not."""

STRICT = pytest.mark.parametrize("strict", [True, False], ids=["request", "answer"])


def in_all_pieces(data: bytes) -> list[list[bytes]]:
    return [[data], bytewise(data), [*bytewise(data), NEXT], [data + NEXT]]


@STRICT
@pytest.mark.parametrize("name", WELL_FORMED)
def test_a_chunked_body_ends_at_its_last_byte(name: str, strict: bool) -> None:
    data, payload = WELL_FORMED[name]
    for pieces in in_all_pieces(data):
        outcome = follow(ChunkedBody(payload_only=True, strict=strict), pieces)
        excess = NEXT if b"".join(pieces) != data else b""
        assert outcome == Outcome(payload, ended=True, excess=excess)


@pytest.mark.parametrize("name", WELL_FORMED)
def test_chunks_are_forwarded_as_they_came_without_trailers(name: str) -> None:
    data, payload = WELL_FORMED[name]
    forwarded = {follow(ChunkedBody(), pieces).payload for pieces in in_all_pieces(data)}
    assert len(forwarded) == 1
    (verbatim,) = forwarded
    assert verbatim.endswith(b"\r\n\r\n")
    assert data.startswith(verbatim.removesuffix(b"\r\n"))
    assert read_with_h11(verbatim) == Outcome(payload, ended=True)


@STRICT
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_body_is_refused_however_it_arrives(name: str, strict: bool) -> None:
    data = MALFORMED[name]
    for pieces in in_all_pieces(data):
        for payload_only in (True, False):
            with pytest.raises(FramingError):
                follow(ChunkedBody(payload_only=payload_only, strict=strict), pieces)


@pytest.mark.parametrize("name", STRICT_ONLY)
def test_an_upstream_may_write_what_a_client_may_not(name: str) -> None:
    data = STRICT_ONLY[name]
    for pieces in in_all_pieces(data):
        assert follow(ChunkedBody(payload_only=True), pieces).payload == b"hello"
        with pytest.raises(FramingError):
            follow(ChunkedBody(payload_only=True, strict=True), pieces)


HOPELESS = {
    "an LF for a CRLF": b"5\n",
    "a word for a size": b"hello",
    "a request for a size": b"G",
    "an LF for the CRLF behind the data": b"5\r\nhello\n",
    "a word behind the last chunk": b"0\r\nhello world",
    "a blank behind the last chunk": b"0\r\n ",
}


@STRICT
@pytest.mark.parametrize("name", HOPELESS)
def test_nobody_waits_for_the_end_of_a_hopeless_line(name: str, strict: bool) -> None:
    for pieces in ([HOPELESS[name]], bytewise(HOPELESS[name])):
        with pytest.raises(FramingError):
            follow(ChunkedBody(strict=strict), pieces)


@pytest.mark.parametrize("name", WELL_FORMED)
def test_a_chunked_body_that_stops_before_its_end_is_no_whole_one(name: str) -> None:
    data, _ = WELL_FORMED[name]
    for stop in range(len(data)):
        body = ChunkedBody()
        assert not follow(body, [data[:stop]] if stop else []).ended
        with pytest.raises(FramingError):
            body.eof()


def test_chunks_of_a_byte_are_followed_whatever_their_number() -> None:
    for strict in (True, False):
        whole = b"1\r\nx\r\n" * 30_000 + b"0\r\n\r\n"
        assert (
            follow(ChunkedBody(payload_only=True, strict=strict), [whole]).payload == b"x" * 30_000
        )
        assert follow(ChunkedBody(strict=strict), [whole]).payload == whole


def test_a_client_s_zeros_are_not_followed_without_end() -> None:
    whole = b"000000000001\r\nx\r\n" * 3000 + b"0\r\n\r\n"
    with pytest.raises(FramingError):
        follow(ChunkedBody(payload_only=True, strict=True), [whole])


def test_a_chunk_is_announced_before_its_data() -> None:
    body = ChunkedBody(strict=True)
    body.feed(b"3\r\nabc\r\nff")
    assert body.announced == 3
    body.feed(b"\r\n")
    assert body.announced == 3 + 0xFF


SIZES = st.sampled_from(
    [b"0", b"1", b"5", b"05", b"a", b"A", b"10", b"ffff", b"0" * 17, b"f" * 16, b"1" * 21]
) | st.sampled_from(
    [b"", b"+1", b"-1", b"0x1", b"1_0", b" 1", b"1 ", b"1\t", b"g", b"\xd9\xa5", b"1,1"]
)
EXTENSIONS = st.sampled_from(
    [b""] * 6
    + [b";a", b";a=b", b'; a = "b;c"', b";", b";=", b' ;a="', b"; ;", b";a\x00", b";a\r", b";a\n"]
)
ENDS = st.sampled_from([b"\r\n"] * 6 + [b"\n", b"\r", b"", b"\r\r\n", b"\n\n", b"\n\r"])
DATA = st.binary(max_size=20)
TRAILERS = st.sampled_from(
    [b""] * 4
    + [b"a: b\r\n", b"a:\r\n", b"a\r\n", b" a: b\r\n", b"a : b\r\n", b"a: b\n"]
    + [b"a: b\r\n c\r\n", b"a: \x00\r\n", b"Content-Length: 5\r\n", b"a: \x7f\x01\r\n"]
)


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    """Return a chunk, mostly a good one."""
    data = draw(DATA)
    size = b"%x" % len(data) if draw(st.integers(0, 7)) else draw(SIZES)
    return size + draw(EXTENSIONS) + draw(ENDS) + data + draw(ENDS)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Return a chunked body, or something that resembles one, with or without what follows it."""
    parts = draw(st.lists(chunks(), max_size=4))
    last = b"0" + draw(EXTENSIONS) + draw(ENDS) + draw(TRAILERS) + draw(ENDS)
    follows = draw(st.sampled_from([b"", b"", NEXT, b"\r\n"]))
    return b"".join(parts) + last + follows


def outcome_or_none(body: Body, pieces: Sequence[bytes]) -> Outcome | None:
    try:
        return follow(body, pieces)
    except FramingError:
        return None


@settings(max_examples=300, deadline=None)
@given(
    data=st.one_of(bodies(), bodies(), st.binary(max_size=60)),
    places=st.lists(st.integers(0, 1000), max_size=12),
    strict=st.booleans(),
)
@example(data=b"1\r\na\r\n0\r\n\r\n", places=[], strict=True)
@example(data=b"1\r\na\r\n0\r\na: b\r\n\r\n" + NEXT, places=list(range(40)), strict=False)
def test_a_body_ends_where_h11_ends_it_or_is_refused(
    data: bytes, places: list[int], strict: bool
) -> None:
    """Of what both accept, payload, end and rest are the same; what h11 refuses is refused.

    More is refused: lines that end in a bare LF, folded trailers, control characters, sizes of 17
    to 20 digits, lines and trailers that are too long, extensions that break the grammar, and of a
    client blanks behind them. And earlier: a line that can't become a good one is not waited for.
    """
    pieces = cut(data, places)
    expected = read_with_h11(data)
    outcome = outcome_or_none(ChunkedBody(payload_only=True, strict=strict), pieces)
    whole = outcome_or_none(ChunkedBody(payload_only=True, strict=strict), [data] if data else [])
    assert outcome == whole
    if outcome is not None:
        assert expected is not None or not outcome.ended
    if outcome is not None and outcome.ended:
        assert outcome == expected
    verbatim = outcome_or_none(ChunkedBody(strict=strict), pieces)
    assert (verbatim is None) == (outcome is None)
    if verbatim is not None and outcome is not None:
        assert verbatim.ended == outcome.ended
        if verbatim.ended:
            # What is forwarded means the same, and carries neither trailers nor anything behind.
            assert read_with_h11(verbatim.payload) == Outcome(outcome.payload, ended=True)


@settings(max_examples=300, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40) | st.integers(1, 600), max_size=30),
    written=st.sampled_from([b"%x", b"%X", b"00%x"]),
    trailers=st.sampled_from([b"", b"a: b\r\n", b"Content-Length: 3\r\nx:\r\n"]),
    follows=st.sampled_from([b"", NEXT]),
    places=st.lists(st.integers(0, 1000), max_size=30),
)
def test_every_well_formed_body_is_accepted_however_it_is_cut(
    sizes: list[int], written: bytes, trailers: bytes, follows: bytes, places: list[int]
) -> None:
    # Data that reads like what stands around it.
    payloads = [(b"\r\n1\r\na\r\n0\r\n\r\n" * 40)[-size:] for size in sizes]
    data = b"".join(written % len(each) + b"\r\n%b\r\n" % each for each in payloads)
    data += b"0\r\n" + trailers + b"\r\n" + follows
    outcome = follow(ChunkedBody(payload_only=True, strict=True), cut(data, places))
    assert outcome == Outcome(b"".join(payloads), ended=True, excess=follows)


@pytest.mark.parametrize("length", [0, 1, 5])
def test_a_body_of_known_length_ends_after_its_last_byte(length: int) -> None:
    data = b"hello"[:length]
    assert follow(ContentLengthBody(length), [data]) == Outcome(data, ended=True)
    assert follow(ContentLengthBody(length), bytewise(data)) == Outcome(data, ended=True)
    if length:
        outcome = follow(ContentLengthBody(length), [data + NEXT])
        assert outcome == Outcome(data, ended=True, excess=NEXT)


def test_a_body_of_known_length_that_stops_early_is_no_whole_one() -> None:
    body = ContentLengthBody(5)
    assert follow(body, [b"hell"]) == Outcome(b"hell", ended=False)
    with pytest.raises(FramingError):
        body.eof()


def test_bytes_behind_a_body_of_no_length_are_in_excess() -> None:
    body = ContentLengthBody(0)
    assert bytes(body.feed(b"extra")) == b""
    assert body.excess == b"extra"


def test_a_body_until_close_ends_with_the_connection_and_not_before() -> None:
    body = UntilCloseBody()
    assert follow(body, [b"0\r\n\r\n", b"more"]) == Outcome(b"0\r\n\r\nmore", ended=False)
    body.eof()
    assert body.ended
