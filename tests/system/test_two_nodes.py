"""Two nodes of two workers each with one Redis, behind an nginx that runs the shipped site.

Exact together under load; what is revoked ends everywhere; and a node that is killed takes with it
its own streams and nothing else.
"""

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from swproxy import sign_url
from swproxy.quota.ledger import LEASE_SECONDS
from swproxy.quota.script import PREFIX
from swproxy.quota.windows import MICROS
from tests.support import ROOT
from tests.support.nginx import Nginx, nginx
from tests.support.nodes import ask, nodes
from tests.support.redis_server import RedisServer
from tests.support.running import Daemon
from tests.support.upstream import Upstream, upstream
from tests.support.wire import APP_ID, PATIENCE, SECRET, End

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
STREAM = HEAD + b"Content-Length: 9\r\n\r\nfirst"
LEASES = f"{PREFIX}holders"


@dataclass
class Api:
    """The API's side: how many calls it had, and had at once, of each path."""

    calls: Counter[str] = field(default_factory=Counter)
    open: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    finish: trio.Event = field(default_factory=trio.Event)

    async def answer(self, end: End) -> None:
        """Answer a path that begins with /stream when all is to finish, any other at once."""
        with suppress(EOFError, trio.BrokenResourceError, trio.TooSlowError):
            while True:
                path = (await end.read_head()).split(b" ")[1].decode()
                self.calls[path] += 1
                self.open[path] += 1
                self.most[path] = max(self.most[path], self.open[path])
                try:
                    await self._answer(end, path)
                finally:
                    self.open[path] -= 1

    async def _answer(self, end: End, path: str) -> None:
        if not path.startswith("/stream"):
            await trio.sleep(0.01)  # several may be under way
            await end.send(HEAD + b"Content-Length: 2\r\n\r\nok")
            return
        await end.send(STREAM)
        async with trio.open_nursery() as nursery:

            async def until_left() -> None:
                with suppress(trio.BrokenResourceError):
                    await end.stream.receive_some(1)
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_left)
            await self.finish.wait()
            await end.send(b"last")
            nursery.cancel_scope.cancel()


