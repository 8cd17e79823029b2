"""Limits over whole daemons: exact over workers, whatever is killed; revoked and reloaded."""

import json
import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
import trio

from swproxy import sign_url
from tests.support import ROOT
from tests.support.running import Daemon, daemon, write_app
from tests.support.upstream import take_and_answer, upstream
from tests.support.wire import APP_ID, PATIENCE, SECRET, End

LIMITS = """
limits.requests = "100000/minute"
[limits.user]
requests = "25/day"
concurrent = 30
"""


def limit(running: Daemon, text: str = LIMITS) -> None:
    file = running.work / "apps" / f"{APP_ID}.toml"
    file.write_text(file.read_text() + text)


async def limited(running: Daemon, text: str = LIMITS) -> None:
    """Have the daemon take limits by a reload."""
    limit(running, text)
    before = len(running.events("reloaded"))
    running.process.send_signal(signal.SIGHUP)
    await running.wait_for("reloaded", before + 1)


def request(url: str, **terms: object) -> bytes:
    signed = sign_url(APP_ID, SECRET, "http://edge", url, 600, "GET", terms=terms)
    return b"GET %b HTTP/1.1\r\nHost: edge\r\n\r\n" % signed.removeprefix("http://edge").encode()


async def status(running: Daemon, data: bytes) -> int:
    client = await running.connect()
    await client.send(data)
    found = (await client.read_response()).status
    await client.aclose()
    return found


async def endless(end: End) -> None:
    await end.read_request()
    await end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    await end.wait_closed()


async def hammer(running: Daemon, data: bytes, tasks: int) -> Counter[int]:
    found: Counter[int] = Counter()

    async def one() -> None:
        found[await status(running, data)] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(one)
    return found


async def test_forty_requests_at_once_over_two_workers(tmp_path: Path) -> None:
    async with (
        upstream(take_and_answer) as server,
        daemon(tmp_path / "d", server="workers = 2") as running,
    ):
        await limited(running)
        assert await hammer(running, request(server.url, user="42"), 40) == {200: 25, 429: 15}
        once = request(server.url, user="43", uses=3)
        assert await hammer(running, once, 20) == {200: 3, 403: 17}
        assert (
            await running.metric(f'swproxy_limited_total{{app="{APP_ID}",reason="already-used"}}')
            == 17
        )
        assert await running.metric("swproxy_ledger_seconds_count") == 60
        refused = [each for each in running.events("request") if each["status"] == 429]
        assert {each["limit"] for each in refused} == {"user-requests"}
        # One is killed, another takes its place; what was counted is counted still.
        os.kill(running.workers()[0], signal.SIGKILL)
        await running.wait_for("worker-ready", 3)
        for _ in range(4):
            assert await status(running, once) == 403
            assert await status(running, request(server.url, user="42")) == 429


METERED = """
meter = "tokens"
[weights]
"gpt-5-mini" = 3
[limits.user]
tokens = "1000/month"
"""
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 75\r\n\r\n"
    b'{"model":"gpt-5-mini","usage":{"prompt_tokens":40,"completion_tokens":60}}\n'
)


async def answer_with_usage(end: End) -> None:
    await end.read_request()
    await end.send(ANSWER)


async def command(running: Daemon, *words: str) -> str:
    """Return what a command prints, run beside the daemon."""
    done = await trio.run_process(
        [sys.executable, "-m", "swproxy", *words],
        env=os.environ | {"SWPROXY_CONFIG": str(running.work / "swproxy.toml")},
        cwd=ROOT,
        capture_stdout=True,
    )
    return done.stdout.decode()


async def test_what_calls_used_is_told_everywhere_and_charged(tmp_path: Path) -> None:
    async with (
        upstream(answer_with_usage) as server,
        daemon(tmp_path / "d", server="workers = 2") as running,
    ):
        await limited(running, METERED)
        for count in range(1, 4):
            assert await status(running, request(server.url, user="42")) == 200
            # The next one finds it settled, which is behind the answer's last byte.
            lines = await running.wait_for("request", count)
        told = {(each["tokens_in"], each["tokens_out"], each["model"]) for each in lines}
        assert told == {(40, 60, "gpt-5-mini")}
        for kind, count in (("input", 120), ("output", 180)):
            labels = f'{{app="{APP_ID}",kind="{kind}"}}'
            assert await running.metric(f"swproxy_tokens_total{labels}") == count
        with trio.fail_after(PATIENCE):
            while not (rows := json.loads(await command(running, "usage", "--json"))) or (
                sum(row["requests"] for row in rows) < 3
            ):
                await trio.sleep(0.1)
        used = [(row["user"], row["tokens_in"], row["tokens_out"]) for row in rows]
        assert used == [("42", 120, 180)]
        left = await command(running, "limits", APP_ID, "--user", "42")
        assert left.splitlines()[-1].split("\t")[:4] == ["user 42", "tokens", "100", "1000"]


