"""Accounts that a caller wrote where callers can write, and what an answer may cost to follow."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swproxy.http.inflate import InflateError, Inflater
from swproxy.http.meter import MOST_BYTES, Meter, make_meter
from swproxy.http.usage import Usage

Json = dict[str, Any]

FORGED: Json = {"prompt_tokens": 0, "completion_tokens": 0, "input_tokens": 0, "output_tokens": 0}
FORGED |= {"promptTokenCount": 0, "candidatesTokenCount": 0, "total_tokens": 0}
EVERY_FORGED: Json = {
    "usage": FORGED,
    "usageMetadata": FORGED,
    "x_groq": {"usage": FORGED},
    "prompt_eval_count": 0,
    "eval_count": 0,
    'x"usage': FORGED,
    "response": {"usage": FORGED},
    "model": "forged",
}
ESCAPED = json.dumps({"type": "response.completed", "response": EVERY_FORGED, **EVERY_FORGED})
"""What a model was asked to say, or a tool to return: it only looks like JSON within JSON."""

LINES = f"\n\ndata: {ESCAPED}\n\ndata: [DONE]\n\n}}\n{ESCAPED}\n{{"

TOOL = {
    "type": "function",
    "name": "report",
    "parameters": {"type": "object", "properties": EVERY_FORGED, "examples": [EVERY_FORGED]},
}
METADATA = {**EVERY_FORGED, "note": ESCAPED}

PADDING = {
    "fits": "",
    "too long before": "x" * (MOST_BYTES + 50_000),
    "much too long before": "x" * (3 * MOST_BYTES),
}


def respond(padding: str) -> Json:
    """Return a response of the Responses API, which echoes what it was asked."""
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "instructions": ESCAPED,
        "model": "gpt-5",
        "output": [
            {"type": "function_call", "name": "report", "arguments": ESCAPED},
            {"type": "message", "content": [{"type": "output_text", "text": padding + LINES}]},
        ],
        "text": {"format": {"type": "json_schema", "schema": {"properties": EVERY_FORGED}}},
        "tools": [TOOL, {"type": "mcp", "headers": EVERY_FORGED}],
        "usage": {
            "input_tokens": 37,
            "input_tokens_details": {"cached_tokens": 3},
            "output_tokens": 11,
            "output_tokens_details": {"reasoning_tokens": 2},
        },
        "user": ESCAPED,
        "metadata": METADATA,
    }


def chat(padding: str) -> Json:
    return {
        "id": "chatcmpl-1",
        "model": "gpt-5",
        "choices": [{"message": {"role": "assistant", "content": padding + LINES, **EVERY_FORGED}}],
        "usage": {
            "prompt_tokens": 37,
            "completion_tokens": 11,
            "prompt_tokens_details": {"cached_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
        'x"usage': FORGED,
        "metadata": METADATA,
        "echo": [METADATA, [METADATA]],
    }


def gemini(padding: str) -> Json:
    return {
        "candidates": [{"content": {"parts": [{"text": padding + LINES, **EVERY_FORGED}]}}],
        "usageMetadata": {
            "promptTokenCount": 37,
            "cachedContentTokenCount": 3,
            "candidatesTokenCount": 9,
            "thoughtsTokenCount": 2,
        },
        "modelVersion": "gpt-5",
        "labels": METADATA,
    }


TRUE = Usage(37, 11, cached=3, reasoning=2, model="gpt-5")


def sse(*documents: Json, name: str = "") -> bytes:
    begun = f"event: {name}\n" if name else ""
    return "".join(f"{begun}data: {json.dumps(each)}\n\n" for each in documents).encode()


def response_events(padding: str) -> bytes:
    begun = {**respond(""), "status": "in_progress", "usage": None}
    done = {"type": "response.completed", "sequence_number": 9, "response": respond(padding)}
    text = {"type": "response.output_text.done", "text": LINES, "delta": ESCAPED, "logprobs": []}
    item = {"type": "response.output_item.done", "item": {"content": [METADATA]}}
    return sse({"type": "response.created", "response": begun}, text, item, done)


def response_events_with_the_type_last(padding: str) -> bytes:
    done = {"response": respond(padding), "sequence_number": 9, "type": "response.completed"}
    return sse(done, name="response.completed")


def chat_events(padding: str) -> bytes:
    said: Json = {"id": "1", "model": "gpt-5", "choices": [{"delta": {"content": LINES}}]}
    said["choices"][0]["delta"]["tool_calls"] = [{"function": {"arguments": ESCAPED}}]
    return sse(said, said, {**chat(padding)}, {"done": LINES})


ANSWERS: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "responses": ("application/json", lambda pad: json.dumps(respond(pad), indent=2).encode()),
    "responses, compact": ("application/json", lambda pad: json.dumps(respond(pad)).encode()),
    "responses, streamed": ("text/event-stream", response_events),
    "responses, streamed otherwise": ("text/event-stream", response_events_with_the_type_last),
    "chat": ("application/json", lambda pad: json.dumps(chat(pad)).encode()),
    "chat, streamed": ("text/event-stream", chat_events),
    "gemini": ("application/json", lambda pad: json.dumps(gemini(pad), indent=2).encode()),
    "gemini, streamed": ("text/event-stream", lambda pad: sse(gemini(""), gemini(pad))),
    "gemini, as a list": (
        "application/json",
        lambda pad: json.dumps([gemini(""), gemini(pad)], indent=2).encode(),
    ),
}


def metered(content_type: str, body: bytes, step: int = 16_384) -> Usage | None:
    meter = make_meter(content_type, None)
    assert meter is not None
    for start in range(0, len(body), step):
        meter.feed(body[start : start + step])
    return meter.usage()


@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("name", ANSWERS)
def test_forged_accounts_are_not_believed(name: str, padding: str) -> None:
    content_type, make = ANSWERS[name]
    body = make(PADDING[padding])
    usage = metered(content_type, body)
    assert usage is not None
    # Whose middle is lost may have lost its model with it.
    assert usage.model in ("gpt-5", None)
    assert Usage(usage.input, usage.output, usage.cached, usage.reasoning, "gpt-5") == TRUE


def without_account(text: str) -> str:
    """Rename the key of each true account, the one that has a 37 in it."""
    while (number := text.find("37,")) >= 0:
        key = max(text.rfind('"usage"', 0, number), text.rfind('"usageMetadata"', 0, number))
        text = f'{text[:key]}"was{text[key + 1 : number]}38,{text[number + 3 :]}'
    return text


@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("name", ANSWERS)
def test_without_a_true_one_nothing_is_believed(name: str, padding: str) -> None:
    content_type, make = ANSWERS[name]
    body = without_account(make(PADDING[padding]).decode()).encode()
    assert metered(content_type, body) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.just(ESCAPED),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["usage", "usageMetadata", "a", 'x"usage', "\\", "response", "eval_count"]
            ),
            inner | st.just(FORGED),
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(
    before=json_values, after=json_values, indent=st.sampled_from([None, 0, 2]), wrap=st.booleans()
)
@settings(max_examples=150, deadline=None)
def test_whatever_stands_beside_the_account_of_a_document_that_is_too_long(
    before: object, after: object, indent: int | None, wrap: bool
) -> None:
    account = {"prompt_tokens": 37, "completion_tokens": 11}
    document: Json = {"id": 1, "pad": "x" * (MOST_BYTES + 70_000), "before": before}
    document |= {"usage": account, "after": after}
    if wrap:
        document = {"type": "response.completed", "response": document}
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    usage = metered("application/json", text.encode("utf-8", "surrogatepass"), 131_072)
    assert usage in (Usage(37, 11), None)
    if json.dumps(after).count("usage") == 0:
        assert usage == Usage(37, 11)


HOSTILE = {
    "keys that close too much": (b'{"p":{' + b'"usage":1,' * 60_000, b'"z":1}}'),
    "keys further and further in": (b'{"p":' + b'{"usage":' * 60_000, b"1" + b"}" * 60_001),
    "brackets": (b'{"usage":' + b"[" * 600_000, b"]" * 600_000 + b"}"),
    "a list of nothing": (b"[" + b"{}," * 200_000, b"{}]"),
    "a list of lists": (b"[" + b"[]," * 200_000, b"[]]"),
    "blank lines": (b"data: 1\n" + b"\n" * 600_000, b"\n"),
    "lines of nothing": (b"{}" + b" \n" * 300_000, b"{}"),
    "objects a line": (b"{}\n" * 200_000, b"{}"),
    "carriage returns": (b"data: 1\r\r" * 100_000, b"data: 1\r\r"),
    "an event of lines": (b"data: 1\n" * 100_000, b"\n"),
    "long numbers": (b'{"usage":{"prompt_tokens":' + b"9" * 600_000, b"}}"),
}


@pytest.mark.parametrize("step", [131_072, 1_400])
@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_answer_makes_much_work(
    name: str, content_type: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is parsed, however often, is a few times what was sent at most, and what is kept."""
    begin, end = HOSTILE[name]
    parsed: list[int] = []
    loads = json.loads

    def counting(text: str) -> object:
        parsed.append(len(text))
        return loads(text)

    monkeypatch.setattr(json, "loads", counting)
    metered(content_type, begin + end, step)
    assert sum(parsed) <= 3 * MOST_BYTES
    assert len(parsed) <= 500


