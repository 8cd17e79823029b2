"""A shared store's faults, under a whole daemon with streams and calls under way.

    python -m tests.support.store_faults [ROUNDS]

prints a table of them: what a limited call is told meanwhile, the longest that one waited, and how
long after the fault's end the last one was refused; the worst of all rounds. Tests go through the
same faults and assert what is no duration: that streams go on, that nothing else is refused, that
all is well in the end.
"""

import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from swproxy import sign_url
from tests.support.nodes import ask
from tests.support.redis_server import NEWEST, RedisServer, free_ports
from tests.support.running import Daemon, daemon
from tests.support.slow_relay import SlowRelay, slow_relay
from tests.support.upstream import Upstream, upstream
from tests.support.wire import APP_ID, PATIENCE, SECRET, End

__all__ = ["FAULTS", "Fault", "Seen", "Trial", "trial"]

_ASKERS = 4
_STREAMS = 6
_DURING = 30
"""Limited calls that a fault lasts for."""

_STEADY = 20
"""Limited calls taken in a row that tell that it is over."""

_WORD = "store-password"
_LIMITS = '[limits.user]\nrequests = "1000000/day"\nconcurrent = 1000\n'
_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Asked:
    """A call, by trio's clock, and the code of its refusal, "" for none."""

    began: float
    ended: float
    code: str


@dataclass(frozen=True)
class Seen:
    """What callers saw of a fault."""

    codes: Counter[str]
    longest: float
    """seconds that a limited call took"""
    back: float
    """seconds from the fault's end to that of the last call that was refused"""


