"""The live feed of a whole daemon, with one worker and with several."""

import os
import signal
import time
from pathlib import Path

import pytest
import trio

from tests.support.live import look
from tests.support.running import Daemon, daemon
from tests.support.upstream import PausingApi, upstream
from tests.support.wire import API_KEY, APP_ID, SECRET

workers = pytest.mark.parametrize("workers", [1, 2])


async def admin(running: Daemon) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", running.admin_port)


@workers
async def test_it_tells_what_metrics_and_clients_tell(tmp_path: Path, workers: int) -> None:
    api = PausingApi()
    async with upstream(api) as server, daemon(tmp_path, server=f"workers = {workers}") as running:
        clients = [await running.connect() for _ in range(8)]
        for client in clients:
            await client.send(running.request(server.url + "/stream?secret=canary-query"))
            await client.read_until(b"first")
        forged = await running.connect()
        await forged.send(b"GET /?X-Sw-Algorithm=none HTTP/1.1\r\nHost: a\r\n\r\n")
        await forged.read_response()
        async with look(await admin(running)) as looker:
            first = await looker.next()
            assert first["v"] == 1
            assert first["seconds"] is None
            assert first["total"]["requests_rate"] is None
            assert first["total"]["streams"] == len(clients)
            assert [app["id"] for app in first["apps"]] == [APP_ID]
            assert first["apps"][0]["streams"] == len(clients)
            assert first["total"]["bytes_down"] == await running.metric(
                'swproxy_bytes_total{app="",direction="down"}'
            )
            assert [refusal["count"] for refusal in first["refusals"]] == [1]
            assert [request["code"] for request in first["requests"]] == [
                refusal["code"] for refusal in first["refusals"]
            ]
            assert len(first["streams"]) == len(clients)
            ages = [stream["age"] for stream in first["streams"]]
            assert ages == sorted(ages, reverse=True)
            assert {stream["bytes_down"] for stream in first["streams"]} == {5}
            assert {stream["path"] for stream in first["streams"]} == {"/stream"}
            serving = [each for each in first["workers"] if each["name"] != "supervisor"]
            assert len(serving) == workers
            assert {each["state"] for each in serving} == {"up"}
            assert sum(each["streams"] for each in serving) == len(clients)
            assert all(each["memory"] > 1 << 20 for each in serving)

            second = await looker.next()
            assert second["requests"] == []
            assert second["seconds"] > 0.9
            assert second["total"]["bytes_down_rate"] == 0
            api.go_on.set()
            for client in clients:
                assert (await client.read_exactly(4)) == b"last"
            third = await looker.until(lambda frame: frame["total"]["streams"] == 0)
            moved = sum(
                round(frame["total"]["bytes_down_rate"] * frame["seconds"])
                for frame in looker.frames[1:]
            )
            # What passed before anybody looked is in no rate.
            assert abs(moved - 4 * len(clients)) <= 1
            ended = [each for frame in looker.frames[1:] for each in frame["requests"]]
            assert [each["bytes_down"] for each in ended] == [9] * len(clients)
            assert third["total"]["requests"] == len(clients) + 1
            assert third["total"]["first_byte"]["count"] == len(clients)
            assert third["apps"][0]["bytes_down"] == await running.metric(
                f'swproxy_bytes_total{{app="{APP_ID}",direction="down"}}'
            )
            logged = {each["request_id"]: each for each in await running.wait_for("request", 9)}
            for each in (*first["requests"], *ended):
                line = dict(logged[each["request_id"]])
                assert each.pop("time")[:16] == line.pop("time")[:16]  # each its own clock
                assert each == line
            keys = third["apps"][0]["keys"]
            assert keys["secrets"] == 1
            assert 0 <= keys["key_age"] < 600
            text = repr(looker.frames)
            for secret in (SECRET, API_KEY, "canary-query", "X-Sw-"):
                assert secret not in text


async def test_a_worker_that_dies_is_seen_to(tmp_path: Path) -> None:
    async with (
        daemon(tmp_path, server="workers = 2") as running,
        look(await admin(running)) as looker,
    ):
        first = await looker.next()
        victim = first["workers"][0]["pid"]
        os.kill(victim, signal.SIGKILL)
        after = await looker.until(
            lambda frame: (
                frame["workers"][0]["pid"] not in (victim, None)
                and frame["workers"][0]["state"] == "up"
            )
        )
        assert [each["restarts"] for each in after["workers"]] == [1, 0, 0]
        # One that hangs is told apart from one that has nothing to do.
        hung = after["workers"][1]["pid"]
        os.kill(hung, signal.SIGSTOP)
        try:
            silent = await looker.until(lambda frame: frame["workers"][1]["state"] == "silent")
            assert silent["workers"][0]["state"] == "up"
        finally:
            os.kill(hung, signal.SIGCONT)
        back = await looker.until(lambda frame: frame["workers"][1]["state"] == "up")
        assert back["time"] <= time.time()
