"""How much may be called, read as people write it."""

import pytest

from swproxy.policy.allowances import (
    NO_ALLOWANCE,
    Allowance,
    Pace,
    TokenBudget,
    parse_pace,
    parse_token_budget,
)


@pytest.mark.parametrize(
    ("text", "pace"),
    [
        ("20/minute", Pace(20, 60, 20)),
        ("1/second", Pace(1, 1, 1)),
        ("5000/hour burst 10", Pace(5000, 3600, 10)),
        ("3/day burst 100", Pace(3, 86400, 100)),
    ],
)
def test_a_pace(text: str, pace: Pace) -> None:
    assert parse_pace(text) == pace
    assert pace.per_second == pace.count / pace.seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "20", "0/minute", "20/month", "20 / minute", "-1/minute", "2e3/day", "1.5/second"),
        *("20/minute burst", "20/minute burst 0", "20/minuteburst 5", "20/minute\n", "٣/minute"),
    ],
)
def test_what_is_no_pace_is_told_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r'"20/minute burst 5"'):
        parse_pace(text)


@pytest.mark.parametrize("window", ["minute", "hour", "day", "month"])
def test_a_budget(window: str) -> None:
    budget = parse_token_budget(f"50000/{window}")
    assert (budget.count, budget.window) == (50000, window)


@pytest.mark.parametrize("text", ["", "5/second", "0/day", "5/day burst 2", "5", "5/Day"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(ValueError, match=r'"50000/day"'):
        parse_token_budget(text)


def test_an_allowance_of_nothing_in_particular_is_false() -> None:
    assert not NO_ALLOWANCE
    assert Allowance(requests=Pace(1, 1, 1))
    assert Allowance(concurrent=1)
    assert Allowance(tokens=TokenBudget(1, "day"))
