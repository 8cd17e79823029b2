"""What every ledger does, whatever store is behind it. Each test runs on each store."""

from datetime import date
from pathlib import Path

import pytest
import trio

from swproxy.quota.accounts import Account, Refused, Taken
from swproxy.quota.checks import Budget, Check, End, Moment, Places, Rate, Uses
from swproxy.quota.ledger import LEASE_SECONDS, Ledger, LedgerDown, Used
from swproxy.quota.revocations import Revocation
from swproxy.quota.windows import MICROS, Period
from tests.support.ledgers import NOON, STORES, Store, app, call, url, user

ALL = Moment(NOON, "", lambda _: True)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return STORES[request.param](tmp_path)


async def take(ledger: Ledger, *accounts: Account, tokens: int = 0) -> Taken:
    outcome = await ledger.admit(call(*accounts, tokens=tokens))
    assert isinstance(outcome, Taken), outcome
    return outcome


async def refuse(ledger: Ledger, *accounts: Account, tokens: int = 0) -> Refused:
    outcome = await ledger.admit(call(*accounts, tokens=tokens))
    assert isinstance(outcome, Refused), outcome
    return outcome


async def left(ledger: Ledger, account: Account, check: Check) -> int:
    states = await ledger.parts([account.key])
    part = states.get(account.key, {}).get(check.name)
    return check.left(part, ALL)


async def test_a_rate_is_one_for_all_nodes_and_says_how_long_to_wait(store: Store) -> None:
    someone = user(Rate(2, 60, 2))
    async with store.ledger() as one, store.ledger() as other:
        await take(one, someone)
        await take(other, someone)
        for ledger in (one, other):
            refused = await refuse(ledger, someone)
            assert (refused.wait, refused.left, refused.account) == (30 * MICROS, 0, someone)
        store.clock.pass_by(29.999)
        assert (await refuse(one, someone)).wait == 1000
        store.clock.pass_by(0.001)
        await take(other, someone)
        await refuse(one, someone)


async def test_all_is_taken_or_nothing(store: Store) -> None:
    rate, places, uses = Rate(10, 60, 10), Places(5), Uses(5)
    budget = Budget(100, Period.DAY)
    everybody, someone, once = app(rate), user(places, budget), url(uses)
    async with store.ledger() as ledger:
        refused = await refuse(ledger, everybody, someone, once, tokens=101)
        assert refused.check == budget
        assert await left(ledger, everybody, rate) == 10
        assert await left(ledger, someone, places) == 5
        assert await left(ledger, once, uses) == 5
        await take(ledger, everybody, someone, once, tokens=100)
        assert await left(ledger, everybody, rate) == 9
        assert await left(ledger, someone, places) == 4
        assert await left(ledger, someone, budget) == 0
        assert await left(ledger, once, uses) == 4


async def test_of_several_refusals_the_longest_is_told(store: Store) -> None:
    places, rate, uses = Places(1), Rate(1, 3600, 1), Uses(1)
    async with store.ledger() as ledger:
        await take(ledger, app(places), user(rate), url(uses))
        assert (await refuse(ledger, app(places), user(rate))).check == rate
        assert (await refuse(ledger, user(rate), app(places))).check == rate
        assert (await refuse(ledger, app(places), url(uses), user(rate))).check == uses
        assert (await refuse(ledger, app(places))).wait == MICROS


async def test_a_place_is_free_again_when_the_call_is_over(store: Store) -> None:
    someone = user(Places(1))
    async with store.ledger() as one, store.ledger() as other:
        taken = await take(one, someone)
        await refuse(other, someone)
        one.settle(taken, End())
        again = await take(other, someone)
        one.settle(taken, End())
        await refuse(one, someone)
        other.settle(again, End())
        await take(one, someone)


async def test_what_never_left_is_given_back(store: Store) -> None:
    rate, places, uses = Rate(1, 3600, 1), Places(1), Uses(1)
    budget = Budget(100, Period.MONTH)
    accounts = app(rate), user(places, budget), url(uses)
    async with store.ledger() as ledger:
        for _ in range(3):
            taken = await take(ledger, *accounts, tokens=100)
            ledger.settle(taken, End(returned=True))
            ledger.settle(taken, End(returned=True))
        taken = await take(ledger, *accounts, tokens=60)
        ledger.settle(taken, End(tokens=60))
        assert (await refuse(ledger, *accounts, tokens=1)).check == uses


