"""The parent of several workers: it starts them, watches them, and never touches a connection.

All workers accept from the same sockets, which the supervisor keeps open. So when a worker dies,
what waits to be accepted is taken by the others, and nobody is refused while it is replaced. (With
a socket for each worker, SO_REUSEPORT, the connections that the kernel had queued for the dead one
would hang or be reset.) A worker that does not give a sign of life for HUNG_SECONDS is killed.

A worker that dies is replaced at once, and one that dies again soon after, ever later: something is
wrong that a restart does not mend, and should not be made worse by a busy loop.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

import swproxy
from swproxy.config.config import Config
from swproxy.daemon import activation, notify
from swproxy.daemon.admin import Admin
from swproxy.daemon.balance import LOAD_BYTES, Share
from swproxy.daemon.compose import Place
from swproxy.daemon.listeners import Listener
from swproxy.daemon.log import Log
from swproxy.daemon.metrics import clear_gauges
from swproxy.daemon.orders import (
    ANSWER,
    BEAT,
    READY,
    REFUSED,
    RELOADED,
    End,
    Message,
    Orders,
    Tell,
    Words,
    pack,
)
from swproxy.daemon.process_metrics import ProcessMetrics
from swproxy.daemon.report import Report
from swproxy.daemon.tally import MEMORY_BYTES, Tally, shared_memory

__all__ = ["HUNG_SECONDS", "Supervisor"]

HUNG_SECONDS = 20.0
"""Without a beat; a worker beats every second, and a reload or a hiccup of the disk takes less."""

_BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SETTLED_SECONDS = 60.0
"""A worker that has lived so long has got over what killed the one before it."""

_WATCH_SECONDS = 0.5
_KILL_SECONDS = 3.0
_RELOAD_SECONDS = 30.0
_ANSWER_SECONDS = 0.8
"""Less than there is between two frames of the live feed."""


@dataclass(slots=True, eq=False)
class _Child:
    """A worker process, as its supervisor sees it."""

    process: trio.Process
    pipe: trio.SocketStream
    ready: trio.Event = field(default_factory=trio.Event)
    config: Config | None = None
    """what it has been told last"""
    speaking: trio.Lock = field(default_factory=trio.Lock)
    answer: bytes = b""
    answered: trio.Event = field(default_factory=trio.Event)
    asking: trio.Lock = field(default_factory=trio.Lock)
    reply: Any = None
    replied: trio.Event = field(default_factory=trio.Event)
    started: float = field(default_factory=trio.current_time)
    beaten: float = field(default_factory=trio.current_time)
    hung: bool = False
    """given up since it did not beat any more"""

    def __post_init__(self) -> None:
        self.replied.set()

    async def tell(self, orders: Orders) -> None:
        """Send orders; to one that is gone they don't matter any more."""
        self.config = orders.config
        self.answered = trio.Event()
        await self._send(orders)

    async def ask(self, question: Tell | End) -> Any:
        """Return what the worker answers, None if it is gone. To be called under a deadline."""
        async with self.asking:
            # One that hangs is asked no more: its pipe must not fill.
            await self.replied.wait()
            self.reply, self.replied = None, trio.Event()
            await self._send(question)
            await self.replied.wait()
            return self.reply

    async def _send(self, message: Message) -> None:
        async with self.speaking:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self.pipe.send_all(pack(message))


