"""How much of limits is used, as the metrics tell it; a store that can't be asked; a reload."""

import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import cast

from swproxy.config.config import App, Config
from swproxy.daemon.exposition import added_up
from swproxy.daemon.levels import Levels
from swproxy.daemon.metrics import Metrics
from swproxy.daemon.tally import Tally
from swproxy.policy.allowances import Allowance, Pace, TokenBudget
from swproxy.proxy.worker import Worker
from swproxy.quota.checks import Budget, Moment, Part, Places, Rate
from swproxy.quota.ledger import LedgerDown, NoLedger
from swproxy.quota.windows import Period

LIMITS = Allowance(Pace(60, 86400, 20), 3, TokenBudget(1000, "month"))


class Ledger(NoLedger):
    """One that knows what it is told, as long as it is up."""

    def __init__(self) -> None:
        self.known: dict[str, Mapping[str, Part]] = {}
        self.up = True

    async def parts(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, Part]]:
        if not self.up:
            raise LedgerDown("away")
        return {key: self.known[key] for key in keys if key in self.known}


def config(**limits: Allowance) -> Config:
    return Config(apps={name: App(name, ("s",), (), limits=each) for name, each in limits.items()})


def levels(tally: Tally) -> dict[tuple[str, str], tuple[float, float]]:
    told = added_up([tally])
    return {
        (key[1], key[2]): (told["swproxy_limit_used", *key[1:]], value)
        for key, value in told.items()
        if key[0] == "swproxy_limit"
    }


async def test_used_of_allowed_for_every_kind_of_limit() -> None:
    ledger, tally = Ledger(), Tally()
    now = Moment(time.time_ns() // 1000, "w", lambda _: True, tokens=900)
    pace, places, budget = Rate(60, 86400, 20), Places(3), Budget(1000, Period.MONTH)
    ledger.known["app/a"] = {each.name: each.take(None, now)[1] for each in (pace, places, budget)}
    # 150 applications are asked for in two turns.
    others = {f"n{number}": Allowance(concurrent=5) for number in range(150)}
    free = {"free": Allowance()}
    worker = SimpleNamespace(config=config(a=LIMITS, **others, **free), ledger=ledger)
    watched = Levels(cast("Worker", worker), Metrics(tally))
    await watched.look()
    told = levels(tally)
    assert told["a", "concurrent"] == (1, 3)
    assert told["a", "tokens"] == (900, 1000)
    assert told["a", "requests"] == (1, 20)
    assert told["n0", "concurrent"] == told["n149", "concurrent"] == (0, 5)
    assert not [key for key in told if key[0] == "free"]

    # A store that is away leaves what was known; a limit that is no more is 0 of 0.
    ledger.up = False
    worker.config = config(a=Allowance(concurrent=3))
    await watched.look()
    told = levels(tally)
    assert told["a", "concurrent"] == (1, 3)
    assert told["a", "tokens"] == told["n0", "concurrent"] == (0, 0)