@dataclass
class Trial:
    """A daemon with all that is under way in it, and the store that is to fail."""

    node: Daemon
    server: Upstream
    store: RedisServer
    replica: RedisServer
    relay: SlowRelay
    asked: list[Asked] = field(default_factory=list)
    free: Counter[str] = field(default_factory=Counter)
    """what calls were told that nothing limits"""
    ticks: list[int] = field(default_factory=lambda: [0] * _STREAMS)

    def sign(self, path: str, terms: str = "#sw1:user=42") -> str:
        url = f"{self.server.url}{path}{terms}"
        return sign_url(APP_ID, SECRET, "http://edge", url, 600, "GET")

    async def suffer(self, fault: "Fault") -> Seen:
        """Go through a fault, and return when all is well again."""
        begin = len(self.asked)
        before = list(self.ticks)
        with trio.fail_after(PATIENCE):
            await fault.begin(self)
            await self._asked(len(self.asked) + _DURING)
        await fault.end(self)
        ended = trio.current_time()
        with trio.fail_after(PATIENCE):
            while any(each.code for each in self.asked[-_STEADY:]) or (
                self.asked[-_STEADY].began < ended
            ):
                await trio.sleep(0.005)
            while any(new <= old for new, old in zip(self.ticks, before, strict=True)):
                await trio.sleep(0.005)
        asked = self.asked[begin:]
        refused = [each.ended for each in asked if each.code]
        return Seen(
            Counter(each.code for each in asked),
            max(each.ended - each.began for each in asked),
            max(0.0, max(refused, default=ended) - ended),
        )

    async def _asked(self, count: int) -> None:
        while len(self.asked) < count:
            await trio.sleep(0.005)

    async def ask_on(self, url: str) -> None:
        """Make one limited call after another."""
        while True:
            began = trio.current_time()
            _, code = await ask(self.node, url)
            self.asked.append(Asked(began, trio.current_time(), code))
            await trio.sleep(0.01)

    async def ask_freely_on(self) -> None:
        """Make calls that nothing limits."""
        url = self.sign("/free", "")
        while True:
            _, code = await ask(self.node, url)
            self.free[code] += 1
            await trio.sleep(0.01)

    async def stream(
        self, number: int, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Take a stream's ticks; raises EOFError when it ends."""
        client = await self.node.connect()
        target = self.sign("/stream").removeprefix("http://edge")
        await client.send(f"GET {target} HTTP/1.1\r\nHost: edge\r\n\r\n".encode())
        head = await client.read_head()
        assert b" 200 " in head, head
        task_status.started()
        while True:
            await client.read_until(b"tick")
            client.forget()
            self.ticks[number] += 1


async def _answer(end: End) -> None:
    with suppress(EOFError, trio.BrokenResourceError, trio.TooSlowError):
        while True:
            if b" /stream" not in await end.read_head():
                await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                continue
            await end.send(_HEAD)
            while True:
                await end.send(b"4\r\ntick\r\n")
                await trio.sleep(0.05)


@asynccontextmanager
async def trial(
    work: Path, *, replicated: bool = False, down: bool = False
) -> AsyncIterator[Trial]:
    """Run a daemon of two workers with calls and streams under way, and its store.

    With `replicated` the store is a primary and a replica. If it is to be `down` at the start,
    there are calls that nothing limits, and no streams.
    """
    async with AsyncExitStack() as stack:
        ports = free_ports(2)
        store, replica = (_make(stack, work / f"store{port}", port) for port in ports)
        relay = await stack.enter_async_context(slow_relay(work / "relay", store.path))
        if not down:
            store.start()
        address = f"unix://{relay.path}"
        if replicated:
            replica.start()
            await _follow(replica, ports[0])
            address = "redis://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        server = await stack.enter_async_context(upstream(_answer))
        section = f'[store]\nurl = "{address}"\npassword = "${{file:{work}/word}}"\n'
        (work / "word").write_text(_WORD)
        node = await stack.enter_async_context(
            daemon(work / "d", server="workers = 2", store=section, app=_LIMITS)
        )
        nursery = await stack.enter_async_context(trio.open_nursery())
        run = Trial(node, server, store, replica, relay)
        for number in range(_STREAMS):
            if down:
                run.ticks.clear()
            else:
                await nursery.start(run.stream, number)
        for _ in range(_ASKERS):
            nursery.start_soon(run.ask_on, run.sign("/limited"))
        nursery.start_soon(run.ask_freely_on)
        yield run
        nursery.cancel_scope.cancel()


def _make(stack: AsyncExitStack, directory: Path, port: int) -> RedisServer:
    directory.mkdir()
    words = ("--requirepass", _WORD, "--masterauth", _WORD, "--repl-diskless-sync-delay", "0")
    server = RedisServer(directory, *words, port=port, program=NEWEST)
    stack.callback(server.stop)
    return server


def _say(server: RedisServer, *words: str, word: str = _WORD) -> str:
    return server.command("--no-auth-warning", "-a", word, *words)


async def _follow(replica: RedisServer, port: int) -> None:
    _say(replica, "REPLICAOF", "127.0.0.1", str(port))
    with trio.fail_after(PATIENCE):
        while "master_link_status:up" not in _say(replica, "INFO", "replication"):
            await trio.sleep(0.02)


@dataclass(frozen=True)
class Fault:
    """What befalls the store, and how that ends; where the trial differs, how."""

    title: str
    begin: Callable[[Trial], Awaitable[object]]
    end: Callable[[Trial], Awaitable[object]]
    refuses: bool = True
    replicated: bool = False
    down: bool = False


async def _storm(run: Trial) -> None:
    """Make a thousand calls, and leave without waiting for an answer."""
    data = f"GET {run.sign('/storm').removeprefix('http://edge')} HTTP/1.1\r\nHost: edge\r\n\r\n"

    async def leave_early() -> None:
        for _ in range(50):
            stream = await trio.open_tcp_stream("127.0.0.1", run.node.port)
            end = End(stream)
            await end.send(data.encode())
            await end.reset()

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(leave_early)


def _aside(function: Callable[[Trial], object]) -> Callable[[Trial], Awaitable[object]]:
    """Have something done in a thread, so that nobody here waits for it."""

    async def run_aside(run: Trial) -> None:
        await trio.to_thread.run_sync(function, run)

    return run_aside


def _configure(name: str, value: str, word: str = _WORD) -> Callable[[Trial], Awaitable[object]]:
    return _aside(lambda run: _say(run.store, "CONFIG", "SET", name, value, word=word))


def _change_password(run: Trial) -> None:
    _say(run.store, "CONFIG", "SET", "requirepass", "another")
    _say(run.store, "CLIENT", "KILL", "TYPE", "normal", word="another")


_kill = _aside(lambda run: run.store.stop())
_start = _aside(lambda run: run.store.start())
_nothing = _aside(lambda _: None)
_hang = _aside(lambda run: run.store.send_signal(signal.SIGSTOP))
_go_on = _aside(lambda run: run.store.send_signal(signal.SIGCONT))
_slow_down = _aside(lambda run: run.relay.delay(0.3))
_speed_up = _aside(lambda run: run.relay.delay(0.0))
_promote = _aside(lambda run: _say(run.replica, "REPLICAOF", "NO", "ONE"))

FAULTS = (
    Fault("down at the start", _nothing, _start, down=True),
    Fault("killed, and empty when it is back", _kill, _start),
    Fault("hung", _hang, _go_on),
    Fault("slow: each answer 0.3 s late", _slow_down, _speed_up),
    Fault("out of memory", _configure("maxmemory", "1"), _configure("maxmemory", "0")),
    Fault(
        "another password, and the right one again",
        _aside(_change_password),
        _configure("requirepass", _WORD, word="another"),
    ),
    Fault("a thousand requests begun and left", _storm, _nothing, refuses=False),
    Fault("killed, and a replica promoted", _kill, _promote, replicated=True),
)


async def _measure(rounds: int) -> None:
    sys.stdout.write("| What happens | Limited calls | Longest wait | Taken again after |\n")
    sys.stdout.write("| --- | --- | --- | --- |\n")
    for fault in FAULTS:
        seen: list[Seen] = []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as directory:
                work = Path(directory)
                async with trial(work, replicated=fault.replicated, down=fault.down) as run:
                    if not fault.down:
                        await trio.sleep(1)
                    seen.append(await run.suffer(fault))
        told = "503" if any(each.codes["limits-unavailable"] for each in seen) else "taken"
        longest = max(each.longest for each in seen)
        back = f"{max(each.back for each in seen):.1f} s" if told == "503" else "-"
        sys.stdout.write(f"| {fault.title} | {told} | {longest * 1000:.0f} ms | {back} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    os.umask(0o077)
    trio.run(_measure, int(sys.argv[1]) if len(sys.argv) > 1 else 1)