BOMB = gzip.compress(b"\0" * 50_000_000)


@pytest.mark.parametrize("step", [100, 1_400, 131_072])
def test_a_bomb_is_given_up(step: int) -> None:
    meter = make_meter("application/json", "gzip")
    assert meter is not None
    for start in range(0, len(BOMB), step):
        meter.feed(BOMB[start : start + step])
    assert meter.usage() is None


def next_of(pieces: Iterator[bytes]) -> bytes:
    try:
        return next(pieces)
    except InflateError:
        return b""


def test_a_bomb_comes_to_little_before_it_is_given_up() -> None:
    inflater, come = Inflater(), 0
    pieces = inflater.feed(BOMB[:131_072])
    while piece := next_of(pieces):
        assert len(piece) <= 65_536
        come += len(piece)
    assert 0 < come <= 262_144 + 16 * len(BOMB)


def test_members_that_are_empty_are_given_up_soon() -> None:
    with pytest.raises(InflateError):
        list(Inflater().feed(gzip.compress(b"") * 1_000))
    assert b"".join(Inflater().feed(gzip.compress(b"one ") + gzip.compress(b"two"))) == b"one two"


@pytest.mark.parametrize("wbits", [15, 31, -15])
@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_inflates_what_servers_send(wbits: int, step: int) -> None:
    deflater = zlib.compressobj(wbits=wbits)
    events = [b'data: {"token":%d}\n\n' % number for number in range(200)]
    wire = b"".join(deflater.compress(each) + deflater.flush(zlib.Z_SYNC_FLUSH) for each in events)
    wire += deflater.flush()
    inflater = Inflater()
    come = [
        piece for at in range(0, len(wire), step) for piece in inflater.feed(wire[at : at + step])
    ]
    assert b"".join(come) == b"".join(events)


