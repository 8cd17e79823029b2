"""What tokens count for, by model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy.policy.weights import Weight, Weights

WEIGHTS = Weights(
    {
        "gpt-5": Weight(1.25, 10.0, 0.125),
        "gpt-5-mini*": Weight(0.25, 2.0),
        "gpt-*": Weight(2.0, 2.0),
        "local": Weight(0.0, 0.0),
    }
)


@pytest.mark.parametrize(
    ("model", "units"),
    [
        ("gpt-5", 1125 + 13 + 200),  # 900 * 1.25 + 100 * 0.125 + 20 * 10, rounded up
        ("gpt-5-mini", 250 + 40),
        ("gpt-5-mini-2026-01-01", 250 + 40),
        ("gpt-5.4", 2000 + 40),
        ("local", 0),
        ("claude", 1000 + 20),
        (None, 1000 + 20),
    ],
)
def test_the_longest_name_that_fits_decides(model: str | None, units: int) -> None:
    assert WEIGHTS.units(model, 1000, 20, 100) == units


def test_a_star_alone_is_for_every_model_and_for_none() -> None:
    weights = Weights({"*": Weight(3.0, 3.0)})
    assert weights.units("anything", 1, 1) == weights.units(None, 1, 1) == 6


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_without_weights_a_token_is_a_token(read: int, written: int, cached: int) -> None:
    assert Weights().units("gpt-5", read, written, cached) == read + written
    assert WEIGHTS.units("claude", read, written, cached) == read + written


def test_the_most_is_that_of_the_dearest_model() -> None:
    assert WEIGHTS.most(100, 10) == 125 + 100
    assert WEIGHTS.most(1000, 0) == 2000
    assert Weights().most(3, 4) == 7
    assert Weights({"small": Weight(0.1, 0.1)}).most(3, 4) == 7
    assert Weights({"*": Weight(0.1, 0.1)}).most(3, 4) == 1


def test_no_unit_is_added_for_the_last_bit_of_a_float() -> None:
    assert Weights({"*": Weight(0.1, 0.2)}).units("m", 3, 0) == 1
    assert Weights({"*": Weight(1.1, 1.1)}).units("m", 10, 0) == 11
