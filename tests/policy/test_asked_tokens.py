"""What a body asks for is found where an API looks for it, however it is written."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy.policy.asked_tokens import asked_tokens


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b'{"max_completion_tokens": 800}', 800),
        (b'{"max_tokens":800}', 800),
        (b'{"max_output_tokens" : 800 }', 800),
        (b'{"generationConfig":{"maxOutputTokens":800}}', 800),
        (b'{"generation_config":{"max_output_tokens":800}}', 800),
        # Written otherwise, and found all the same.
        (b'{"max_token\\u0073":800,"metadata":{"max_tokens":1}}', 800),
        (b'{"max_tokens":800,"max_tokens":1}', 800),
        (b'{"max_tokens":1,"max_completion_tokens":800}', 800),
        (b'{"Max_Tokens":800,"max_tokens":1}', 800),
        ('{"max_to\u212aens":800}'.encode(), 800),
        (b'{"max_tokens":8e2}', 800),
        (b'{"max_tokens":799.5}', 800),
        (b'{"generationConfig":{"maxOutputTokens":"800"}}', 800),
        (b'{"max_tokens":99999999999999}', 10**9),
        (b'{"max_tokens":1e999}', 10**9),
        # Several answers.
        (b'{"max_tokens":100,"n":8}', 800),
        (b'{"max_tokens":100,"n":null}', 100),
        (b'{"max_tokens":100,"n":0}', 100),
        (b'{"generationConfig":{"maxOutputTokens":100,"candidateCount":8}}', 800),
        # Not said, whatever stands elsewhere.
        (b'{"metadata":{"max_tokens":1}}', None),
        (b'{"messages":[{"max_tokens":1}]}', None),
        (b'{"messages":[{"content":"{\\"max_tokens\\":1}"}]}', None),
        (b'{"max_tokens":null,"x":{"max_tokens":1}}', None),
        (b'{"max_tokens":true}', None),
        (b'{"max_tokens":-1}', None),
        (b'{"max_tokens":"many"}', None),
        (b'{"max_tokens":NaN}', None),
        (b'{"max_tokens":[1]}', None),
        (b'{"generationConfig":{"generationConfig":{"maxOutputTokens":1}}}', None),
        (b'[{"max_tokens":1}]', None),
        (b'[["max_tokens",1]]', None),
        (b'{"max_tokens":1', None),
        (b"max_tokens=1", None),
        (b"\xff", None),
        (b"", None),
        (b"[" * 60_000, None),
        (b'{"max_tokens":' + b"9" * 6000 + b"}", None),
    ],
)
def test_asked(body: bytes, asked: int | None) -> None:
    assert asked_tokens(body) == asked


def test_a_large_body_is_searched_as_far_as_it_is_read() -> None:
    text = b" " * 65536
    assert asked_tokens(b'{"max_tokens":800,"x":"%b"}' % text) == 800
    assert asked_tokens(b'{"x":"%b","max_tokens":800}' % text) is None
    assert asked_tokens(b'{"max_tokens":800,"x":"', whole=False) == 800


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists), st.binary())
def test_whatever_a_body_is(value: object, data: bytes) -> None:
    asked_tokens(data)
    written = json.dumps({"x": value, "max_tokens": 7, "generationConfig": value}).encode()
    assert asked_tokens(written) == 7
