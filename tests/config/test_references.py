"""References in configured text: what they stand for, and that nothing is expanded twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy.config.references import BadReferenceError, Reference, expand, split

VALUES = {"A": "one", "B_2": "two ${A}", "EMPTY": ""}


def resolve(reference: Reference) -> str:
    if reference.path:
        return f"<{reference.path}>"
    if reference.name not in VALUES:
        raise BadReferenceError(f"{reference} is not there")
    return VALUES[reference.name]


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("", ""),
        ("plain $ { } $A text", "plain $ { } $A text"),
        ("${A}", "one"),
        ("Bearer ${A}!", "Bearer one!"),
        ("${A}${A}", "oneone"),
        ("${EMPTY}", ""),
        ("${B_2}", "two ${A}"),  # what a variable holds is never expanded itself
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$${", "${"),
        ("${file:key}", "<key>"),
        ("${file:a b/c.txt}", "<a b/c.txt>"),
        ("${file:/etc/key}", "</etc/key>"),
    ],
)
def test_expand(text: str, expanded: str) -> None:
    assert expand(text, resolve) == expanded


@pytest.mark.parametrize(
    "text",
    [
        "${",
        "${}",
        "${A",
        "${1A}",
        "${A-B}",
        "${ A}",
        "${file:}",
        "${file: x}",
        "${sk-123}",
        "${A${A}}",
    ],
)
def test_what_is_no_reference_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(BadReferenceError) as caught:
        expand(text, resolve)
    assert "begins no reference" in str(caught.value)
    assert "sk-123" not in str(caught.value)


def test_every_missing_reference_is_named_once() -> None:
    with pytest.raises(BadReferenceError) as caught:
        expand("${X}-${Y}-${X}-${A}", resolve)
    assert str(caught.value) == "${X} is not there; ${Y} is not there"


def test_split_keeps_the_parts_in_order() -> None:
    assert split("a ${B} $${ ${file:c}") == [
        "a ",
        Reference(name="B"),
        " ",
        "${",
        " ",
        Reference(path="c"),
    ]


@given(st.text())
def test_any_text_survives_when_escaped(text: str) -> None:
    assert expand(text.replace("${", "$${"), resolve) == text
