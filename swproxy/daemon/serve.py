"""`swproxy serve`: from a configuration file to a serving process, and to its end."""

import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from swproxy import __version__
from swproxy.config.config import Config
from swproxy.config.exposure import handed_over_to_others
from swproxy.config.faults import ConfigError
from swproxy.config.listen_address import TcpAddress
from swproxy.config.loader import inspect
from swproxy.daemon import activation, notify
from swproxy.daemon.banner import banner
from swproxy.daemon.control import Control, log_warnings
from swproxy.daemon.descriptors import raise_descriptor_limit
from swproxy.daemon.heap import freeze_heap
from swproxy.daemon.listeners import Listener, close_listeners, open_listeners
from swproxy.daemon.log import Log
from swproxy.daemon.notify import Notifier
from swproxy.daemon.solo import Solo
from swproxy.daemon.supervisor import Supervisor
from swproxy.daemon.tally import Tally
from swproxy.proxy.record import Observer

__all__ = ["run", "serve"]

ADMIN_NAME = "admin"
"""The name (FileDescriptorName= of the socket unit) of a socket that is the admin listener."""


@dataclass(slots=True)
class _Sockets:
    """What is listened on: by the proxy, and by the admin listener."""

    public: list[Listener] = field(default_factory=list)
    admin: list[Listener] = field(default_factory=list)

    def close(self) -> None:
        close_listeners([*self.public, *self.admin])


def run(config_path: Path) -> int:
    """Serve until told to stop; return the exit code (0 ended well, 1 failed, 2 bad config)."""
    notifier = Notifier.from_environment(os.environ)
    found = inspect(config_path, os.environ)
    if found.config is None:
        notifier.status("not started: the configuration has faults")
        sys.stderr.write(f"{ConfigError(found.faults)}\n")
        return 2
    config = found.config
    try:
        sockets = _open(config, activation.take_sockets(os.environ))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        notifier.status(f"not started: {reason}")
        sys.stderr.write(f"swproxy: {reason}\n")
        return 1
    for name in (*activation.VARIABLES, *notify.VARIABLES):
        os.environ.pop(name, None)
    log = Log(config.server)
    log.say(banner(config_path, config, sockets.public, sockets.admin, __version__))
    found.warnings += handed_over_to_others(
        config_path, config.server, _handed_over(sockets.public), _handed_over(sockets.admin)
    )
    log_warnings(log, found)
    _check_descriptors(config, log)
    freeze_heap()
    try:
        trio.run(_run, config_path, config, sockets, log, notifier)
    except Exception as error:  # noqa: BLE001 - the last one there is; told without its message
        log.crashed(error)
        return 1
    finally:
        sockets.close()
        log.event("info", "stopped")
        log.close()
    return 0


async def serve(
    config: Config,
    *,
    observer: Observer | None = None,
    task_status: trio.TaskStatus[list[Any]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve in this event loop, with one worker, until cancelled.

    Reports the addresses listened on, as `socket.getsockname` gives them, the admin listener's
    last. Requests are told to `observer`, or else to the log. Raises OSError when an address can't
    be had.
    """
    sockets = _open(config, [])
    log = None if observer else Log(config.server)
    try:
        teller = observer or log
        assert teller is not None
        solo = Solo(config, sockets.public, Tally(), teller)
        async with trio.open_nursery() as nursery:
            await nursery.start(solo.run, sockets.admin)
            opened = [*sockets.public, *sockets.admin]
            task_status.started([listener.sock.getsockname() for listener in opened])
    finally:
        sockets.close()
        if log is not None:
            log.close()


def _open(config: Config, handed_over: Sequence[tuple[str, socket.socket]]) -> _Sockets:
    public = [sock for name, sock in handed_over if name != ADMIN_NAME]
    admin = [sock for name, sock in handed_over if name == ADMIN_NAME]
    addresses = [config.server.admin_listen] if config.server.admin_listen else []
    sockets = _Sockets()
    try:
        sockets.public = open_listeners(config.server.listen, public)
        sockets.admin = open_listeners(addresses, admin)
    except BaseException:
        sockets.close()
        raise
    if not sockets.public:
        raise ValueError("nothing to listen on: server.listen is empty and systemd gave no socket")
    return sockets


def _handed_over(listeners: Sequence[Listener]) -> list[TcpAddress]:
    names = [each.sock.getsockname() for each in listeners if not each.own]
    return [TcpAddress(*name[:2]) for name in names if isinstance(name, tuple)]


def _check_descriptors(config: Config, log: Log) -> None:
    available = raise_descriptor_limit()
    needed = 2 * config.limits.connections + config.upstream.idle_connections + 64
    if available < needed:
        log.event("warning", "few-descriptors", available=available, needed=needed)


def _count_workers(config: Config) -> int:
    if config.server.workers != "auto":
        return config.server.workers
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


async def _run(path: Path, config: Config, sockets: _Sockets, log: Log, notifier: Notifier) -> None:
    count = _count_workers(config)
    controlled: Solo | Supervisor
    if count == 1:
        controlled = Solo(config, sockets.public, Tally(), log)
        controlled.report_to(log)
    else:
        controlled = Supervisor(config, sockets.public, count, log)
    control = Control(path, config, controlled, log, notifier)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        await nursery.start(control.obey, nursery.cancel_scope)
        await nursery.start(_until_drained, controlled, sockets.admin, nursery.cancel_scope)
        log.event(
            "info",
            "serving",
            listen=[listener.address for listener in sockets.public],
            admin=[listener.address for listener in sockets.admin],
            workers=count,
            applications=len(config.apps),
        )
        await control.inform()


async def _until_drained(
    controlled: Solo | Supervisor,
    admin: Sequence[Listener],
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    await controlled.run(admin, task_status=task_status)
    scope.cancel()
