"""The ledger that a worker uses, and what the daemon wants to know of it."""

from collections.abc import Callable

from swproxy.config.config import Config
from swproxy.daemon.log import Log
from swproxy.daemon.metrics import Metrics
from swproxy.quota.ledger import Ledger, NoLedger
from swproxy.quota.livefile import Place
from swproxy.quota.revocations import Revocations
from swproxy.quota.sqlite import Observer, SqliteLedger

__all__ = ["LedgerWatch", "make_ledger"]

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
    if store.path is None:
        return NoLedger()
    at_once = at_once or any(app.counts for app in config.apps.values())
    return SqliteLedger(Place(store.path, store.snapshot), observer, at_once=at_once)
