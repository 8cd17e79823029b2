"""How much of the applications' limits is taken, asked of the ledger every five seconds.

Only of an application's own limits: those of its users are as many as there are users, and a
metric's labels have to stay few.
"""

import time
from collections.abc import Mapping

import trio

from swproxy.config.config import App
from swproxy.daemon.metrics import Metrics
from swproxy.proxy.charge import checks_of
from swproxy.proxy.worker import Worker
from swproxy.quota.accounts import account_key
from swproxy.quota.checks import Moment, Part, Rate
from swproxy.quota.ledger import LedgerDown

__all__ = ["Levels"]

_SECONDS = 5.0
_ASKED_AT_ONCE = 100
"""accounts, so that no other question to the store waits long behind this one"""


class Levels:
    """Keeps `metrics` told of the limits of `worker`; `run` it as long as its ledger runs."""

    def __init__(self, worker: Worker, metrics: Metrics) -> None:
        self._worker = worker
        self._metrics = metrics
        self._known: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await trio.sleep(_SECONDS)

    async def look(self) -> None:
        """Ask now. What can't be asked for stays as it was."""
        limited = [app for app in self._worker.config.apps.values() if app.limits]
        gone = self._known - {
            (app.id, check.label) for app in limited for check in checks_of(app.limits)
        }
        for key in gone:
            self._metrics.limit(*key, 0, 0)
        self._known -= gone
        for start in range(0, len(limited), _ASKED_AT_ONCE):
            asked = limited[start : start + _ASKED_AT_ONCE]
            try:
                states = await self._worker.ledger.parts([_key(app) for app in asked])
            except LedgerDown:
                return
            for app in asked:
                self._tell(app, states.get(_key(app), {}))

    def _tell(self, app: App, state: Mapping[str, Part]) -> None:
        at = Moment(time.time_ns() // 1000, "", lambda _: True)
        for check in checks_of(app.limits):
            most = check.burst if isinstance(check, Rate) else check.count
            used = most - check.left(state.get(check.name), at)
            self._metrics.limit(app.id, check.label, most, used)
            self._known.add((app.id, check.label))


def _key(app: App) -> str:
    return account_key("app", app.id)
