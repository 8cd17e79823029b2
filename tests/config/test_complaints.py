"""pydantic's complaints in our words: what was expected, what kind was found, and never what."""

from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from swproxy.config.complaints import translate, unknown_key


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    size: int = 0


class Model(Inner):
    count: int = Field(1, ge=1, lt=10)
    ratio: float = Field(0.5, gt=0, le=1)
    flag: bool = False
    names: Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=2)] = ("a",)
    table: dict[str, str] = {}
    inner: Inner = Inner()
    needed: str


def complaints(**given: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"needed": "x"} | given)
    found = translate(caught.value, lambda _: ["count", "ratio"], {"ratios": "[limits]"})
    return [f"{'.'.join(map(str, place))} {reason}" for place, reason in found]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"count": "s3cret"}, ["count expects a whole number, got text"]),
        ({"count": 1.0}, ["count expects a whole number, got a number"]),
        ({"count": True}, ["count expects a whole number, got true or false"]),
        ({"count": 0}, ["count has to be at least 1"]),
        ({"count": 10}, ["count has to be less than 10"]),
        ({"ratio": 0}, ["ratio has to be more than 0"]),
        ({"ratio": 2}, ["ratio has to be at most 1"]),
        ({"ratio": True}, ["ratio expects a number, got true or false"]),
        ({"ratio": float("inf")}, ["ratio has to be a finite number"]),
        ({"flag": 1}, ["flag expects true or false, got a whole number"]),
        ({"names": "s3cret"}, ["names expects a list, got text"]),
        ({"names": ["s3cret", 2]}, ["names.1 expects text, got a whole number"]),
        ({"names": []}, ["names needs at least 1 of them, has 0"]),
        ({"names": ["a"] * 3}, ["names takes at most 2 of them, has 3"]),
        ({"table": "s3cret"}, ["table expects a table, got text"]),
        ({"inner": 3}, ["inner expects a table, got a whole number"]),
        ({"needed": 3}, ["needed expects text, got a whole number"]),
        ({"cuont": "s3cret"}, ['cuont is not a key: did you mean "count"?']),
        ({"ratios": "s3cret"}, ["ratios is not a key here: it belongs in [limits]"]),
        ({"zzz": "s3cret"}, ["zzz is not a key"]),
    ],
)
def test_translate(given: dict[str, object], expected: list[str]) -> None:
    assert complaints(**given) == expected


def test_a_list_is_not_too_short_when_its_only_item_is_wrong() -> None:
    assert complaints(names=[3]) == ["names.0 expects text, got a whole number"]


def test_what_is_required_is_missed() -> None:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate({})
    assert translate(caught.value, lambda _: [], {}) == [(("needed",), "is required")]


def test_suggestions_see_through_case_and_hyphens() -> None:
    assert unknown_key("Head-Bytes", ["head_bytes"], {}).endswith('"head_bytes"?')
