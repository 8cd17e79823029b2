"""One worker in the process that was started: a service with its metrics, log and admin listener.

The same object is what a supervisor runs in each of its worker processes, there without an admin
listener and with a tally that the supervisor reads.
"""

from collections.abc import Collection, Sequence

import trio

from swproxy.config.config import Config
from swproxy.daemon.admin import Admin
from swproxy.daemon.balance import Share
from swproxy.daemon.ledgers import LedgerWatch
from swproxy.daemon.levels import Levels
from swproxy.daemon.listeners import Listener
from swproxy.daemon.log import Log
from swproxy.daemon.metrics import Metrics
from swproxy.daemon.observers import Observers
from swproxy.daemon.process_metrics import ProcessMetrics
from swproxy.daemon.service import Service
from swproxy.daemon.tally import Tally
from swproxy.proxy.record import Observer

__all__ = ["Solo"]


class Solo:
    """A service whose requests are counted in `tally` and told to `observer`.

    `name` is that of the worker, where it is one of several.
    """

    def __init__(
        self,
        config: Config,
        listeners: Sequence[Listener],
        tally: Tally,
        observer: Observer,
        *,
        batch: int = 64,
        share: Share | None = None,
        name: str = "0",
    ) -> None:
        self.tally = tally
        self.metrics = Metrics(tally)
        self._process = ProcessMetrics(tally, name)
        self._observer = Observers(self.metrics, observer)
        self._watch = LedgerWatch(self.metrics)
        self.service = Service(
            config, listeners, self._observer, batch=batch, share=share, watch=self._watch
        )
        self._levels = Levels(self.service.worker, self.metrics)

    @property
    def draining(self) -> bool:
        """Tell whether the end has begun."""
        return self.service.draining

    def drain(self) -> None:
        """Begin an orderly end."""
        self.service.drain()

    async def reload(self, config: Config) -> None:
        """Use `config` for requests that begin from now on. Raises OSError."""
        await self.service.reload(config)

    async def turn(self) -> None:
        """Return once the event loop and the pump have both done a round of work."""
        await self.service.turn()

    def tallies(self) -> Sequence[Tally]:
        """Return the numbers of this worker, its connections counted now."""
        self.sample()
        return [self.tally]

    def sample(self) -> None:
        """Count the connections there are, and what the process takes of the machine."""
        idle, active = self.service.upstream_connections()
        self.metrics.sample(connections=self.service.open, idle=idle, active=active)
        self._process.sample()

    def report_to(self, log: Log) -> None:
        """Log what befalls the ledger; count the lines that `log` has to drop."""
        log.writer.on_drop = self.metrics.dropped
        self._watch.log = log

    async def run(
        self,
        admin: Sequence[Listener] = (),
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until drained or cancelled, and answer on the `admin` listeners meanwhile."""

        def not_ready() -> str:
            return "draining" if self.draining else ""

        def hosts() -> Collection[str]:
            return self.service.worker.config.server.admin_hosts

        async with trio.open_nursery() as nursery:
            asked = Admin(self.tallies, not_ready, hosts, self._observer.crashed)
            nursery.start_soon(asked.serve, admin)
            await nursery.start(self._serve, nursery.cancel_scope)
            nursery.start_soon(self._levels.run)
            task_status.started()

    async def _serve(self, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
        await self.service.run(task_status=task_status)
        scope.cancel()
