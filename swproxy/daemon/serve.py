"""`swproxy serve`: from a configuration file to a serving process, and to its end."""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from swproxy.daemon.access_log import AccessLog
from swproxy.daemon.listeners import close_listeners, open_listeners
from swproxy.daemon.serving import Service
from swproxy.policy.config import Config
from swproxy.policy.faults import ConfigError
from swproxy.policy.loader import load
from swproxy.proxy.record import Observer

__all__ = ["run", "serve"]


def run(config_path: Path) -> int:
    """Serve until told to stop; return the exit code (0 ended well, 1 failed, 2 bad config)."""
    try:
        config = load(config_path, os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        listeners = open_listeners(config.server.listen)
    except OSError as error:
        print(f"swproxy: {error.strerror}", file=sys.stderr)
        return 1
    try:
        trio.run(_run, config_path, config, listeners)
    finally:
        close_listeners(listeners)
    return 0


async def serve(
    config: Config,
    *,
    observer: Observer | None = None,
    task_status: trio.TaskStatus[list[Any]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve in this event loop until cancelled.

    Reports the addresses listened on, as `socket.getsockname` gives them. Raises OSError when one
    can't be had.
    """
    listeners = open_listeners(config.server.listen)
    try:
        service = Service(config, listeners, observer or _access_log(config))
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            task_status.started([listener.getsockname() for listener in listeners])
    finally:
        close_listeners(listeners)


async def _run(path: Path, config: Config, listeners: Sequence[socket.socket]) -> None:
    service = Service(config, listeners, _access_log(config))
    async with trio.open_nursery() as nursery:
        await nursery.start(_obey_signals, path, service, nursery.cancel_scope)
        await service.run()
        nursery.cancel_scope.cancel()


async def _obey_signals(
    path: Path,
    service: Service,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    ending = False
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                _reload(path, service)
            elif ending or number == signal.SIGINT:
                scope.cancel()
            else:
                ending = True
                service.drain()
                scope.deadline = trio.current_time() + service.worker.config.server.drain_seconds


def _reload(path: Path, service: Service) -> None:
    try:
        service.reload(load(path, os.environ))
    except ConfigError as error:
        print(error, file=sys.stderr)


def _access_log(config: Config) -> AccessLog:
    server = config.server
    console = server.log_format == "console" or (
        server.log_format == "auto" and sys.stderr.isatty()
    )
    return AccessLog(enabled=server.access_log, console=console)