async def test_tokens_are_held_and_then_used(store: Store) -> None:
    budget = Budget(100, Period.DAY)
    someone = user(budget)
    async with store.ledger() as one, store.ledger() as other:
        first = await take(one, someone, tokens=60)
        await refuse(other, someone, tokens=60)
        second = await take(other, someone, tokens=40)
        assert await left(one, someone, budget) == 0
        one.settle(first, End(tokens=10))
        assert await left(other, someone, budget) == 50
        other.settle(second, End())
        assert await left(one, someone, budget) == 50
        await refuse(one, someone, tokens=51)
        end = Period.DAY.window(NOON)[1]
        refused = await refuse(one, someone, tokens=51)
        assert refused.wait == end - store.clock.now
        store.clock.pass_by(refused.wait / MICROS)
        await take(other, someone, tokens=100)


async def test_more_than_a_whole_budget_is_never_taken(store: Store) -> None:
    async with store.ledger() as ledger:
        assert (await refuse(ledger, user(Budget(100, Period.DAY)), tokens=101)).wait is None
        once = url(Budget(100, Period.LIFE))
        await take(ledger, once, tokens=60)
        assert (await refuse(ledger, once, tokens=41)).wait is None


async def test_what_a_dead_worker_held_is_free_after_its_lease(store: Store) -> None:
    places, budget = Places(2), Budget(100, Period.MONTH)
    someone = user(places, budget)
    async with store.ledger() as survivor:
        async with store.ledger() as victim:
            await take(victim, someone, tokens=50)
        await take(survivor, someone, tokens=50)
        store.clock.pass_by(LEASE_SECONDS - 1)
        await survivor.tend()
        await refuse(survivor, someone, tokens=50)
        store.clock.pass_by(1)
        await take(survivor, someone, tokens=50)
        await refuse(survivor, someone, tokens=1)


async def test_a_living_workers_calls_keep_their_places_for_hours(store: Store) -> None:
    someone = user(Places(1))
    async with store.ledger() as one, store.ledger() as other:
        taken = await take(one, someone)
        for _ in range(30):
            store.clock.pass_by(20)
            await one.tend()
            await refuse(other, someone)
        one.settle(taken, End())
        await take(other, someone)


async def test_a_worker_that_stood_still_takes_nothing_from_its_successors(store: Store) -> None:
    someone = user(Places(1))
    async with store.ledger() as one, store.ledger() as other:
        taken = await take(one, someone)
        store.clock.pass_by(LEASE_SECONDS)
        again = await take(other, someone)
        await one.tend()
        one.settle(taken, End())
        await refuse(one, someone)
        other.settle(again, End())
        await take(one, someone)


async def test_uses_are_used_once_whatever_becomes_of_the_call(store: Store) -> None:
    once = url(Uses(1))
    async with store.ledger() as one, store.ledger() as other:
        one.settle(await take(one, once), End())
        for ledger in (one, other):
            assert (await refuse(ledger, once)).wait is None
        store.clock.pass_by(100)
        await refuse(other, once)


async def test_a_clock_set_back_an_hour_gives_nobody_a_call_more(store: Store) -> None:
    rate, budget = Rate(60, 60, 3), Budget(10, Period.MINUTE)
    accounts = user(rate), app(budget), url(Uses(1))
    async with store.ledger() as ledger:
        await take(ledger, *accounts, tokens=10)
        await take(ledger, user(rate))
        await take(ledger, user(rate))
        store.clock.set_back(3600)
        assert (await refuse(ledger, user(rate))).wait == MICROS
        refused = await refuse(ledger, app(budget), tokens=1)
        assert refused.wait is not None
        assert refused.wait <= 60 * MICROS
        await refuse(ledger, url(Uses(1)))
        store.clock.pass_by(1)
        await take(ledger, user(rate))
        store.clock.pass_by(refused.wait / MICROS - 1)
        await take(ledger, app(budget), tokens=1)


async def test_leases_do_not_heed_the_time_of_day(store: Store) -> None:
    someone = user(Places(1))
    async with store.ledger() as one, store.ledger() as other:
        await take(one, someone)
        store.clock.now += 3600 * MICROS
        await refuse(other, someone)
        store.clock.set_back(7200)
        await refuse(other, someone)
        store.clock.pass_by(LEASE_SECONDS)
        await take(other, someone)


async def test_a_url_that_is_valid_again_when_the_clock_is_set_back_does_not_begin_anew(
    store: Store,
) -> None:
    once = url(Uses(1), expires=NOON + 10 * MICROS)
    async with store.ledger() as ledger:
        await take(ledger, once)
        store.clock.pass_by(100)
        await ledger.tend()
        store.clock.set_back(100)
        outcome: object
        try:
            outcome = await ledger.admit(call(once))
        except LedgerDown:
            outcome = None
        assert not isinstance(outcome, Taken)


