"""What a meter reads off answers in the form of each API, however they are cut up on their way."""

import gzip
import itertools
import tomllib
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swproxy.http.framing import ChunkedBody, ContentLengthBody, PayloadBody, UntilCloseBody
from swproxy.http.meter import MOST_BYTES, Meter, make_meter
from swproxy.http.usage import Usage

DATA = Path(__file__).parent.parent / "data" / "usage"
TYPES = {
    ".sse": "text/event-stream; charset=utf-8",
    ".json": "application/json; charset=UTF-8",
    ".ndjson": "application/x-ndjson",
}
TABLE: dict[str, dict[str, Any]] = tomllib.loads((DATA / "table.toml").read_text())
NAMES = sorted(TABLE)


def expected(name: str) -> Usage | None:
    wanted = TABLE[name]
    if wanted.get("unknown"):
        return None
    return Usage(**{key: value for key, value in wanted.items() if key != "source"})


def body_of(name: str) -> bytes:
    return (DATA / name).read_bytes()


def metered(name: str, pieces: Iterable[bytes], coding: str | None = None) -> Usage | None:
    meter = make_meter(TYPES[Path(name).suffix], coding)
    assert meter is not None
    for piece in pieces:
        meter.feed(piece)
    return meter.usage()


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


def chunked(pieces: Iterable[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces if p) + b"0\r\n\r\n"


def test_every_vector_has_its_row() -> None:
    files = {path.name for path in DATA.iterdir() if path.suffix in TYPES}
    assert files == set(NAMES)
    assert all(row["source"].startswith("https://") for row in TABLE.values())


@pytest.mark.parametrize("name", NAMES)
def test_whole(name: str) -> None:
    assert metered(name, [body_of(name)]) == expected(name)


@pytest.mark.parametrize("name", NAMES)
def test_cut_into_two_at_every_byte(name: str) -> None:
    body = body_of(name)
    for place in range(len(body) + 1):
        assert metered(name, [body[:place], body[place:]]) == expected(name), place


@pytest.mark.parametrize("name", NAMES)
def test_byte_by_byte(name: str) -> None:
    body = body_of(name)
    assert metered(name, [body[at : at + 1] for at in range(len(body))]) == expected(name)


@given(
    name=st.sampled_from(NAMES),
    places=st.lists(st.integers(0, 100_000), max_size=60),
    chunks=st.lists(st.integers(0, 100_000), max_size=60),
    framing=st.sampled_from(["chunked", "chunked to 1.0", "content-length", "until-close"]),
    coding=st.sampled_from([None, "gzip", "deflate"]),
)
@settings(max_examples=300, deadline=None)
def test_behind_every_framing_and_coding(
    name: str, places: list[int], chunks: list[int], framing: str, coding: str | None
) -> None:
    payload = body_of(name)
    if coding:
        payload = gzip.compress(payload) if coding == "gzip" else zlib.compress(payload)
    body: PayloadBody = ContentLengthBody(len(payload))
    wire = payload
    if framing.startswith("chunked"):
        body = ChunkedBody(payload_only=framing.endswith("1.0"))
        wire = chunked(cut(payload, chunks))
    elif framing == "until-close":
        body = UntilCloseBody()
    passed: list[bytes] = []
    body.tap = passed.append
    for piece in cut(wire, places):
        body.feed(memoryview(piece))
    assert b"".join(passed) == payload
    assert metered(name, passed, coding) == expected(name)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".sse")])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_line_ends_of_event_streams(name: str, newline: bytes) -> None:
    body = body_of(name).replace(b"\r\n", b"\n").replace(b"\n", newline)
    assert metered(name, [body]) == expected(name)
    assert metered(name, [body[at : at + 7] for at in range(0, len(body), 7)]) == expected(name)


def filler(name: str, size: int) -> list[bytes]:
    """Return events of the stream's own kind, without an account, as many as make up `size`."""
    if name.endswith(".sse"):
        event = (
            b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"token"}}],"usage":null}\n\n'
        )
    else:
        event = b'{"model":"llama3.2","message":{"role":"assistant","content":"x"},"done":false}\n'
    return [event] * (size // len(event))


@pytest.mark.parametrize("size", [3_000, 5_000, 50_000, 600_000])
@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith(".json")])
def test_long_streams(name: str, size: int) -> None:
    """What the first events say and what the last say are both known however much is between."""
    wire = body_of(name)
    newline = b"\r\n" if b"\r\n" in wire else b"\n"
    end = newline if name.endswith(".ndjson") else newline * 2
    first, _, rest = wire.partition(end)
    between = [event.replace(b"\n", newline) for event in filler(name, size)]
    assert metered(name, [first + end, *between, rest]) == expected(name)
    whole = b"".join([first, end, *between, rest])
    assert metered(name, [whole]) == expected(name)
    assert metered(name, cut(whole, range(0, len(whole), 1_000))) == expected(name)


def test_what_is_kept_is_bounded() -> None:
    meter = make_meter("text/event-stream", None)
    assert isinstance(meter, Meter)
    for event in filler(".sse", 1_000_000):
        meter.feed(event)
        assert sum(map(len, meter._pieces)) <= 4096 + len(event)
    for _ in range(1_000):
        meter.feed(b"data: " + b"x" * 10_000)
        assert sum(map(len, meter._pieces)) <= MOST_BYTES + 10_006


@pytest.mark.parametrize("streamed", [1, 3, 30, 300, 3000])
def test_events_are_counted_about_right(streamed: int) -> None:
    for name in (".sse", ".ndjson"):
        meter = make_meter(TYPES[name], None)
        assert meter is not None
        for event in filler(name, 10_000_000)[:streamed]:
            meter.feed(event)
        assert meter.events == pytest.approx(streamed, rel=0.12, abs=1)


def test_events_are_counted_in_a_list() -> None:
    body = body_of("gemini-list.json")
    meter = make_meter("application/json", None)
    assert meter is not None
    meter.feed(body[:-200])
    assert meter.events == 2


def test_a_stream_that_is_cut_tells_what_it_told() -> None:
    anthropic = body_of("anthropic.sse")
    told = anthropic[: anthropic.index(b"event: message_delta")]
    assert metered("anthropic.sse", [told]) == Usage(25, 1, model="claude-sonnet-4-5-20250929")
    for name in ("gemini.sse", "gemini-list.json"):
        gemini = body_of(name)
        told = gemini[: gemini.index(b"from data")]
        wanted = Usage(8, 516, reasoning=504, model="gemini-2.5-flash")
        assert metered(name, [told]) == wanted


@pytest.mark.parametrize(
    ("content_type", "coding"),
    [
        (None, None),
        ("", None),
        ("text/plain", None),
        ("text/html; charset=utf-8", None),
        ("audio/mpeg", None),
        ("application/vnd.amazon.eventstream", None),
        ("application/json-seq", None),
        ("application/json", "br"),
        ("text/event-stream", "zstd"),
        ("application/json", "gzip, gzip"),
        ("application/json", "aes128gcm"),
    ],
)
def test_what_can_not_be_read_is_said_beforehand(
    content_type: str | None, coding: str | None
) -> None:
    assert make_meter(content_type, coding) is None


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON;charset=utf-8", "application/vnd.api+json", "text/json"],
)
@pytest.mark.parametrize("coding", [None, "", "identity", " Identity "])
def test_what_can_be_read(content_type: str, coding: str | None) -> None:
    meter = make_meter(content_type, coding)
    assert meter is not None
    meter.feed(body_of("openai-chat.json"))
    assert meter.usage() == expected("openai-chat.json")