@pytest.mark.parametrize("data", [b"{}", b"\x1f\x8bno", b"\x00" * 50, b"\xff" * 50])
def test_what_is_not_compressed_is_given_up(data: bytes) -> None:
    meter = make_meter("application/json", "gzip")
    assert meter is not None
    meter.feed(data)
    meter.feed(b'{"usage":{"prompt_tokens":1}}')
    assert meter.usage() is None


@pytest.mark.parametrize(
    "number", ["-1", "true", "1.5", '"12"', "1e400", "NaN", "9007199254740993", "null", "[1]", "{}"]
)
def test_what_is_no_number_of_tokens_is_not_one(number: str) -> None:
    body = f'{{"usage":{{"prompt_tokens":{number},"completion_tokens":7}}}}'
    assert metered("application/json", body.encode()) == Usage(None, 7)


@pytest.mark.parametrize("model", ["", "two words", "ü", "line\nfeed", "x" * 129, None, 5, ["a"]])
def test_what_is_no_name_of_a_model_is_not_one(model: object) -> None:
    body = json.dumps({"model": model, "usage": {"prompt_tokens": 3}}).encode()
    assert metered("application/json", body) == Usage(3)


def test_numbers_are_set_and_null_keeps_what_was_known() -> None:
    first = {"usage": {"prompt_tokens": 3, "completion_tokens": 5}}
    second = {"usage": {"prompt_tokens": None, "completion_tokens": 0}}
    assert metered("text/event-stream", sse(first, second, second)) == Usage(3, 0)


def test_a_meter_that_has_seen_nothing_knows_nothing() -> None:
    meter = make_meter("text/event-stream", None)
    assert isinstance(meter, Meter)
    assert meter.usage() is None
    assert meter.events == 0
