"""Whole daemons with one Redis: what they do without it, and what `check --connect` says of it."""

import os
import subprocess
import sys
from pathlib import Path

import trio

from swproxy import sign_url
from tests.support import ROOT
from tests.support.nodes import ask, nodes
from tests.support.redis_server import RedisServer
from tests.support.running import write_app
from tests.support.upstream import Upstream, upstream
from tests.support.wire import APP_ID, PATIENCE, SECRET

TERMS = "#sw1:user=42"


def sign(server: Upstream, terms: str = TERMS) -> str:
    return sign_url(APP_ID, SECRET, "http://edge", f"{server.url}/{terms}", 600, "GET")


async def test_without_the_store(tmp_path: Path, redis: RedisServer) -> None:
    limits = '[limits.user]\nrequests = "1000/minute"\n'
    local = 'when_down = "local"\n'
    async with (
        upstream() as server,
        nodes(tmp_path, redis, limits=limits, stores=("", local)) as (refusing, counting),
    ):
        limited, free = sign(server), sign(server, "")
        once = sign(server, "#sw1:user=42&uses=3")
        for node in (refusing, counting):
            assert await ask(node, limited) == (200, "")
            assert await ask(node, once) == (200, "")
        redis.stop()
        for node in (refusing, counting):
            assert await ask(node, free) == (200, "")
            assert await ask(node, once) == (503, "limits-unavailable")
        assert await ask(refusing, limited) == (503, "limits-unavailable")
        assert await ask(counting, limited) == (200, "")
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
