"""Bodies that every reader reads alike, and the reasons why others are not checkable."""

import json
import sys
import threading
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy.policy.json_body import DEEPEST, MOST_CONTAINERS, MOST_TEXTS, MOST_VALUES, read_object
from swproxy.policy.problems import PROBLEMS
from swproxy.sw1.refusal import Refusal


def reason(body: bytes | str) -> str:
    with pytest.raises(Refusal) as caught:
        read_object(body.encode() if isinstance(body, str) else body)
    assert caught.value.code == "body-not-checkable"
    assert caught.value.status in (None, PROBLEMS["body-not-checkable"].status)
    start = "The body cannot be checked: "
    assert caught.value.detail.startswith(start)
    return caught.value.detail.removeprefix(start)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON), st.booleans())
def test_what_a_json_library_writes_is_read(body: dict[str, object], ascii_only: bool) -> None:
    try:
        data = json.dumps(body, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return  # a lone surrogate, which no library should write raw
    try:
        found = read_object(data)
    except Refusal as refusal:
        assert "surrogate" in refusal.detail  # noqa: PT017 - the only fault there can be
        return
    assert found == json.loads(data, parse_float=Decimal)


def test_numbers_keep_how_they_were_written() -> None:
    found = read_object(b'{"a": 1, "b": 1.0, "c": 1e2, "d": -0, "e": 0, "f": -1}')
    assert found == {"a": 1, "b": 1, "c": 100, "d": 0, "e": 0, "f": -1}
    assert [type(found[name]) for name in "abcdef"] == [int, Decimal, Decimal, Decimal, int, int]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "it is not JSON at character 0 (Expecting value)."),
        (b"{", "it is not JSON at character 1"),
        (b'{"a":1}x', "it is not JSON at character 7 (Extra data)."),
        (b'{"a":1}{"a":1}', "it is not JSON at character 7 (Extra data)."),
        (b'{"a":1}\0', "it is not JSON"),
        (b'{"a":1,}', "it is not JSON"),
        (b"{'a':1}", "it is not JSON"),
        (b'{"a":1/*b*/}', "it is not JSON"),
        (b'{"a":01}', "it is not JSON"),
        (b'{"a":.5}', "it is not JSON"),
        (b'{"a":+1}', "it is not JSON"),
        (b'{"a":0x1}', "it is not JSON"),
        (b'{"a":"\n"}', "it is not JSON"),
        (b'{"a":"\\x41"}', "it is not JSON"),
        (b'{"a":True}', "it is not JSON"),
        ('{"a":\u0661}', "it is not JSON"),
        ('\u00a0{"a":1}', "it is not JSON"),
        (b'\x0c{"a":1}', "it is not JSON"),
        (b"[]", "it is not a JSON object."),
        (b'[{"model":"a"}]', "it is not a JSON object."),
        (b'"a"', "it is not a JSON object."),
        (b"null", "it is not a JSON object."),
        (b"1", "it is not a JSON object."),
        (b'\xef\xbb\xbf{"a":1}', "it begins with a byte order mark."),
        ('{"a":1}'.encode("utf-16"), "it is not UTF-8 at byte 0."),
        ('{"a":1}'.encode("utf-16-le"), "it is not JSON"),
        ('{"a":1}'.encode("utf-32-be"), "it is not JSON"),
        (b'{"a":"\xff"}', "it is not UTF-8 at byte 6."),
        (b'{"a":"\xc0\xaf"}', "it is not UTF-8 at byte 6."),
        (b'{"a":"\xed\xa0\x80"}', "it is not UTF-8 at byte 6."),
        (b'{"a":"\xf4\x90\x80\x80"}', "it is not UTF-8 at byte 6."),
        (b'{"a":NaN}', "it has NaN, which is no JSON."),
        (b'{"a":[Infinity]}', "it has Infinity, which is no JSON."),
        (b'{"a":-Infinity}', "it has -Infinity, which is no JSON."),
        (b'{"a":1e400}', "it has a number that is infinite to most readers."),
        (b'{"a":[-1e400]}', "it has a number that is infinite to most readers."),
        (b'{"a":1,"a":1}', "it gives the name 'a' twice in one object."),
        (b'{"a":1,"b":2,"\\u0061":3}', "it gives the name 'a' twice in one object."),
        (b'{"b":[{"c":{"x":1,"y":2,"x":1}}]}', "it gives the name 'x' twice in one object."),
        (b'{"":1,"":2}', "it gives the name '' twice in one object."),
        (b'{"a":"\\ud800"}', "it has half of a surrogate pair, no character."),
        (b'{"a":["\\uDFFF x"]}', "it has half of a surrogate pair, no character."),
        (b'{"\\ud83d":1}', "it has half of a surrogate pair, no character."),
        (b'{"a":[{"b":"\\ude00\\ud83d"}]}', "it has half of a surrogate pair, no character."),
    ],
)
def test_what_readers_differ_on_is_refused(body: bytes | str, why: str) -> None:
    assert why in reason(body)


