"""The ledger that a worker uses, and what the daemon wants to know of it."""

import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import trio

from swproxy.config.config import Config
from swproxy.config.limit_tables import Store
from swproxy.daemon.log import Log
from swproxy.daemon.metrics import Metrics
from swproxy.quota.fallback import FallbackLedger
from swproxy.quota.ledger import Ledger, LedgerDown, NoLedger, Observer
from swproxy.quota.livefile import Place
from swproxy.quota.revocations import Revocations
from swproxy.quota.sqlite import SqliteLedger

if TYPE_CHECKING:
    from swproxy.quota.valkey import ValkeyLedger

__all__ = ["LedgerWatch", "make_ledger", "use_ledger", "valkey_ledger"]

L = TypeVar("L", bound=Ledger)

_GOOD = ("ledger-up", "snapshot-written")


class LedgerWatch:
    """Counts and logs what befalls a ledger, and hands on what is revoked."""

    def __init__(self, metrics: Metrics) -> None:
        self.log: Log | None = None
        self.on_revoked: Callable[[Revocations], None] = lambda _: None
        self._metrics = metrics

    def decided(self, seconds: float) -> None:
        """Count a decision."""
        self._metrics.ledger_decided(seconds)

    def failed(self) -> None:
        """Count a failure."""
        self._metrics.ledger_failed()

    def told(self, event: str, detail: str) -> None:
        """Log it."""
        if self.log is not None:
            self.log.event("info" if event in _GOOD else "error", event, detail=detail)

    def revoked(self, revocations: Revocations) -> None:
        """Hand it on."""
        self.on_revoked(revocations)


def make_ledger(
    config: Config, observer: Observer | None = None, *, at_once: bool = False
) -> Ledger:
    """Return the ledger that is configured.

    Its file is opened `at_once`, or when there is something to count.
    """
    store = config.store
    at_once = at_once or any(app.counts for app in config.apps.values())
    if store.url is not None:
        shared = valkey_ledger(store, observer)
        if store.when_down == "refuse" or store.path is None:
            return shared
        # What is counted meanwhile is of no use later: a snapshot of it would only mislead.
        return FallbackLedger(shared, SqliteLedger(Place(store.path, None), observer))
    if store.path is None:
        return NoLedger()
    return SqliteLedger(Place(store.path, store.snapshot), observer, at_once=at_once)


def valkey_ledger(store: Store, observer: Observer | None = None) -> "ValkeyLedger":
    """Return the ledger on the server that `store` names. Raises OSError for its ca_file."""
    # hiredis is there for those who want it: swproxy[valkey].
    from swproxy.quota.valkey import Login, ValkeyLedger  # noqa: PLC0415

    assert store.url is not None
    tls = None
    if store.url.tls:
        tls = ssl.create_default_context(cafile=store.ca_file)
    return ValkeyLedger(store.url, Login(store.username, store.password), tls, observer)


async def use_ledger(ledger: L, do: Callable[[L], Awaitable[None]]) -> None:
    """Do something with a ledger of one's own, beside those who serve. Raises LedgerDown."""
    failure: LedgerDown | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        try:
            await do(ledger)
        except LedgerDown as down:
            failure = down
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
