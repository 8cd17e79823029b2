"""What is signed beside the URL: header values, and a body's length in all its counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy.sw1.claims import parse_target
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.signed_headers import Counts, signed_values
from tests.support.sw1_cases import Request, target_of


def count(pieces: list[bytes]) -> list[bytes]:
    counts = Counts()
    for piece in pieces:
        counts.add(piece)
    return counts.lengths()


@pytest.mark.parametrize(
    ("body", "lengths"),
    [
        (b"", [b"0"]),
        (b"plain", [b"5"]),
        ("café".encode(), [b"5", b"4"]),
        ("😀".encode(), [b"4", b"1", b"2"]),
        (b"\xff\xff", [b"2"]),
        (b"caf\xc3", [b"4"]),
        (b"\xed\xa0\x80", [b"3"]),
        (b"\xf4\x90\x80\x80", [b"4"]),
    ],
)
def test_counts(body: bytes, lengths: list[bytes]) -> None:
    assert count([body]) == lengths
    assert count([body[i : i + 1] for i in range(len(body))]) == lengths


@given(st.text(), st.integers(1, 5))
def test_counts_do_not_depend_on_how_a_body_arrives(text: str, step: int) -> None:
    body = text.encode()
    expected = [len(body), len(text), len(text.encode("utf-16-le")) // 2]
    pieces = [body[i : i + step] for i in range(0, len(body), step)]
    assert count(pieces) == [b"%d" % number for number in dict.fromkeys(expected)]


def test_values_are_trimmed_and_only_those_that_are_signed() -> None:
    claims = parse_target(target_of(Request(headers={"X-Foo": "a", "X-Bar": "b"}).sign()))
    sent = [(b"host", b"h"), (b"x-bar", b" b\t"), (b"x-foo", b"a"), (b"x-baz", b"a\n")]
    assert signed_values(claims, sent) == {"x-foo": b"a", "x-bar": b"b"}


def test_only_a_signed_bodys_length_may_be_absent() -> None:
    with_body = parse_target(target_of(Request(headers={"X-Foo": "a"}, body="b").sign()))
    assert signed_values(with_body, [(b"x-foo", b"a")]) == {"x-foo": b"a"}
    with pytest.raises(Refusal, match="signed-header-missing"):
        signed_values(with_body, [(b"content-length", b"1")])
    without = parse_target(target_of(Request(headers={"Content-Length": "1"}).sign()))
    with pytest.raises(Refusal, match="signed-header-missing"):
        signed_values(without, [])
    with pytest.raises(Refusal, match="signed-header-duplicate"):
        signed_values(without, [(b"content-length", b"1")] * 2)
