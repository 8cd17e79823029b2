"""The arithmetic of limits: never more than allowed, waits that are exact, sums in any order."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from swproxy.quota.checks import Budget, Check, End, Moment, Part, Places, Rate, Uses
from swproxy.quota.windows import MICROS, Period

MILLI = 1000
START = 1_790_000_000 * MICROS


def moment(
    now: int, holder: str = "a", tokens: int = 0, dead: frozenset[str] = frozenset()
) -> Moment:
    return Moment(now, holder, lambda each: each not in dead, tokens)


rates = st.builds(
    lambda count, seconds, burst: Rate(count, seconds, min(burst, count)),
    st.integers(1, 40),
    st.sampled_from([1, 60, 3600]),
    st.integers(1, 40),
)
gaps = st.lists(st.integers(0, 90 * MICROS), min_size=1, max_size=120)


@given(rates, gaps)
def test_no_window_ever_has_more_calls_than_a_burst_and_the_pace(
    rate: Rate, gaps: list[int]
) -> None:
    part: Part = None
    taken: list[int] = []
    for now in itertools.accumulate(gaps, initial=START):
        wait, part = rate.take(part, moment(now))
        if wait == 0:
            taken.append(now)
    for i, first in enumerate(taken):
        for j in range(i, len(taken)):
            steady = (taken[j] - first) * rate.count / (rate.seconds * MICROS)
            assert j - i + 1 <= rate.burst + steady


@given(rates, gaps)
def test_a_call_is_taken_at_the_moment_that_it_was_told_and_not_before(
    rate: Rate, gaps: list[int]
) -> None:
    part: Part = None
    for now in itertools.accumulate(gaps, initial=START):
        wait, part = rate.take(part, moment(now))
        if wait:
            for early in {1, min(MILLI, wait), wait}:
                assert rate.take(part, moment(now + wait - early))[0] == early
            assert rate.take(part, moment(now + wait))[0] == 0


@given(rates)
def test_what_is_given_back_was_never_taken(rate: Rate) -> None:
    part: Part = None
    at = moment(START)
    for _ in range(rate.burst):
        wait, part = rate.take(part, at)
        assert wait == 0
    for _ in range(rate.burst):
        part = rate.settle(part, None, at, End(returned=True))
    assert rate.left(part, at) == rate.burst


@given(rates, st.integers(0, 10**10))
def test_a_rate_whose_clock_was_set_back_is_open_again_after_an_interval(
    rate: Rate, back: int
) -> None:
    part: Part = None
    for _ in range(rate.burst):
        part = rate.take(part, moment(START))[1]
    before = moment(START - back)
    wait, part = rate.take(part, before)
    assert wait
    assert 0 < wait <= rate.interval
    assert rate.take(part, moment(before.now + wait))[0] == 0


def test_a_rate_says_what_is_left() -> None:
    rate = Rate(60, 60, 5)
    part: Part = None
    for left in (4, 3, 2, 1, 0):
        part = rate.take(part, moment(START))[1]
        assert rate.left(part, moment(START)) == left
    assert rate.take(part, moment(START)) == (MICROS, part)
    assert rate.left(part, moment(START + MICROS - 1)) == 0
    assert rate.left(part, moment(START + 2 * MICROS)) == 2


@given(st.integers(1, 6), st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=60))
def test_places_are_never_more_than_there_are(count: int, steps: list[tuple[bool, str]]) -> None:
    places = Places(count)
    part: Part = None
    held: list[str] = []
    for enter, holder in steps:
        if enter:
            wait, part = places.take(part, moment(START, holder))
            assert (wait == 0) == (len(held) < count)
            if wait == 0:
                held.append(holder)
        elif holder in held:
            held.remove(holder)
            part = places.settle(part, None, moment(START, holder), End())
        assert places.left(part, moment(START)) == count - len(held)


@given(st.integers(1, 8), st.sets(st.sampled_from("abcd")))
def test_the_dead_hold_nothing(count: int, dead: set[str]) -> None:
    places, budget = Places(count), Budget(count, Period.DAY)
    held: Part = None
    tokens: Part = None
    for i in range(count):
        held = places.take(held, moment(START, "abcd"[i % 4]))[1]
        tokens = budget.take(tokens, moment(START, "abcd"[i % 4], 1))[1]
    alive = sum("abcd"[i % 4] not in dead for i in range(count))
    later = moment(START, "e", 1, frozenset(dead))
    assert places.left(held, later) == budget.left(tokens, later) == count - alive
    if alive < count:
        wait, held = places.take(held, later)
        assert wait == 0
        assert not dead & held.keys()


ended = st.one_of(
    st.just(End(returned=True)), st.builds(End, tokens=st.none() | st.integers(0, 80))
)
calls = st.lists(
    st.tuples(st.integers(0, 50), ended, st.sampled_from("ab")), min_size=1, max_size=12
)


@given(calls, st.data())
def test_reservations_and_settlements_in_any_order_end_at_the_same_number(
    calls: list[tuple[int, End, str]], data: st.DataObject
) -> None:
    budget = Budget(10**6, Period.DAY)
    part: Part = None
    taken: dict[int, Part] = {}
    for i in data.draw(st.permutations([*range(len(calls))] * 2)):
        tokens, end, holder = calls[i]
        at = moment(START, holder, tokens)
        if i not in taken:
            wait, part = budget.take(part, at)
            assert wait == 0
            taken[i] = part
        else:
            part = budget.settle(part, taken[i], at, end)
    used = sum(
        0 if end.returned else tokens if end.tokens is None else end.tokens
        for tokens, end, _ in calls
    )
    assert budget.left(part, moment(START)) == 10**6 - used


@given(
    st.sampled_from([Period.MINUTE, Period.HOUR, Period.DAY, Period.MONTH, Period.LIFE]),
    st.integers(1, 200),
    st.lists(st.tuples(st.integers(0, 3600 * MICROS), st.integers(0, 60)), max_size=60),
)
def test_no_window_of_a_budget_holds_more_than_it(
    period: Period, count: int, steps: list[tuple[int, int]]
) -> None:
    budget = Budget(count, period)
    part: Part = None
    now = START
    sums: dict[int, int] = {}
    for gap, tokens in steps:
        now += gap
        at = moment(now, tokens=tokens)
        wait, part = budget.take(part, at)
        start, end = period.window(now)
        if wait == 0:
            sums[start] = sums.get(start, 0) + tokens
            assert sums[start] <= count
        elif tokens > count or period is Period.LIFE:
            assert wait is None
        else:
            assert wait == end - now
            assert budget.take(part, moment(end, tokens=tokens))[0] == 0
            assert budget.take(part, moment(end - MILLI, tokens=tokens))[0] == MILLI


def test_a_settlement_of_a_former_window_counts_for_none() -> None:
    budget = Budget(100, Period.MINUTE)
    _, old = budget.take(None, moment(START, tokens=60))
    _, part = budget.take(old, moment(START + 60 * MICROS, tokens=40))
    part = budget.settle(part, old, moment(START + 61 * MICROS, tokens=60), End(tokens=80))
    assert budget.left(part, moment(START + 61 * MICROS)) == 60


def test_a_call_may_use_more_than_was_held_for_it_and_the_next_one_pays() -> None:
    budget = Budget(100, Period.DAY)
    at = moment(START, tokens=10)
    _, part = budget.take(None, at)
    part = budget.settle(part, part, at, End(tokens=150))
    assert budget.left(part, at) == 0
    wait, _ = budget.take(part, moment(START, tokens=0))
    assert wait
    assert wait > 0


@given(st.sampled_from([Period.MINUTE, Period.HOUR, Period.DAY]), st.integers(1, 3600))
def test_a_budget_whose_clock_was_set_back_is_neither_renewed_nor_locked_for_long(
    period: Period, back: int
) -> None:
    budget = Budget(10, period)
    _, part = budget.take(None, moment(START, tokens=10))
    now = START - back * MICROS
    wait, part = budget.take(part, moment(now, tokens=1))
    start, end = period.window(START)
    assert wait == (end if period.window(now)[1] >= start else period.window(now)[1]) - now
    assert budget.take(part, moment(now + wait, tokens=1))[0] == 0
    assert budget.take(part, moment(now + wait - MILLI, tokens=1))[0] == MILLI


@given(st.integers(1, 50), st.integers(0, 60))
def test_uses_are_counted_and_given_back(count: int, calls: int) -> None:
    uses = Uses(count)
    part: Part = None
    for i in range(calls):
        wait, part = uses.take(part, moment(START))
        assert wait == (0 if i < count else None)
    assert uses.left(part, moment(START)) == max(0, count - calls)
    if calls:
        part = uses.settle(part, part, moment(START), End(returned=True))
        assert uses.take(part, moment(START))[0] == 0


@given(
    st.sampled_from([Rate(7, 60, 3), Budget(50, Period.HOUR), Places(3), Uses(3)]),
    st.integers(0, 10**11),
)
def test_a_part_says_nothing_any_more_when_it_says_so(check: Check, later: int) -> None:
    at = moment(START, tokens=5)
    _, part = check.take(None, at)
    if isinstance(check, Uses):
        assert check.until(part) == 0  # its account says how long
        return
    part = check.settle(part, part, at, End())
    after = moment(max(START, check.until(part)) + later)
    assert check.left(part, after) == check.left(None, after)
