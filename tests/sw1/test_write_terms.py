"""Terms as they are written: what is written is read, and nothing is written but a fragment."""

import contextlib
import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy import sign_url
from swproxy.sw1.body_terms import BadTermError
from swproxy.sw1.terms import LONGEST_BYTES, Bounds, Terms, read_terms
from swproxy.sw1.write_terms import stated, written_pairs, written_terms
from tests.support.sw1_cases import DATE, Request, accepted, target_of

FRAGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
"""RFC 3986, section 3.5, written down once more."""


def read(fragment: str) -> Terms:
    found = read_terms(f"https://api.example/#{fragment}")
    assert found is not None
    return found


def signed(terms: dict[str, Any], url: str = "https://api.example/v1/chat") -> str:
    return sign_url(
        "my-id", "my-secret", "https://edge.example", url, 600, "GET", None, None, DATE, terms=terms
    )


def test_terms_are_signed_and_verified() -> None:
    url = signed({"user": "42", "uses": 1, "seconds": 120, "body.model": ["gpt-5-mini"]})
    claims = accepted(target_of(url))
    assert claims is not None
    assert claims.proxy_url == (
        "https://api.example/v1/chat#sw1:user=42&uses=1&seconds=120&body.model=gpt-5-mini"
    )
    assert claims.terms == read("sw1:user=42&uses=1&seconds=120&body.model=gpt-5-mini")


def test_a_changed_term_is_a_changed_url() -> None:
    url = signed({"user": "42"})
    assert accepted(target_of(url.replace("user%3D42", "user%3D43"))) is None


def test_the_url_is_the_published_clients_for_the_same_fragment() -> None:
    terms = {"user": "a+b=é", "body.model": ["gpt-5-mini", "a,b"], "body.n?": range(1, 801)}
    fragment = written_terms(terms)
    request = Request(proxy_url=f"https://api.openai.com/v1/models#{fragment}", host="https://h")
    assert (
        signed(terms, "https://api.openai.com/v1/models").partition("?")[2]
        == (request.sign_with_sdk().partition("?")[2])
    )


@pytest.mark.parametrize("terms", [None, {}])
def test_no_terms_leave_the_url_as_it_is(terms: dict[str, Any] | None) -> None:
    assert signed(terms or {}, "https://api.openai.com/v1/models") == Request().sign()
    assert signed({}, "https://a.example/#frag").endswith(
        Request(proxy_url="https://a.example/#frag").sign()[-64:]
    )


def test_natural_values_are_written_as_the_table_has_them() -> None:
    terms = {
        "bytes": range(2001),
        "client": ["10.0.0.0/8", "::1"],
        "origin": "https://app.example",
        "websocket": False,
        "tag.page": 7,
        "body": "only",
        "body.max?": "1..800",
        "body.min": range(1, 3),
        "body.stream": True,
        "body.n": [None, 0.5, 3],
        "body.a%2Eb": "true",
        "body.id": "42",
        "body.content": "Be kind, be brief.",
        "body.model": "gpt-5-*",
        "body.tools": "-",
        "body.empty": "",
    }
    assert written_terms(terms) == (
        "sw1:bytes=0..2000&client=10.0.0.0/8,::1&origin=https://app.example&websocket=no"
        "&tag.page=7&body=only&body.max?=1..800&body.min=1..2&body.stream=true"
        "&body.n=null,0.5,3&body.a%2Eb=%22true%22&body.id=%2242%22"
        "&body.content=%22Be%20kind,%20be%20brief.%22&body.model=gpt-5-*&body.tools=-"
        "&body.empty=%22%22"
    )
    assert read(written_terms(terms)).length == Bounds(0, 2000)


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"usr": "42"}, "'usr' is no term"),
        ({"user": ""}, "'user' has no value"),
        ({"user": True}, "'user' cannot have a value of the type bool"),
        ({"user": None}, "'user' cannot have a value of the type NoneType"),
        ({"user": b"42"}, "'user' cannot have a value of the type bytes"),
        ({"user": "\ud800"}, "'user' cannot be encoded"),
        ({"uses": 0}, "'uses' has to be a whole number"),
        ({"uses": 1.5}, "'uses' has to be a whole number"),
        ({"seconds": -1}, "'seconds' has to be a number of seconds"),
        ({"seconds": math.inf}, "'seconds' has a number that not every reader can hold"),
        ({"body.n": math.nan}, "'body.n' has a number that not every reader can hold"),
        ({"body.n": 10**5000}, "'body.n' has a number that not every reader can hold"),
        ({"body.n": 2**53 + 1}, "'body.n' has a whole number beyond 2^53"),
        ({"body.n": []}, "'body.n' has an empty list"),
        ({"body.n": [["a"]]}, "'body.n' cannot have a value of the type list"),
        ({"body.n": {"a": 1}}, "'body.n' cannot have a value of the type dict"),
        ({"body.n": range(1, 10, 2)}, "'body.n' has a range() that"),
        ({"body.n": range(0)}, "'body.n' has a range() that"),
        ({"body.n": "a,b*"}, "'body.n' has a text with a comma"),
        ({"body.n": ["a", "-"]}, "'body.n' has a - among others"),
        ({"body.n": 1, "body.%6E": 2}, "'body.%6E' is given twice"),
        ({"body.a%": 1}, "'body.a%' holds a character"),
        ({42: 1}, "'42' is not a str"),
        ({"user": "a" * 129}, "'user' has to be 1 to 128"),
        ({"body.a": "x" * LONGEST_BYTES}, "The terms are longer than 4096 bytes"),
    ],
)
def test_a_term_that_cannot_be_meant_is_named(terms: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=r"^terms: ") as caught:
        signed(terms)
    assert reason in str(caught.value)


