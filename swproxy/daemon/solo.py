"""One worker in the process that was started: a service with its metrics, log and admin listener.

The same object is what a supervisor runs in each of its worker processes, there without an admin
listener and with a tally that the supervisor reads.
"""

import os
from collections.abc import Sequence

import trio

from swproxy.config.config import Config
from swproxy.daemon.admin import Admin
from swproxy.daemon.balance import Share
from swproxy.daemon.compose import Place
from swproxy.daemon.ledgers import LedgerWatch
from swproxy.daemon.levels import Levels
from swproxy.daemon.listeners import Listener
from swproxy.daemon.log import Log
from swproxy.daemon.metrics import Metrics
from swproxy.daemon.observers import Observers
from swproxy.daemon.process_metrics import ProcessMetrics
from swproxy.daemon.report import Report, Reporter, end_call
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
        self._name = name
        self._started = trio.current_time()
        self._reporter = Reporter(self.metrics, lambda: self.service.worker.calls)
        self._observer = Observers(self.metrics, observer, self._reporter)
        self._watch = LedgerWatch(self.metrics)
        self.service = Service(
            config, listeners, self._observer, batch=batch, share=share, watch=self._watch
        )
        self._levels = Levels(self.service.worker, self.metrics)

    @property
    def config(self) -> Config:
        """What is configured now."""
        return self.service.worker.config

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

    def places(self) -> Sequence[Place]:
        """Return this process."""
        now = trio.current_time()
        return [Place(self._name, "up", os.getpid(), now, self._started)]

    async def report(self, since: int) -> Report:
        """Tell those who look how things are, and which requests there were after so many."""
        report = await self._reporter.report(since)
        self.sample()
        return report

    async def reports(self, since: Sequence[int]) -> Sequence[Report | None]:
        """Tell the same as of all workers there are."""
        return [await self.report(since[0])]

    async def end_call(self, request_id: str) -> bool:
        """End a call under way; tell whether there is such a one."""
        await trio.lowlevel.checkpoint()
        return end_call(self.service.worker.calls, request_id)

    def note(self, event: str, **fields: object) -> None:
        """Log what somebody who looks has done."""
        if self._watch.log is not None:
            self._watch.log.event("warning", event, **fields)

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

        async with trio.open_nursery() as nursery:
            asked = Admin(self, not_ready, self._observer.crashed)
            nursery.start_soon(asked.serve, admin)
            await nursery.start(self._serve, nursery.cancel_scope)
            nursery.start_soon(self._levels.run)
            task_status.started()

    async def _serve(self, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
        await self.service.run(task_status=task_status)
        scope.cancel()