@dataclass
class Fleet:
    """Two nodes, and what is in front of and behind them."""

    edge: Nginx
    nodes: list[Daemon]
    server: Upstream
    api: Api
    redis: RedisServer
    streams: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0

    def sign(self, path: str, user: str, terms: str = "") -> str:
        url = f"{self.server.url}{path}#sw1:user={user}{terms}"
        return sign_url(APP_ID, SECRET, "http://edge", url, 600, "GET")

    async def send(self, url: str, source: int = 1) -> End:
        """Send a request to nginx, on a connection of its own, from 127.0.0.`source`."""
        client = await self.edge.connect(source=f"127.0.0.{source}")
        target = url.removeprefix("http://edge")
        await client.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return client

    async def ask(self, url: str, source: int = 1) -> str:
        """Return the code of a refusal, "" for an answer, "lost" where there was none."""
        self.in_flight += 1
        try:
            client = await self.send(url, source)
            answer = await client.read_response()
        except (EOFError, trio.BrokenResourceError):
            return "lost"
        finally:
            self.in_flight -= 1
        await client.aclose()
        self.edge.clients.remove(client)
        return "" if answer.status == 200 else str(json.loads(answer.body).get("code", "edge"))

    async def hold(
        self, user: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Hold a user's stream; started when it has begun. Count it as whole or lost at its end."""
        client = await self.send(self.sign(f"/stream/{user}", user))
        await client.read_until(b"first")
        task_status.started()
        try:
            with trio.fail_after(PATIENCE):
                await client.read_until(b"last")
            self.streams[f"{user} whole"] += 1
        except (EOFError, trio.BrokenResourceError):
            self.streams[f"{user} lost"] += 1

    async def streams_of_nodes(self) -> list[float]:
        """Return how many streams each node has under way."""
        return [await each.metric('swproxy_active_streams{kind="http"}') for each in self.nodes]

    def holders(self, user: str) -> set[str]:
        """Return the workers that hold places of a user."""
        fields = self.redis.command("HKEYS", f"{PREFIX}user/{APP_ID}/{user}").split()
        return {name.removeprefix("places/") for name in fields if name.startswith("places/")}


@asynccontextmanager
async def fleet(tmp_path: Path, redis: RedisServer, limits: str) -> AsyncIterator[Fleet]:
    api = Api()
    (tmp_path / "edge").mkdir()
    async with (
        upstream(api.answer) as server,
        nodes(tmp_path, redis, limits=limits) as running,
        nginx(tmp_path / "edge", *(each.port for each in running)) as edge,
    ):
        yield Fleet(edge, running, server, api, redis)


async def test_both_nodes_count_and_revoke_as_one(tmp_path: Path, redis: RedisServer) -> None:
    limits = '[limits.user]\nrequests = "40/day"\nconcurrent = 8\n'
    async with fleet(tmp_path, redis, limits) as all_of_it:
        await never_one_too_many(all_of_it)
        await a_url_for_five_calls(all_of_it)
        await revoked_at_one_ended_at_both(all_of_it)


async def never_one_too_many(all_of_it: Fleet) -> None:
    """Have 20 clients ask until the user's calls are used up, all four workers taking part."""
    url = all_of_it.sign("/of-42", "42")
    codes: Counter[str] = Counter()
    holders: set[str] = set()

    async def until_refused(source: int) -> None:
        while True:
            code = await all_of_it.ask(url, source)
            codes[code] += 1
            if code == "rate-limited":
                return

    async def look() -> None:
        while True:
            holders.update(await trio.to_thread.run_sync(all_of_it.holders, "42"))

    async with trio.open_nursery() as looking:
        looking.start_soon(look)
        async with trio.open_nursery() as nursery:
            for i in range(20):
                nursery.start_soon(until_refused, 1 + i)
        looking.cancel_scope.cancel()
    assert set(codes) <= {"", "rate-limited", "too-many-at-once"}
    assert codes[""] == all_of_it.api.calls["/of-42"] == 40
    assert all_of_it.api.most["/of-42"] <= 8
    assert len(holders) == 4


async def a_url_for_five_calls(all_of_it: Fleet) -> None:
    once = all_of_it.sign("/of-7", "7", "&uses=5")
    codes: Counter[str] = Counter()

    async def one(source: int) -> None:
        codes[await all_of_it.ask(once, source)] += 1

    async with trio.open_nursery() as nursery:
        for i in range(40):
            nursery.start_soon(one, 1 + i)
    assert set(codes) <= {"", "already-used", "too-many-at-once"}
    while codes[""] < 5:
        await one(1)
    assert await all_of_it.ask(once) == "already-used"
    assert codes[""] == all_of_it.api.calls["/of-7"] == 5


async def revoked_at_one_ended_at_both(all_of_it: Fleet) -> None:
    async with trio.open_nursery() as nursery:
        for user in ("9", "8") * 6:
            await nursery.start(all_of_it.hold, user)
        assert min(await all_of_it.streams_of_nodes()) >= 4
        config = all_of_it.nodes[0].work / "swproxy.toml"
        command = [sys.executable, "-m", "swproxy", "revoke", APP_ID, "--user", "9"]
        url, other = all_of_it.sign("/more", "9"), all_of_it.sign("/more", "8")
        await trio.run_process([*command, "--config", str(config)], cwd=ROOT, capture_stdout=True)
        with trio.fail_after(PATIENCE):
            while all_of_it.streams["9 lost"] < 6:
                await trio.sleep(0.01)
        # A worker that had none of the streams hears of it in its own turn, and then for good.
        for node in all_of_it.nodes:
            refused = 0
            with trio.fail_after(PATIENCE):
                while refused < 8:
                    told = await ask(node, url)
                    refused = refused + 1 if told == (403, "revoked") else 0
                    assert refused or told == (200, "")
            assert await ask(node, other) == (200, "")
        assert await all_of_it.ask(url) == "revoked"
        all_of_it.api.finish.set()
    assert all_of_it.streams == {"9 lost": 6, "8 whole": 6}


async def kill(node: Daemon) -> None:
    """Kill a node as a power cut does: nobody of it says another word."""
    node.process.send_signal(signal.SIGSTOP)
    for worker in node.workers():
        os.kill(worker, signal.SIGKILL)
    node.process.kill()
    await node.wait_ended()


async def let_leases_end(redis: RedisServer, count: int) -> None:
    """Find the leases that nobody renews any more, and let their time have gone by."""

    def leases() -> dict[str, float]:
        words = redis.command("ZRANGE", LEASES, "0", "-1", "WITHSCORES").split()
        return {name: float(until) for name, until in zip(words[::2], words[1::2], strict=True)}

    with trio.fail_after(PATIENCE):
        while True:
            known = leases()
            dead = [each for each in known if known[each] < max(known.values()) - 2 * MICROS]
            if len(dead) == count:
                break
            await trio.sleep(0.1)
    for each in dead:
        redis.command("ZINCRBY", LEASES, str(-LEASE_SECONDS * MICROS), each)


async def test_a_node_that_is_killed_loses_its_own_streams_and_its_leases_heal(
    tmp_path: Path, redis: RedisServer
) -> None:
    limits = "[limits.user]\nconcurrent = 8\n"
    async with fleet(tmp_path, redis, limits) as all_of_it, trio.open_nursery() as nursery:
        over = False
        one_more = all_of_it.sign("/more", "42")
        codes: Counter[str] = Counter()

        async def load(source: int) -> None:
            url = all_of_it.sign("/quick", str(source))
            while not over:
                codes[await all_of_it.ask(url, source)] += 1

        for _ in range(8):
            await nursery.start(all_of_it.hold, "42")
        assert await all_of_it.ask(one_more) == "too-many-at-once"
        killed, survivor = await all_of_it.streams_of_nodes()
        assert killed + survivor == 8
        assert killed >= 2
        for i in range(4):
            nursery.start_soon(load, 2 + i)
        with trio.fail_after(PATIENCE):
            while codes[""] < 20:
                await trio.sleep(0.01)
            await kill(all_of_it.nodes[0])
            at_kill = all_of_it.in_flight
            while all_of_it.streams["42 lost"] < killed:
                await trio.sleep(0.01)
            while codes[""] < 60:
                await trio.sleep(0.01)
        over = True
        assert codes["lost"] + codes["edge"] <= at_kill
        assert set(codes) <= {"", "lost", "edge"}

        # Until its leases end nobody has the places of those that are lost; then there are as many.
        assert await all_of_it.ask(one_more) == "too-many-at-once"
        await let_leases_end(redis, count=2)
        for _ in range(int(killed)):
            await nursery.start(all_of_it.hold, "42")
        assert await all_of_it.ask(one_more) == "too-many-at-once"
        assert all_of_it.streams["42 whole"] == 0
        assert all_of_it.api.most["/stream/42"] <= 8
        all_of_it.api.finish.set()
    assert all_of_it.streams == {"42 lost": killed, "42 whole": 8}
