"""What a decision costs in the file of one machine, and on the server that many nodes share."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from bench.client import no_garbage
from bench.decisions import four_checks, ledger_in, one_time
from bench.figures import Metric, percentile
from bench.machine import Cores, on_cores
from bench.processes import StartError
from bench.redis import Server, serve
from bench.session import Session
from swproxy.config.store_address import StoreAddress
from swproxy.quota.accounts import Call, Taken
from swproxy.quota.checks import End
from swproxy.quota.ledger import Ledger
from swproxy.quota.valkey import Login, ValkeyLedger

NAME = "store"
TITLE = "Decisions by the file of a machine, and by a server that nodes share"
RATE = Metric("decisions_per_second", "/s", "decisions")
CPU = Metric("cpu_us_per_decision", "us", "worker's CPU/decision")
SERVER = Metric("server_us_per_decision", "us", "server's CPU/decision")
WIRE = Metric("bytes_per_decision", "bytes", "over the wire")
P50 = Metric("decision_p50_ms", "ms", "p50")
P99 = Metric("decision_p99_ms", "ms", "p99")
HELD = Metric("bytes_per_url", "bytes", "held by a one-time URL")
TURN = Metric("server_us_per_turn", "us", "server's CPU/turn of a worker")
NOTES = (
    (
        "One worker on a core of its own, so many calls at once; each is decided (four checks) and "
        "settled. The server has another core, is reached over TCP, and keeps an append-only "
        "file. Its share is its own processor time, settlements included, so a million over it is "
        "what one of its cores carries in a second. A turn is what each worker asks for twice a "
        "second, whether there are calls or not."
    ),
)
_SERVERS = ("redis-server", "valkey-server")
_CONCURRENCIES = (1, 16, 64)
_WORKERS = 20
_numbers = itertools.count()

Open = Callable[[], AbstractAsyncContextManager[Ledger]]


def run(session: Session) -> None:
    """Measure the file, then each server there is."""
    cores = Cores.pinned()
    with on_cores(cores.subject), tempfile.TemporaryDirectory(prefix="swproxy-bench-") as name:
        directory = Path(name)
        rounds = session.options.rounds_of(5)
        session.progress.begin(NAME, (1 + len(_SERVERS)) * rounds * len(_CONCURRENCIES))
        trio.run(_measure, session, "sqlite", partial(_file, directory), None)
        for program in _SERVERS:
            place = directory / program
            place.mkdir()
            try:
                with serve(program, place, cores.load) as server:
                    trio.run(_measure, session, program, partial(_on, server), server)
                    trio.run(_watch_turns, session, program, server)
            except StartError as error:
                session.figures.remark(NAME, program, f"not measured: {error}")


@asynccontextmanager
async def _file(directory: Path) -> AsyncIterator[Ledger]:
    ledger = ledger_in(directory)
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        yield ledger
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _on(server: Server) -> AsyncIterator[Ledger]:
    ledger = ValkeyLedger(StoreAddress(nodes=(("127.0.0.1", server.port),)), Login(), seconds=5)
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        yield ledger
        nursery.cancel_scope.cancel()


@dataclass(slots=True)
class _Load:
    """So many calls at once, until all are decided and settled."""

    ledger: Ledger
    calls: Iterator[Call]
    seconds: list[float] = field(default_factory=list)

    async def run(self, concurrency: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(concurrency):
                nursery.start_soon(self._decide)

    async def _decide(self) -> None:
        for call in self.calls:
            began = time.perf_counter()
            taken = await self.ledger.admit(call)
            self.seconds.append(time.perf_counter() - began)
            assert isinstance(taken, Taken)
            self.ledger.settle(taken, End(tokens=50))


async def _measure(session: Session, store: str, opened: Open, server: Server | None) -> None:
    count = 1000 if session.options.quick else 6000
    async with opened() as ledger:
        await _Load(ledger, _calls(200)).run(16)
        for _ in range(session.options.rounds_of(5)):
            for concurrency in _CONCURRENCIES:
                session.progress.step(f"{store} c={concurrency}")
                load = _Load(ledger, _calls(count // 2 if concurrency == 1 else count))
                spent = await _spent(load, concurrency, server)
                session.add(NAME, store, {"concurrency": concurrency}, spent)
                await trio.sleep(0.7)  # what the ledger has put off
        if server is not None:
            await _hold(session, store, ledger, server)


def _calls(count: int) -> Iterator[Call]:
    return map(four_checks, itertools.islice(_numbers, count))


async def _spent(load: _Load, concurrency: int, server: Server | None) -> dict[Metric, float]:
    before = _of_server(server)
    with no_garbage():
        cpu, began = time.process_time(), time.perf_counter()
        await load.run(concurrency)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    done = len(load.seconds)
    found = {
        RATE: done / seconds,
        CPU: 1e6 * cpu / done,
        P50: 1e3 * percentile(load.seconds, 0.5),
        P99: 1e3 * percentile(load.seconds, 0.99),
    }
    if before is None:
        return found
    await trio.sleep(0.6)  # the last settlements
    after = _of_server(server)
    assert after is not None
    return found | {
        SERVER: 1e6 * (after[0] - before[0]) / done,
        WIRE: (after[1] - before[1]) / done,
    }


def _of_server(server: Server | None) -> tuple[float, int] | None:
    """Return the processor seconds that it has spent and the bytes that it has moved."""
    if server is None:
        return None
    said = server.info()
    moved = int(said["total_net_input_bytes"]) + int(said["total_net_output_bytes"])
    return server.cpu_seconds(), moved


async def _hold(session: Session, store: str, ledger: Ledger, server: Server) -> None:
    """Have one-time URLs counted, and see what the server keeps of them."""
    count = 2000 if session.options.quick else 20_000
    before = int(server.info()["used_memory"])
    await _Load(ledger, map(one_time, itertools.islice(_numbers, count))).run(64)
    await trio.sleep(1.2)
    held = int(server.info()["used_memory"]) - before
    session.add(NAME, store, {"concurrency": 64}, {HELD: held / count})


async def _watch_turns(session: Session, store: str, server: Server) -> None:
    """See what workers cost the server that have nothing to ask."""
    seconds = 1.0 if session.options.quick else 5.0
    began = server.cpu_seconds()
    await trio.sleep(seconds)
    alone = server.cpu_seconds() - began
    async with AsyncExitStack() as stack:
        for _ in range(_WORKERS):
            await stack.enter_async_context(_on(server))
        began = server.cpu_seconds()
        await trio.sleep(seconds)
        spent = server.cpu_seconds() - began - alone
    turns = _WORKERS * 2 * seconds
    session.add(NAME, store, {"concurrency": 0}, {TURN: max(0.0, 1e6 * spent / turns)})
