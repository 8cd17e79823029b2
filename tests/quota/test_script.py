"""The script within the server says what `decide` says, whatever is asked, in any order."""

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swproxy.quota.accounts import Account, Taken
from swproxy.quota.checks import Budget, Check, End, Moment, Places, Rate, Uses
from swproxy.quota.decide import State, decide, settled
from swproxy.quota.windows import MICROS, Period
from tests.support.ledgers import NOON, ValkeyStore, app, call, url, user
from tests.support.redis_server import REDIS, VALKEY

periods = st.sampled_from(list(Period))
rates = st.builds(Rate, st.integers(1, 9), st.sampled_from([1, 60, 3600]), st.integers(1, 5))
checks: st.SearchStrategy[Check] = st.one_of(
    rates,
    st.builds(Places, st.integers(1, 3)),
    # Only a URL's budget is for life.
    st.builds(Budget, st.integers(1, 50), periods.filter(lambda each: each is not Period.LIFE)),
)
accounts = st.tuples(
    st.lists(checks, max_size=3, unique_by=lambda check: check.name).map(lambda c: app(*c)),
    st.lists(checks, max_size=3, unique_by=lambda check: check.name).map(lambda c: user(*c)),
    st.integers(1, 3).map(lambda n: url(Uses(n), Budget(40, Period.LIFE), expires=2**52)),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.sampled_from([0.1, 1, 59, 3600, 90_000, 3_000_000])),
        st.tuples(st.just("back"), st.sampled_from([0.5, 60, 3600])),
        st.tuples(st.just("take"), st.integers(0, 30)),
        st.tuples(st.just("settle"), st.sampled_from([None, 0, 3, 70, "returned"])),
    ),
    max_size=25,
)
many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(params=[REDIS, VALKEY])
def store(request: pytest.FixtureRequest) -> ValkeyStore:
    return ValkeyStore(request.param)


@many
@given(accounts, steps)
def test_every_decision_is_the_same(
    store: ValkeyStore, who: tuple[Account, ...], what: list[tuple[str, object]]
) -> None:
    trio.run(_compare, store, who, what)


async def _compare(
    store: ValkeyStore, who: tuple[Account, ...], what: list[tuple[str, object]]
) -> None:
    store.server.command("FLUSHALL")
    store.clock.now = NOON
    states: list[State] = [{} for _ in who]
    running: list[tuple[Taken, Taken]] = []
    async with store.ledger() as ledger:
        for step, value in what:
            if step == "pass":
                assert isinstance(value, int | float)
                store.clock.now += round(value * MICROS)
            elif step == "back":
                assert isinstance(value, int | float)
                store.clock.set_back(value)
            at = Moment(store.clock.now, "one", lambda _: True)
            if step == "take":
                assert isinstance(value, int)
                asked = call(*who, tokens=value)
                at.tokens = value
                mine, after = decide(asked, states, at)
                states = after or states
                theirs = await ledger.admit(asked)
                if isinstance(mine, Taken):
                    assert isinstance(theirs, Taken), theirs
                    running.append((mine, theirs))
                else:
                    assert theirs == mine
            elif step == "settle" and running:
                mine, theirs = running.pop(0)
                end = End(returned=True) if value == "returned" else End(tokens=value)  # type: ignore[arg-type]
                at.tokens = mine.call.tokens
                states = settled(mine, states, at, end)
                ledger.settle(theirs, end)


@many
@given(st.integers(915_148_800, 7_258_118_400), periods)
def test_windows_are_the_same(store: ValkeyStore, second: int, period: Period) -> None:
    now = second * MICROS

    async def ask() -> None:
        store.server.command("FLUSHALL")
        store.clock.now = now
        someone = user(Budget(10, period))
        async with store.ledger() as ledger:
            await ledger.admit(call(someone, tokens=1))
            states = await ledger.parts([someone.key])
            part = states[someone.key][f"tokens/{period.value}"]
            assert tuple(part[:2]) == period.window(now)

    trio.run(ask)
