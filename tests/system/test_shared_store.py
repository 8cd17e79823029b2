"""Two nodes of two workers each, with one Redis: exact together, and alive without each other."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from swproxy import sign_url
from tests.support import ROOT
from tests.support.redis_server import RedisServer
from tests.support.running import Daemon, daemon, write_app
from tests.support.upstream import Upstream, upstream
from tests.support.wire import APP_ID, PATIENCE, SECRET

TERMS = "#sw1:user=42"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    directory = tmp_path / "redis"
    directory.mkdir()
    server = RedisServer(directory).start()
    yield server
    server.stop()


@asynccontextmanager
async def nodes(
    tmp_path: Path, redis: RedisServer, *, limits: str, store: str = ""
) -> AsyncIterator[list[Daemon]]:
    """Run two nodes whose application has `limits`, lines of its table."""
    async with AsyncExitStack() as stack:
        running = []
        for name in ("one", "two"):
            work = tmp_path / name
            table = f'[store]\nurl = "unix://{redis.path}"\npath = "{work}/live.sqlite"\n{store}'
            node = daemon(work, server="workers = 2", store=table, app=limits)
            running.append(await stack.enter_async_context(node))
        yield running


async def ask(node: Daemon, url: str, method: str = "GET") -> tuple[int, str]:
    """Call a signed URL on a connection of its own; return status and problem code."""
    target = url.removeprefix("http://edge")
    client = await node.connect()
    await client.send(f"{method} {target} HTTP/1.1\r\nHost: edge\r\n\r\n".encode())
    answer = await client.read_response()
    await client.aclose()
    node.clients.remove(client)
    code = "" if answer.status == 200 else json.loads(answer.body)["code"]
    return answer.status, code


def sign(server: Upstream, terms: str = TERMS) -> str:
    return sign_url(APP_ID, SECRET, "http://edge", f"{server.url}/{terms}", 600, "GET")


async def together(running: Sequence[Daemon], url: str, count: int) -> list[tuple[int, str]]:
    """Call a URL many times at once, at all nodes."""
    answers: list[tuple[int, str]] = []

    async def one(node: Daemon) -> None:
        answers.append(await ask(node, url))

    async with trio.open_nursery() as nursery:
        for i in range(count):
            nursery.start_soon(one, running[i % len(running)])
    return answers


async def test_never_one_too_many_over_all_workers_of_all_nodes(
    tmp_path: Path, redis: RedisServer
) -> None:
    limits = '[limits.user]\nrequests = "30/day"\n'
    async with (
        upstream() as server,
        nodes(tmp_path, redis, limits=limits) as running,
    ):
        once = sign(server, "#sw1:user=7&uses=5")
        answers = await together(running, once, 40)
        assert sorted(set(answers)) == [(200, ""), (403, "already-used")]
        assert answers.count((200, "")) == 5
        answers = await together(running, sign(server), 60)
        assert answers.count((200, "")) == 30
        assert answers.count((429, "rate-limited")) == 30

        # Revoked with one node's configuration, refused at both.
        config = running[0].work / "swproxy.toml"
        command = [sys.executable, "-m", "swproxy", "revoke", APP_ID, "--user", "9"]
        other = sign(server, "#sw1:user=9")
        assert (await ask(running[1], other))[0] == 200
        await trio.run_process([*command, "--config", str(config)], cwd=ROOT, capture_stdout=True)
        with trio.fail_after(PATIENCE):
            for node in running:
                while (await ask(node, other))[0] == 200:
                    await trio.sleep(0.1)

        # A node that is killed takes nothing with it.
        running[1].process.kill()
        await running[1].wait_ended()
        assert (await ask(running[0], sign(server, "#sw1:user=8")))[0] == 200


async def test_without_the_store(tmp_path: Path, redis: RedisServer) -> None:
    limits = '[limits.user]\nrequests = "1000/minute"\n'
    async with (
        upstream() as server,
        nodes(tmp_path, redis, limits=limits) as (refusing, _),
        nodes(tmp_path / "b", redis, limits=limits, store='when_down = "local"\n') as (local, _),
    ):
        limited, free = sign(server), sign(server, "")
        once = sign(server, "#sw1:user=42&uses=3")
        for node in (refusing, local):
            assert await ask(node, limited) == (200, "")
            assert await ask(node, once) == (200, "")
        redis.stop()
        for node in (refusing, local):
            assert await ask(node, free) == (200, "")
            assert await ask(node, once) == (503, "limits-unavailable")
        assert await ask(refusing, limited) == (503, "limits-unavailable")
        assert await ask(local, limited) == (200, "")
        await refusing.wait_for("ledger-down")
        redis.start()
        with trio.fail_after(PATIENCE):
            while (await ask(refusing, limited))[0] != 200:
                await trio.sleep(0.1)


def test_check_connect(tmp_path: Path, redis: RedisServer) -> None:
    config = tmp_path / "swproxy.toml"
    (tmp_path / "apps").mkdir()
    write_app(tmp_path)

    def check(password: str) -> subprocess.CompletedProcess[str]:
        table = f'[store]\nurl = "unix://{redis.path}"\npassword = "${{WORD}}"\n'
        config.write_text(table)
        command = [sys.executable, "-m", "swproxy", "check", "--connect", "--config", str(config)]
        environ = {**os.environ, "WORD": password}
        return subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
        )

    redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    redis.command("CONFIG", "SET", "requirepass", "canary-word")
    good = check("canary-word")
    assert good.returncode == 0
    assert "answers" in good.stdout
    assert "allkeys-lru" in good.stderr
    assert "append-only" in good.stderr
    bad = check("canary-wrong")
    assert bad.returncode == 1
    assert "WRONGPASS" in bad.stderr
    assert "canary" not in bad.stderr + bad.stdout
