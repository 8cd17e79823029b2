"""Counting by oneself while the shared store is down: what may be, and where it is settled."""

from pathlib import Path

import pytest

from swproxy.quota.accounts import Account, Refused, Taken
from swproxy.quota.checks import Budget, End, Places, Uses
from swproxy.quota.fallback import FallbackLedger
from swproxy.quota.ledger import LedgerDown, NoLedger
from swproxy.quota.windows import Period
from tests.support.ledgers import SqliteStore, call, url, user


@pytest.mark.parametrize(
    "account", [url(Uses(1)), user(Budget(10, Period.DAY)), url(Budget(10, Period.LIFE))]
)
async def test_what_others_may_have_used_is_refused(tmp_path: Path, account: Account) -> None:
    async with SqliteStore(tmp_path).ledger() as local:
        with pytest.raises(LedgerDown):
            await FallbackLedger(NoLedger(), local).admit(call(account, user(Places(1))))


async def test_the_rest_is_counted_and_settled_here(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path).ledger() as local:
        ledger = FallbackLedger(NoLedger(), local)
        taken = await ledger.admit(call(user(Places(1))))
        assert isinstance(taken, Taken)
        assert isinstance(await ledger.admit(call(user(Places(1)))), Refused)
        ledger.settle(taken, End())
        ledger.settle(taken, End())
        assert isinstance(await ledger.admit(call(user(Places(1)))), Taken)


async def test_a_store_that_is_up_is_asked_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    async with store.ledger() as shared:
        ledger = FallbackLedger(shared, NoLedger())
        taken = await ledger.admit(call(user(Places(1)), url(Uses(1))))
        assert isinstance(taken, Taken)
        ledger.settle(taken, End())
        assert isinstance(await ledger.admit(call(user(Places(1)))), Taken)
