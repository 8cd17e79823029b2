"""Bodies against terms: what is met, what is not, and what cannot be told."""

import json
from typing import Any

import pytest

from swproxy.policy.body_judge import judge_body
from swproxy.policy.json_body import read_object
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.terms import read_pairs

CHAT = (
    "body.model=gpt-5-mini,gpt-5-nano&body.max_completion_tokens=1..800"
    "&body.stream_options.include_usage=true&body.messages.0.role=system,user&body=only"
)
GOOD: dict[str, Any] = {
    "model": "gpt-5-mini",
    "max_completion_tokens": 800,
    "stream_options": {"include_usage": True},
    "messages": [{"role": "user", "content": "Hello"}],
}


def judge(terms: str, body: dict[str, Any] | str) -> None:
    read = read_pairs(terms)
    data = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    judge_body(read_object(data.encode()), read.body, only=read.body_only)


def refusal(terms: str, body: dict[str, Any] | str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        judge(terms, body)
    return caught.value


def unmet(terms: str, body: dict[str, Any] | str) -> str:
    found = refusal(terms, body)
    assert found.code == "terms-not-met"
    return found.detail


def uncheckable(terms: str, body: dict[str, Any] | str) -> str:
    found = refusal(terms, body)
    assert found.code == "body-not-checkable"
    return found.detail


def test_a_body_that_meets_its_terms_passes() -> None:
    judge(CHAT, GOOD)
    judge("user=42", {"anything": 1})


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (
            {"model": "gpt-5"},
            "The term 'body.model' is not met: it has to be 'gpt-5-mini,gpt-5-nano'.",
        ),
        (
            {"max_completion_tokens": 801},
            "The term 'body.max_completion_tokens' is not met: it has to be '1..800'.",
        ),
        (
            {"max_completion_tokens": "800"},
            "The term 'body.max_completion_tokens' is not met: it has to be '1..800'.",
        ),
        (
            {"stream_options": {}},
            "The term 'body.stream_options.include_usage' is not met: it is not there.",
        ),
        (
            {"stream_options": None},
            "The term 'body.stream_options.include_usage' is not met: it is not there.",
        ),
        (
            {"stream_options": "yes"},
            (
                "The term 'body.stream_options.include_usage' is not met:"
                " there is no object where it should have one."
            ),
        ),
        ({"messages": []}, "The term 'body.messages.0.role' is not met: it is not there."),
        (
            {"messages": [{"role": "assistant"}]},
            "The term 'body.messages.0.role' is not met: it has to be 'system,user'.",
        ),
        (
            {"tools": []},
            "The term 'body' is not met: the body has 'tools', which no term mentions.",
        ),
    ],
)
def test_a_page_is_told_which_term_is_not_met(change: dict[str, Any], detail: str) -> None:
    assert unmet(CHAT, {**GOOD, **change}) == detail


@pytest.mark.parametrize("number", ["1.0", "1e2", "1E0", "-0", "0", "801", "100.5", '"1"', "true"])
def test_whole_bounds_take_whole_numbers_as_they_are_written(number: str) -> None:
    assert "has to be '1..800'" in unmet("body.n=1..800", f'{{"n":{number}}}')
    assert "has to be '1'" in unmet("body.n=1", f'{{"n":{number}}}')


def test_minus_zero_is_no_whole_number_but_in_other_bounds() -> None:
    assert unmet("body.n=0..800", '{"n":-0}')
    judge("body.n=0.0..1", '{"n":-0}')
    judge("body.n=0..800", '{"n":0}')


@pytest.mark.parametrize(
    "number", ["0.0", "0.5", "1", "1.5", "15e-1", "0.1", "1.49999999999999999"]
)
def test_other_bounds_take_any_number(number: str) -> None:
    judge("body.n=0..1.5", f'{{"n":{number}}}')


def test_bounds_are_compared_exactly() -> None:
    # As doubles the two are equal.
    assert unmet("body.n=..1.5", '{"n":1.50000000000000000001}')
    assert unmet("body.n=0.1", '{"n":0.10000000000000000001}')


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 10**300])
def test_a_whole_number_that_doubles_do_not_hold_is_not_checkable(number: int) -> None:
    assert "beyond 2^53" in uncheckable("body.n=1..", {"n": number})
    assert "beyond 2^53" in uncheckable("body.n=a", {"n": number})
    judge("body.m=1", {"m": 1, "n": number})
    judge("body.n=..9007199254740992", {"n": 2**53})


