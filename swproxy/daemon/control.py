"""Signals, and what the service manager is told: the same for one worker and for many.

    SIGTERM, SIGINT   drain: accept no more, let answers under way end; a second one ends at once
    SIGHUP            reload: the new configuration is checked whole before anything of it is used

A reload that fails changes nothing. What it failed on is in the log and in the status that
`systemctl status` shows, until a reload succeeds.
"""

import os
import signal
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import trio

from swproxy.config.config import Config
from swproxy.config.faults import ConfigError
from swproxy.config.loader import Inspection, inspect
from swproxy.daemon.log import Log
from swproxy.daemon.notify import Notifier
from swproxy.daemon.tally import Tally

__all__ = ["Control", "Controlled", "log_warnings"]

_STATUS_SECONDS = 2.0


class Controlled(Protocol):
    """What is controlled: a service in this process, or a supervisor of several."""

    @property
    def draining(self) -> bool:
        """Tell whether the end has begun."""

    def drain(self) -> None:
        """Begin an orderly end."""

    async def reload(self, config: Config) -> None:
        """Use `config` for requests that begin from now on. Raises OSError."""

    async def turn(self) -> None:
        """Return once everything that has to move has moved."""

    def tallies(self) -> Sequence[Tally]:
        """Return the numbers of all workers."""


class Control:
    """Obeys signals on behalf of `controlled`, and keeps the service manager informed."""

    def __init__(
        self,
        path: Path,
        config: Config,
        controlled: Controlled,
        log: Log,
        notifier: Notifier,
    ) -> None:
        self._path = path
        self._config = config
        self._controlled = controlled
        self._log = log
        self._notifier = notifier
        self._failed = ""
        self._told = False

    async def obey(self, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
        """Obey signals until cancelled; cancel `scope` when everything has to end now."""
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        with trio.open_signal_receiver(*numbers) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP:
                    await self._reload()
                elif self._controlled.draining:
                    self._log.event("warning", "ending-now", streams=self._streams())
                    scope.cancel()
                else:
                    self._drain(scope)

    async def inform(self) -> None:
        """Say that the start is done; from then on give signs of life and figures."""
        self._notifier.ready()
        watchdog = self._notifier.watchdog_seconds
        pause = min(watchdog / 3, _STATUS_SECONDS) if watchdog else _STATUS_SECONDS
        while True:
            await self._controlled.turn()
            self._notifier.alive()
            self._notifier.status(self._status())
            if self._controlled.draining:
                self._tell_how_to_end()
            await trio.sleep(pause)

    def _drain(self, scope: trio.CancelScope) -> None:
        seconds = self._config.server.drain_seconds
        self._notifier.stopping()
        self._controlled.drain()
        streams = self._streams()
        self._log.event("info", "draining", streams=streams, seconds=seconds)
        if streams:
            self._tell_how_to_end()
        scope.deadline = trio.current_time() + seconds

    def _tell_how_to_end(self) -> None:
        """Tell whoever pressed Ctrl-C and waits why, once."""
        if not self._told:
            self._told = True
            self._log.say("Waiting for answers under way; a second Ctrl-C ends them at once.")

    async def _reload(self) -> None:
        if self._controlled.draining:
            return
        self._notifier.reloading()
        try:
            found = await trio.to_thread.run_sync(inspect, self._path, os.environ)
            log_warnings(self._log, found)
            config = found.require()
            await self._controlled.reload(config)
        except ConfigError as error:
            self._refuse([str(fault) for fault in error.faults])
        except (OSError, ssl.SSLError) as error:
            self._refuse([error.strerror or type(error).__name__])
        else:
            self._accept(config)
        self._notifier.status(self._status())
        self._notifier.ready()

    def _refuse(self, faults: Sequence[str]) -> None:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        self._failed = f"reload refused: {faults[0]}{more}; "
        self._log.event("error", "reload-refused", faults=list(faults))

    def _accept(self, config: Config) -> None:
        old, new = self._config.server, config.server
        for key in ("listen", "admin_listen", "workers"):
            if getattr(old, key) != getattr(new, key):
                self._log.event("warning", "restart-needed", key=f"server.{key}")
        if self._config.store != config.store:
            self._log.event("warning", "restart-needed", key="store")
        self._failed = ""
        self._config = config
        self._log.configure(new)
        self._log.event("info", "reloaded", applications=len(config.apps))

    def _sum(self, name: str) -> int:
        tallies = self._controlled.tallies()
        return int(sum(n for tally in tallies for key, n in tally.read() if key[0] == name))

    def _streams(self) -> int:
        return self._sum("swproxy_active_streams")

    def _status(self) -> str:
        state = "draining" if self._controlled.draining else "serving"
        return (
            f"{self._failed}{state}: streams {self._streams()},"
            f" connections {self._sum('swproxy_connections')},"
            f" requests {self._sum('swproxy_requests_total')},"
            f" applications {len(self._config.apps)}"
        )


def log_warnings(log: Log, found: Inspection) -> None:
    """Log what is doubtful about a configuration but no fault."""
    for warning in found.warnings:
        log.event("warning", "configuration", detail=str(warning))