@pytest.mark.parametrize(
    "body",
    [
        b' \t\r\n{"a":1}\n',
        '{"a":"é\\u00e9😀\\ud83d\\ude00 \\\\ud800 \\/ \u2028 \x7f"}'.encode(),
        b'{"a":{"x":1},"b":{"x":1}}',
        b'{"a":"' + b"[{" * 100 + b'"}',
        b'{"a":' + b"9" * 400 + b"}",
        b'{"a":1e-400}',
        b"{}",
    ],
)
def test_what_all_agree_on_is_read(body: bytes) -> None:
    assert read_object(body) == json.loads(body, parse_float=Decimal)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_depth_is_bounded_by_a_number_and_not_by_the_stack(opening: str, closing: str) -> None:
    step = opening.count("[") + opening.count("{")
    within = (DEEPEST - 1) // step
    assert read_object(f'{{"x":{opening * within}1{closing * within}}}'.encode())
    for more in (within + 1, 200, 990, 5_000):
        assert (
            reason(f'{{"x":{opening * more}1{closing * more}}}')
            == "it is nested more than 64 deep."
        )
    # Which of the two depends on how deep the decoder goes, which is the interpreter's to say.
    unended = reason(f'{{"x":{opening * 5_000}')
    assert "it is nested more than" in unended or "it is not JSON" in unended
    assert "it has more than" in reason(f'{{"x":{opening * 20_000}')


def test_depth_is_the_same_from_a_deep_stack_and_a_thread() -> None:
    body = ('{"x":' * 64 + "1" + "}" * 64).encode()

    def from_depth(frames: int) -> dict[str, object]:
        return from_depth(frames - 1) if frames else read_object(body)

    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(from_depth(100)))
    thread.start()
    thread.join()
    assert found == [from_depth(sys.getrecursionlimit() // 2)]


def test_long_numbers_are_refused_before_they_are_read() -> None:
    longest = "9" * 401
    for number in (longest, f"-{longest}", f"0.{longest}", f"1e{longest}", "9" * 1_000_000):
        assert reason(f'{{"a":{number}}}') == "it has a number of more than 400 characters."


def test_what_a_thread_would_do_in_one_stroke_is_bounded() -> None:
    many = reason(f'{{"a":[{",".join(["[]"] * MOST_CONTAINERS)}]}}')
    assert many == "it has more than 16384 objects and lists, 16384 texts, or 65536 values."
    assert reason(f'{{"a":[{",".join(["1"] * (MOST_VALUES + 1))}]}}') == many
    assert reason(f'{{"a":[{",".join([chr(34) * 2] * MOST_TEXTS)}]}}') == many
    text = json.dumps({"a": '[{",' * 70_000}).encode()
    assert read_object(text)["a"] == '[{",' * 70_000
    at_the_bound = f'{{"a":[{",".join(["[]"] * (MOST_CONTAINERS - 2))}]}}'
    assert len(read_object(at_the_bound.encode())["a"]) == MOST_CONTAINERS - 2


@pytest.mark.parametrize("before", [0, 65530, 65532, 65533, 65534, 65535, 65536, 200_000])
def test_half_of_a_pair_is_found_wherever_it_stands(before: int) -> None:
    text = f'{{"a":"{"x" * before}\\ud800"}}'
    assert reason(text) == "it has half of a surrogate pair, no character."
    assert read_object(text.replace("\\ud800", "\\u0800").encode())


def test_a_refusal_says_nothing_of_the_body_but_a_name() -> None:
    secret = "what-the-user-said"
    for body in (f'{{"a":"{secret}"', f'{{"a":"{secret}","a":1}}', f'{{"a":"{secret}\\ud800"}}'):
        assert secret not in reason(body)