@pytest.mark.parametrize(
    "name",
    [
        "Max_Tokens",
        "MAX_TOKENS",
        "max_to\u212aens",
        "max_token\u017f",
        "maxTokens",
        "max__tokens",
        "max_tokens_",
        "max_tokens\\u0000",
        "max_tokens\\u0000x",
    ],
)
def test_no_name_may_become_one_that_a_term_is_about(name: str) -> None:
    for terms in ("body.max_tokens=1..8", "body.max_tokens?=1..8", "body.max_tokens=-"):
        for body in (f'{{"{name}":9}}', f'{{"{name}":9,"max_tokens":1}}'):
            found = refusal(terms, body)
            assert found.code == "body-not-checkable"
            assert "for another" in found.detail


@pytest.mark.parametrize("name", ["L\u0131m\u0131t", "L\u0130MIT", "LIMIT"])
def test_the_letter_i_has_no_dot_to_lose(name: str) -> None:
    assert "for another" in uncheckable("body.limit?=1", {name: 2})


def test_look_alikes_are_sought_at_every_level_of_a_path_and_nowhere_else() -> None:
    terms = "body.a.b.c?=1"
    assert uncheckable(terms, {"A": {}})
    assert uncheckable(terms, {"a": {"B": {}}})
    assert uncheckable(terms, {"a": {"b": {"C": 2}}})
    judge(terms, {"a": {"b": {"c": 1}, "x": {"B": 1, "A": 2}}, "B": 1, "C": 2})
    assert uncheckable("body.m.0.role=user", {"m": [{"role": "user", "Role": "system"}]})
    judge("body.m.0.role=user", {"m": [{"role": "user"}, {"Role": "system"}]})
    judge("body.role=a&body.Role=b", {"role": "a", "Role": "b"})


def test_a_name_may_be_absent_where_it_says_so() -> None:
    judge("body.n?=1..8", {})
    judge("body.n?=1..8", {"n": 8})
    judge("body.a.n?=1..8", {})
    judge("body.a.n?=1..8", {"a": None})
    judge("body.a.0.n?=1..8", {"a": []})
    assert "it has to be '1..8'" in unmet("body.n?=1..8", {"n": None})
    assert "it has to be '1..8'" in unmet("body.n?=1..8", {"n": 9})
    assert "not there" in unmet("body.n=1..8", {})


def test_a_dash_says_that_it_must_not_be_there() -> None:
    judge("body.tools=-", {})
    judge("body.messages.2=-", {"messages": [1, 2]})
    judge("body.a.b=-", {"a": {}})
    there: tuple[object, ...] = (None, [], {}, False, "-")
    for value in there:
        assert "must not be there" in unmet("body.tools=-", {"tools": value})
    assert "must not be there" in unmet("body.messages.2=-", {"messages": [1, 2, None]})


@pytest.mark.parametrize("index", ["00", "-1", "01", "1e0", "first", "+0", "9" * 30])
def test_only_a_plain_number_is_an_item(index: str) -> None:
    found = unmet(f"body.m.{index}=a", {"m": ["a"]})
    assert "there is a list" in found or "not there" in found
    judge(f"body.m.{index}=a", {"m": {index: "a"}})


def test_a_number_is_a_name_where_there_is_an_object() -> None:
    judge("body.m.0=a", {"m": {"0": "a"}})
    assert unmet("body.m.0=a", {"m": {"1": "a"}})


@pytest.mark.parametrize("value", [{}, [], {"a": 1}, ["a"]])
def test_an_object_and_a_list_are_no_text_or_number(value: object) -> None:
    assert unmet("body.a=*,0..,true,null", {"a": value})


def test_names_with_dots_and_other_characters() -> None:
    judge("body.a%2Eb.%3F%25%26=x", {"a.b": {"?%&": "x"}})
    assert unmet("body.a%2Eb=x", {"a": {"b": "x"}})


def test_texts_are_compared_letter_by_letter() -> None:
    assert unmet("body.a=caf%C3%A9", {"a": "cafe\u0301"})
    assert unmet("body.a=a", {"a": "a\0"})
    assert unmet("body.a=a", {"a": " a"})
    judge("body.a=a", '{"a":"\\u0061"}')
    judge("body.a=%F0%9F%98%80", '{"a":"\\ud83d\\ude00"}')


def test_a_term_mentions_a_name_by_the_first_part_of_its_path() -> None:
    judge("body.a.b=1&body=only", {"a": {"b": 1, "c": 2}})
    judge("body.a?=1&body=only", {})
    judge("body.a=-&body=only", {})
    assert "has 'b'" in unmet("body.a=1&body=only", {"a": 1, "b": 2})
    assert "has 'a'" in unmet("body=only", {"a": 1})
    judge("body=only", {})


def test_many_terms_and_many_names_take_no_time_to_speak_of() -> None:
    terms = "&".join(f"body.{number:x}?=1" for number in range(250))
    body = {f"x{number}": number for number in range(15_000)}
    judge(terms, body)
