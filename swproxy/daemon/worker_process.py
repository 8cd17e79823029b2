"""A worker process: what the supervisor starts, one for each worker.

It is a program of its own, not a fork: a supervisor that runs an event loop and threads cannot be
forked safely at any moment at which a worker happens to die. Whatever it needs comes over the
socket pair whose descriptor is its one argument.

SIGTERM drains, a second one ends at once, and so does the supervisor's end: a worker that nobody
watches drains too.
"""

import contextlib
import signal
import socket
import sys

import trio

from swproxy.daemon.balance import Share
from swproxy.daemon.descriptors import raise_descriptor_limit
from swproxy.daemon.heap import freeze_heap
from swproxy.daemon.listeners import Listener
from swproxy.daemon.log import Log
from swproxy.daemon.orders import (
    BEAT,
    READY,
    REFUSED,
    RELOADED,
    Decoder,
    End,
    Message,
    Orders,
    Tell,
    pack_answer,
)
from swproxy.daemon.solo import Solo
from swproxy.daemon.tally import Tally

__all__ = ["main"]

BEAT_SECONDS = 1.0
BATCH = 1
"""Connections accepted at a time: a burst is then shared with the workers that woke as well."""


def main(descriptor: int) -> int:
    """Serve as told over `descriptor`; return the exit code."""
    raise_descriptor_limit()
    with socket.socket(fileno=descriptor) as control:
        decoder = Decoder()
        first: list[Message] = []
        while not first:
            data = control.recv(65536)
            if not data:
                return 0
            first = decoder.feed(data)
        orders = first[0]
        assert isinstance(orders, Orders)
        log = Log(orders.config.server, name=orders.name)
        freeze_heap()
        try:
            trio.run(_work, control, decoder, orders, log)
        except Exception as error:  # noqa: BLE001 - the last one there is; told without its message
            log.crashed(error)
            return 1
        finally:
            log.close()
    return 0


class _Line:
    """The line to the supervisor, for tasks that may speak at the same time."""

    def __init__(self, control: socket.socket) -> None:
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(control.dup()))
        self._lock = trio.Lock()

    async def say(self, word: bytes) -> None:
        """Say `word`; when nobody listens, the reading side finds out, and drains."""
        async with self._lock:
            with contextlib.suppress(trio.BrokenResourceError):
                await self.stream.send_all(word)


async def _work(control: socket.socket, decoder: Decoder, orders: Orders, log: Log) -> None:
    listeners = [
        Listener(socket.socket(fileno=descriptor), own=own) for descriptor, own in orders.listeners
    ]
    for listener in listeners:
        listener.sock.setblocking(False)
    tally, share = Tally(orders.tally), Share(*orders.share)
    solo = Solo(orders.config, listeners, tally, log, batch=BATCH, share=share, name=orders.name)
    solo.report_to(log)
    line = _Line(control)
    async with line.stream, trio.open_nursery() as nursery:
        await nursery.start(_obey_signals, solo, nursery.cancel_scope)
        nursery.start_soon(_obey_orders, line, decoder, solo, log)
        nursery.start_soon(log.run)
        await nursery.start(_until_drained, solo, nursery.cancel_scope)
        await line.say(READY)
        await _beat(line, solo)


async def _until_drained(
    solo: Solo, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]
) -> None:
    await solo.run(task_status=task_status)
    scope.cancel()


async def _obey_signals(
    solo: Solo, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if solo.draining:
                scope.cancel()
            else:
                solo.drain()


async def _obey_orders(line: _Line, decoder: Decoder, solo: Solo, log: Log) -> None:
    try:
        async for data in line.stream:
            for message in decoder.feed(bytes(data)):
                await line.say(await _obey(message, solo, log))
    except trio.BrokenResourceError:
        pass
    if not solo.draining:
        log.event("error", "supervisor-gone")
        solo.drain()


async def _obey(message: Message, solo: Solo, log: Log) -> bytes:
    """Do what is said; return what there is to say."""
    if isinstance(message, Tell):
        return pack_answer(await solo.report(message.since))
    if isinstance(message, End):
        return pack_answer(await solo.end_call(message.request_id))
    try:
        await solo.reload(message.config)
    except OSError:
        return REFUSED
    log.configure(message.config.server)
    return RELOADED


async def _beat(line: _Line, solo: Solo) -> None:
    while True:
        await solo.turn()
        solo.sample()
        await line.say(BEAT)
        await trio.sleep(BEAT_SECONDS)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