async def test_counts_outlive_a_restart_of_the_machine(tmp_path: Path) -> None:
    run, state = tmp_path / "run", tmp_path / "state"
    store = f'[store]\npath = "{run}/ledger.sqlite"\nsnapshot = "{state}/ledger.sqlite"'
    async with upstream(take_and_answer) as server:
        once = request(server.url, uses=1)
        for number, expected in enumerate((200, 403)):
            async with daemon(
                tmp_path / str(number), server="workers = 2", limits=store
            ) as running:
                assert await status(running, once) == expected
                running.process.send_signal(signal.SIGTERM)
                with trio.fail_after(PATIENCE):
                    await running.process.wait()
            shutil.rmtree(run)


async def test_the_command_revokes_within_a_second_on_every_worker(tmp_path: Path) -> None:
    async with (
        upstream(endless) as server,
        daemon(tmp_path / "d", server="workers = 2") as running,
    ):
        streams = []
        for user in ("42", "43", "42"):
            client = await running.connect()
            await client.send(request(server.url, user=user))
            await client.read_until(b"first")
            streams.append(client)
        victim, _, second = streams
        await command(running, "revoke", APP_ID, "--user", "42")
        assert await victim.wait_closed() == "reset"
        assert await second.wait_closed() == "reset"
        ended = await running.wait_for("request", 2)
        assert [(each["code"], each["user"]) for each in ended] == [("revoked", "42")] * 2
        assert len(running.events("request")) == 2


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_reload_ends_the_calls_whose_application_or_secret_it_takes_away(
    tmp_path: Path, workers: int
) -> None:
    async with (
        upstream(endless) as server,
        daemon(tmp_path / "d", server=f"workers = {workers}") as running,
    ):
        write_app(running.work, app="other")
        running.process.send_signal(signal.SIGHUP)
        await running.wait_for("reloaded")
        streams = []
        for app in (APP_ID, "other"):
            client = await running.connect()
            signed = sign_url(app, SECRET, "http://edge", server.url, 600, "GET")
            target = signed.removeprefix("http://edge").encode()
            await client.send(b"GET %b HTTP/1.1\r\nHost: edge\r\n\r\n" % target)
            await client.read_until(b"first")
            streams.append(client)
        # A reload that changes other things leaves them alone.
        write_app(running.work, app="other", key="another-canary-key")
        running.process.send_signal(signal.SIGHUP)
        await running.wait_for("reloaded", 2)
        (running.work / "apps" / "other.toml").unlink()
        running.process.send_signal(signal.SIGHUP)
        await running.wait_for("reloaded", 3)
        assert await streams[1].wait_closed() == "reset"
        file = running.work / "apps" / f"{APP_ID}.toml"
        file.write_text(file.read_text().replace(SECRET, "canary-other-secret-0123456789"))
        running.process.send_signal(signal.SIGHUP)
        await running.wait_for("reloaded", 4)
        assert await streams[0].wait_closed() == "reset"
        ended = await running.wait_for("request", 2)
        assert [(each["app"], each["code"]) for each in ended] == [
            ("other", "revoked"),
            (APP_ID, "revoked"),
        ]


async def test_metrics_tell_how_much_of_a_limit_is_used(tmp_path: Path) -> None:
    name = f'app="{APP_ID}",limit="concurrent"'
    async with (
        upstream(endless) as server,
        daemon(tmp_path / "d", server="workers = 2", app="limits.concurrent = 40\n") as running,
    ):
        for _ in range(3):
            client = await running.connect()
            await client.send(request(server.url, user="42"))
            await client.read_until(b"first")
        with trio.fail_after(PATIENCE):
            while await running.metric(f"swproxy_limit_used{{{name}}}") != 3:
                await trio.sleep(0.1)
        assert await running.metric(f"swproxy_limit{{{name}}}") == 40