class Supervisor:
    """Keeps `count` workers running. `run` it; `drain` it for an orderly end."""

    def __init__(
        self,
        config: Config,
        listeners: Sequence[Listener],
        count: int,
        log: Log,
        *,
        hung_seconds: float = HUNG_SECONDS,
    ) -> None:
        self._config = config
        self._listeners = listeners
        self._log = log
        self._hung_seconds = hung_seconds
        self._memory = [shared_memory(MEMORY_BYTES) for _ in range(count)]
        self._tallies = [Tally(descriptor) for descriptor in self._memory]
        self._own = Tally()
        self._process = ProcessMetrics(self._own, "supervisor")
        self._restarts = self._own.slot(("swproxy_worker_restarts_total",))
        self._loads = shared_memory(LOAD_BYTES * count)
        self._shares = [Share(self._loads, count, place) for place in range(count)]
        for share in self._shares:
            share.leave()
        self._children: list[_Child | None] = [None] * count
        self._started = [trio.Event() for _ in range(count)]
        self._died = [0] * count
        self._began = trio.current_time()
        self.draining = False

    @property
    def config(self) -> Config:
        """What is configured now."""
        return self._config

    async def run(
        self,
        admin: Sequence[Listener] = (),
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Supervise until all workers have drained, or until cancelled: then they end at once."""
        async with trio.open_nursery() as nursery:
            asked = Admin(self, self._not_ready, self._log.crashed)
            nursery.start_soon(asked.serve, admin)
            async with trio.open_nursery() as workers:
                for index in range(len(self._children)):
                    workers.start_soon(self._keep, index)
                for started in self._started:
                    await started.wait()
                task_status.started()
            nursery.cancel_scope.cancel()

    def drain(self) -> None:
        """Let every worker drain."""
        self.draining = True
        for child in self._children:
            if child is not None:
                child.process.terminate()
        for listener in self._listeners:
            listener.close()

    async def reload(self, config: Config) -> None:
        """Give every worker another configuration, or none.

        Raises OSError when one of them cannot use it; the others have gone back by then.
        """
        old, self._config = self._config, config
        if not await self._tell_all():
            self._config = old
            await self._tell_all()
            raise OSError(0, "a worker could not use the configuration")

    async def _tell_all(self) -> bool:
        """Tell the workers that are up; tell whether all have followed."""
        asked = [child for child in self._children if child is not None and child.ready.is_set()]
        for child in asked:
            await child.tell(Orders(self._config))
        with trio.move_on_after(_RELOAD_SECONDS) as scope:
            for child in asked:
                await child.answered.wait()
        return not scope.cancelled_caught and all(child.answer != REFUSED for child in asked)

    async def turn(self) -> None:
        """Return once this process's event loop has gone round; workers are watched apart."""
        await trio.lowlevel.checkpoint()

    def tallies(self) -> Sequence[Tally]:
        """Return the numbers of every worker, and of this process."""
        self._process.sample()
        return [*self._tallies, self._own]

    def places(self) -> Sequence[Place]:
        """Return the workers, and this process."""
        now = trio.current_time()
        found: list[Place] = []
        for index, (child, died) in enumerate(zip(self._children, self._died, strict=True)):
            if child is None:
                found.append(Place(f"{index}", "down", None, now, now, died))
            else:
                ready = child.ready.is_set()
                found.append(
                    Place(
                        f"{index}",
                        "up" if ready else "starting",
                        child.process.pid,
                        child.beaten,
                        child.started,
                        died,
                    )
                )
        own = Place("supervisor", "up", os.getpid(), now, self._began, serves=False)
        return [*found, own]

    async def reports(self, since: Sequence[int]) -> Sequence[Report | None]:
        """Ask every worker that is up; None of one that does not answer in time."""
        return [
            *await self._ask_all([Tell(last) for last in since[: len(self._children)]]),
            None,
        ]

    async def end_call(self, request_id: str) -> bool:
        """End a call under way; tell whether there is such a one."""
        return any(await self._ask_all([End(request_id)] * len(self._children)))

    def note(self, event: str, **fields: object) -> None:
        """Log what somebody who looks has done."""
        self._log.event("warning", event, **fields)

    async def _ask_all(self, questions: Sequence[Tell | End]) -> Sequence[Any]:
        """Ask each worker its question; None of one that is not up, or not in time."""
        answers: list[Any] = [None] * len(questions)

        async def ask(index: int, child: _Child) -> None:
            answers[index] = await child.ask(questions[index])

        with trio.move_on_after(_ANSWER_SECONDS):
            async with trio.open_nursery() as nursery:
                for index, child in enumerate(self._children):
                    if child is not None and child.ready.is_set():
                        nursery.start_soon(ask, index, child)
        return answers

    def _not_ready(self) -> str:
        if self.draining:
            return "draining"
        ready = any(child is not None and child.ready.is_set() for child in self._children)
        return "" if ready else "no worker is up"

    async def _keep(self, index: int) -> None:
        """Keep the worker of this place running, until drained."""
        failures = 0
        while not self.draining:
            began = trio.current_time()
            reason = await self._run_one(index)
            if self.draining:
                break
            if trio.current_time() - began > _SETTLED_SECONDS:
                failures = 0
            pause = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)]
            failures += 1
            self._own.values[self._restarts] += 1
            self._died[index] += 1
            self._log.event(
                "error", "worker-died", worker=f"{index}", reason=reason, restart_in=pause
            )
            await trio.sleep(pause)
        self._started[index].set()

    async def _run_one(self, index: int) -> str:
        """Run one worker process to its end; return how it ended."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await self._spawn(index, theirs.fileno())
        child = _Child(process, trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        self._children[index] = child
        if self.draining:  # it came while the process was being started
            process.kill()
        try:
            async with child.pipe, trio.open_nursery() as nursery:
                nursery.start_soon(self._order, index, child)
                nursery.start_soon(self._hear, index, child)
                nursery.start_soon(self._watch, child, nursery.cancel_scope)
                await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._children[index] = None
            child.answered.set()
            child.replied.set()
            # _end kills in time; the deadline is for a process that even the kernel can't end.
            deadline = trio.current_time() + 3 * _KILL_SECONDS
            with trio.CancelScope(shield=True, deadline=deadline):
                await _end(process)
            clear_gauges(self._tallies[index])
            self._shares[index].leave()
        return "hung" if child.hung else _ending(process.returncode)

    async def _spawn(self, index: int, control: int) -> trio.Process:
        ignored = {*activation.VARIABLES, *notify.VARIABLES}
        environ = {name: text for name, text in os.environ.items() if name not in ignored}
        # The same swproxy as this one, wherever it was found, and never one in the directory that
        # happens to be current.
        here = str(Path(swproxy.__file__).parent.parent)
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, environ.get("PYTHONPATH")]))
        descriptors = [listener.sock.fileno() for listener in self._listeners]
        return await trio.lowlevel.open_process(
            [sys.executable, "-P", "-m", "swproxy.daemon.worker_process", str(control)],
            stdin=subprocess.DEVNULL,
            env=environ,
            pass_fds=[control, self._memory[index], self._loads, *descriptors],
            # What is typed at a terminal is for the supervisor, which passes on what concerns all.
            start_new_session=True,
        )

    async def _order(self, index: int, child: _Child) -> None:
        """Tell a new worker what to do."""
        listeners = tuple((each.sock.fileno(), each.own) for each in self._listeners)
        share = (self._loads, len(self._shares), index)
        await child.tell(Orders(self._config, f"{index}", listeners, self._memory[index], share))
        await child.ready.wait()
        if child.config is not self._config:  # there was a reload while it was starting
            await child.tell(Orders(self._config))

    async def _hear(self, index: int, child: _Child) -> None:
        """Take note of what a worker says."""
        with contextlib.suppress(trio.BrokenResourceError):
            words = Words()
            async for data in child.pipe:
                child.beaten = trio.current_time()
                for word, answer in words.feed(bytes(data)):
                    if word == READY:
                        child.ready.set()
                        self._started[index].set()
                        self._log.event("info", "worker-ready", worker=f"{index}")
                    elif word in (RELOADED, REFUSED):
                        child.answer = word
                        child.answered.set()
                    elif word == ANSWER:
                        child.reply = answer
                        child.replied.set()
                    else:
                        assert word == BEAT

    async def _watch(self, child: _Child, scope: trio.CancelScope) -> None:
        """Give up a worker that does not beat any more."""
        looked = trio.current_time()
        while True:
            await trio.sleep(_WATCH_SECONDS)
            now = trio.current_time()
            if now - looked > _WATCH_SECONDS + self._hung_seconds / 2:
                # All of the machine stood still, this process with it: begin again.
                child.beaten = now
            looked = now
            if now - child.beaten >= self._hung_seconds:
                child.hung = True
                scope.cancel()


async def _end(process: trio.Process) -> None:
    """End a worker that is still there: by asking twice, so that it cuts its answers, or by force.

    A process that is killed has its connections closed for it, and then an answer whose end is
    the connection's end looks whole.
    """
    if process.returncode is not None:
        return
    for number in (signal.SIGTERM, signal.SIGTERM):
        process.send_signal(number)
        await trio.sleep(0.05)
    with trio.move_on_after(_KILL_SECONDS):
        await process.wait()
        return
    process.kill()
    await process.wait()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