def test_a_destination_has_one_fragment() -> None:
    with pytest.raises(ValueError, match="terms: proxy_url has a fragment already"):
        signed({"user": "42"}, "https://api.example/#frag")


def test_terms_are_given_by_name_only_and_left_alone() -> None:
    with pytest.raises(TypeError):
        sign_url("i", "s", "http://h", "http://a", 1, "GET", None, None, DATE, {})  # type: ignore[call-arg]
    terms = {"body.model": ["a"]}
    signed(terms)
    assert terms == {"body.model": ["a"]}


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TRICKY = st.sampled_from(["true", "null", "-1", "1e5", "a,b", "", "é=&", "%25", "a\nb,", "1..x"])
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT | TRICKY
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)


def in_path(name: str) -> str:
    return name.replace("%", "%25").replace(".", "%2E").replace("?", "%3F")


@given(st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map(tuple), SCALARS, min_size=1))
def test_what_is_written_is_read(values: dict[tuple[str, ...], object]) -> None:
    terms = {
        f"body.{'.'.join(map(in_path, path))}": json.dumps(value)
        if isinstance(value, str)
        else value
        for path, value in values.items()
    }
    fragment = written_terms(terms)
    assert FRAGMENT.fullmatch(fragment)
    found = {term.path: term for term in read(fragment).body}
    assert found.keys() == values.keys()
    for path, value in values.items():
        assert found[path].permits(value)
        assert not found[path].permits("another")
        assert found[path].name == f"body.{written_path_again(path)}"


def written_path_again(path: tuple[str, ...]) -> str:
    [term] = read(written_pairs([(f"body.{'.'.join(map(in_path, path))}", "1")])).body
    return term.name.removeprefix("body.")


@given(TEXT | TRICKY)
def test_text_is_read_as_that_text_or_is_one_of_three_forms(text: str) -> None:
    try:
        fragment = written_terms({"body.a": text})
    except BadTermError:
        assert text.startswith('"') or ".." in text or ("," in text and text.endswith("*"))
        return
    [term] = read(fragment).body
    special = text.startswith('"') or text.endswith("*") or ".." in text or text == "-"
    assert special or (term.permits(text) and term.texts == {text})


@given(st.dictionaries(TEXT | st.sampled_from(["user", "tag.a", "body.a", "body"]), TEXT | SCALARS))
def test_whatever_is_written_is_a_fragment(terms: dict[str, object]) -> None:
    try:
        fragment = written_terms(terms)
    except BadTermError:
        return
    assert FRAGMENT.fullmatch(fragment)
    assert len(fragment) <= LONGEST_BYTES


@given(st.text(max_size=40))
def test_whatever_is_read_raises_nothing_but_its_own(text: str) -> None:
    with contextlib.suppress(BadTermError):
        written_pairs([("body.a", text)])


STATED = (
    "user=a%2Bb&uses=3&seconds=0.25&tokens=7&bytes=1..&plan=p&origin=https://a.example,app://b"
    "&client=10.0.0.0/8,::1/128&websocket=no&tag.a=b%20c&body.m%2En.0?=%22a,b%22,c*,1..2,null"
    "&body.tools=-&body=only"
)


def test_what_is_stated_of_terms_is_read_as_the_same() -> None:
    terms = read(f"sw1:{STATED}")
    assert read(written_pairs(stated(terms))) == terms
    assert dict(stated(terms))["seconds"] == "0.25"
    assert stated(read("sw1:websocket=yes")) == [("websocket", "yes")]