async def test_a_revocation_reaches_every_node(store: Store) -> None:
    async with store.ledger() as one, store.ledger() as other:
        assert not one.revocations
        await one.revoke(Revocation("chat", NOON, NOON + 600 * MICROS, user="42"))
        await one.revoke(Revocation("chat", NOON - 5, NOON + 600 * MICROS, user="42"))
        for ledger in (one, other):
            await ledger.tend()
            assert ledger.revocations.revoked("chat", "42", "ab" * 32, NOON)
            assert not ledger.revocations.revoked("chat", "43", "ab" * 32, NOON)
    async with store.ledger() as third:
        assert third.revocations.revoked("chat", "42", "ab" * 32, NOON)


async def test_usage_adds_up_over_nodes_days_and_kinds(store: Store) -> None:
    places = user(Places(3))
    async with store.ledger() as one, store.ledger() as other:
        first = await take(one, places)
        second = await take(other, places)
        third = await take(other, places)
        await refuse(one, places)
        one.settle(first, End(), Used(tokens_in=10, tokens_out=5))
        one.settle(first, End(), Used(tokens_in=10, tokens_out=5))
        other.settle(second, End(returned=True))
        for ledger in (one, other):
            await ledger.tend()
        (today,) = await one.usage(date(2026, 1, 1))
        assert (today.app, today.user) == ("chat", "42")
        assert today.used == Used(requests=2, refused=1, streams=1, tokens_in=10, tokens_out=5)
        store.clock.pass_by(86400)
        other.settle(third, End(), Used(unknown=1))
        await other.tend()
        both = await one.usage(today.day, "chat", "42")
        assert [each.used for each in both] == [
            Used(requests=2, refused=1, tokens_in=10, tokens_out=5),
            Used(unknown=1),
        ]
        assert await one.usage(today.day, "images") == []
        assert await one.usage(today.day, "chat", "43") == []
        assert len(await one.usage(both[1].day)) == 1


async def test_calls_under_way_are_seen_after_their_worker_stood_still(store: Store) -> None:
    async with store.ledger() as ledger:
        taken = await take(ledger, user(Rate(5, 1, 5)))
        await ledger.tend()
        store.clock.pass_by(2 * LEASE_SECONDS)
        await ledger.tend()
        (today,) = await ledger.usage(date(2026, 1, 1))
        assert today.used.streams == 1
        ledger.settle(taken, End())
        await ledger.tend()
        (today,) = await ledger.usage(date(2026, 1, 1))
        assert today.used.streams == 0


async def test_what_nobody_needs_any_more_is_forgotten(store: Store) -> None:
    someone, once = user(Rate(60, 60, 60), Places(5)), url(Uses(5))
    async with store.ledger() as ledger:
        ledger.settle(await take(ledger, someone, once), End())
        held = await take(ledger, user(Rate(1, 1, 1), Places(1), name="long"))
        store.clock.pass_by(20)
        await ledger.tend()
        assert await ledger.parts([someone.key, once.key])
        for _ in range(70):
            store.clock.pass_by(10)
            await ledger.tend()
        states = await ledger.parts([someone.key, once.key, "user/chat/long"])
        assert list(states) == ["user/chat/long"]
        ledger.settle(held, End())


async def test_forty_tasks_take_as_many_as_there_are(store: Store) -> None:
    someone = user(Rate(25, 3600, 25), Places(30))
    async with store.ledger() as one, store.ledger() as other:
        taken: list[tuple[Ledger, Taken]] = []

        async def hammer(ledger: Ledger) -> None:
            await trio.lowlevel.checkpoint()
            outcome = await ledger.admit(call(someone))
            if isinstance(outcome, Taken):
                taken.append((ledger, outcome))

        async with trio.open_nursery() as nursery:
            for i in range(40):
                nursery.start_soon(hammer, (one, other)[i % 2])
        assert len(taken) == 25
        for ledger, each in taken:
            ledger.settle(each, End())
        assert await left(one, someone, Places(30)) == 30


async def test_a_cancelled_call_settles(store: Store) -> None:
    someone = user(Places(1))
    async with store.ledger() as ledger:
        with trio.CancelScope() as scope:
            taken = await take(ledger, someone)
            try:
                scope.cancel()
                await trio.sleep_forever()
            finally:
                ledger.settle(taken, End())
        await take(ledger, someone)
