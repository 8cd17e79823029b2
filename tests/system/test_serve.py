"""The daemon as a process: signals, workers, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.support import ROOT
from tests.support.running import Daemon, daemon, write_app
from tests.support.upstream import PausingApi, upstream
from tests.support.wire import API_KEY, PATIENCE, SECRET, End, open_descriptors

STREAMS = 'swproxy_active_streams{kind="http"}'
CONNECTIONS = "swproxy_connections"
workers = pytest.mark.parametrize("workers", [1, 2])


async def open_stream(running: Daemon, url: str) -> End:
    client = await running.connect()
    await client.send(running.request(url + "/stream"))
    await client.read_until(b"first")
    return client


async def until(running: Daemon, metric: str, value: float) -> None:
    with trio.fail_after(PATIENCE):
        while await running.metric(metric) != value:
            await trio.sleep(0.05)


class Load:
    """Clients that ask all the time: half over one connection each, half over a new one a time."""

    def __init__(self, running: Daemon, url: str) -> None:
        self._running = running
        self._url = url + "/quick"
        self.answered = 0
        self.over = False

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(self._ask, number % 2 == 0)

    async def _ask(self, keep: bool) -> None:
        client = await self._running.connect()
        while not self.over:
            await client.send(self._running.request(self._url))
            response = await client.read_response()
            assert (response.status, response.body) == (200, b"ok")
            self.answered += 1
            if not keep:
                await client.aclose()
                client = await self._running.connect()

    async def wait_for(self, count: int) -> None:
        goal = self.answered + count
        with trio.fail_after(PATIENCE):
            while self.answered < goal:
                await trio.sleep(0.002)


@workers
async def test_fifty_reloads_under_load_fail_nobody(tmp_path: Path, workers: int) -> None:
    api = PausingApi()
    async with (
        upstream(api) as server,
        daemon(tmp_path / "d", server=f"workers = {workers}") as running,
        trio.open_nursery() as nursery,
    ):
        stream = await open_stream(running, server.url)
        load = Load(running, server.url)
        nursery.start_soon(load.run)
        for count in range(50):
            # Every other one also replaces the pool of upstream connections.
            seconds = 1.0 + count % 4 // 2
            config = running.work / "swproxy.toml"
            text = config.read_text().partition("\nconnect_seconds")[0]
            config.write_text(f"{text}\nconnect_seconds = {seconds}\n")
            running.process.send_signal(signal.SIGHUP)
            await running.wait_for("reloaded", count + 1)
            await load.wait_for(2)
        load.over = True
        api.go_on.set()
        await stream.read_until(b"last")
        assert running.process.returncode is None


@workers
async def test_a_reload_changes_what_comes_and_a_broken_one_nothing(
    tmp_path: Path, workers: int
) -> None:
    async with (
        upstream(PausingApi()) as server,
        daemon(tmp_path / "d", server=f"workers = {workers}") as running,
    ):
        client = await running.connect()
        await client.send(running.request(server.url + "/one"))
        assert (await client.read_response()).status == 200
        assert API_KEY.encode() in server.received

        write_app(running.work, key="canary-second-key")
        running.process.send_signal(signal.SIGHUP)
        await running.wait_for("reloaded")
        await client.send(running.request(server.url + "/two"))
        assert (await client.read_response()).status == 200
        assert b"canary-second-key" in server.received

        (running.work / "apps" / "broken.toml").write_text("allow = 3")
        write_app(running.work, key="canary-third-key")
        running.process.send_signal(signal.SIGHUP)
        (refused,) = await running.wait_for("reload-refused")
        assert "broken.toml" in refused["faults"][0]
        await client.send(running.request(server.url + "/three"))
        assert (await client.read_response()).status == 200
        assert b"canary-third-key" not in server.received
        told = (running.work / "log").read_text()
        assert "canary-second-key" not in told
        assert SECRET not in told


async def test_a_reload_says_what_needs_a_restart(tmp_path: Path) -> None:
    async with daemon(tmp_path / "d") as running:
        config = running.work / "swproxy.toml"
        config.write_text(config.read_text().replace("[limits]", "workers = 2\n[limits]"))
        running.process.send_signal(signal.SIGHUP)
        (said,) = await running.wait_for("restart-needed")
        assert said["key"] == "server.workers"
        await running.wait_for("reloaded")


@workers
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_drain_refuses_the_new_and_finishes_the_old(
    tmp_path: Path, workers: int, number: signal.Signals
) -> None:
    api = PausingApi()
    async with (
        upstream(api) as server,
        daemon(tmp_path / "d", server=f"workers = {workers}") as running,
    ):
        idle = await running.connect()
        await idle.send(running.request(server.url + "/quick"))
        assert (await idle.read_response()).status == 200
        stream = await open_stream(running, server.url)
        assert await running.ask("/readyz") == (200, "ready\n")
        running.process.send_signal(number)
        assert await idle.wait_closed() == "closed"
        assert await running.ask("/readyz") == (503, "draining\n")
        assert (await running.ask("/healthz"))[0] == 200
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    late = await trio.open_tcp_stream("127.0.0.1", running.port)
                except OSError:
                    break
                await trio.aclose_forcefully(late)
        assert running.process.returncode is None
        api.go_on.set()
        await stream.read_until(b"last")
        assert await running.wait_ended() == 0
        assert running.events("stopped")


@workers
async def test_a_second_signal_ends_at_once_and_cuts_what_is_left(
    tmp_path: Path, workers: int
) -> None:
    async with (
        upstream(PausingApi()) as server,
        daemon(tmp_path / "d", server=f"workers = {workers}") as running,
    ):
        stream = await open_stream(running, server.url)
        running.process.send_signal(signal.SIGTERM)
        await running.wait_for("draining")
        running.process.send_signal(signal.SIGTERM)
        assert await stream.wait_closed() == "reset"
        assert await running.wait_ended() == 0


@workers
async def test_a_drain_ends_when_its_time_is_over(tmp_path: Path, workers: int) -> None:
    async with (
        upstream(PausingApi()) as server,
        daemon(tmp_path / "d", server=f"drain_seconds = 0.3\nworkers = {workers}") as running,
    ):
        stream = await open_stream(running, server.url)
        running.process.send_signal(signal.SIGTERM)
        assert await stream.wait_closed() == "reset"
        assert await running.wait_ended() == 0


async def test_a_new_connection_in_a_drain_still_gets_its_first_answer(tmp_path: Path) -> None:
    async with upstream(PausingApi()) as server, daemon(tmp_path / "d") as running:
        client = await running.connect()
        await until(running, CONNECTIONS, 1)
        running.process.send_signal(signal.SIGTERM)
        await running.wait_for("draining")
        await client.send(running.request(server.url + "/quick"))
        response = await client.read_response()
        assert (response.status, response.headers["connection"]) == (200, "close")
        assert await running.wait_ended() == 0


async def test_metrics_are_the_sum_over_all_workers(tmp_path: Path) -> None:
    async with (
        upstream(PausingApi()) as server,
        daemon(tmp_path / "d", server="workers = 2") as running,
    ):
        clients = [await open_stream(running, server.url) for _ in range(40)]
        await until(running, STREAMS, 40)
        await until(running, CONNECTIONS, 40)
        assert len(running.workers()) == 2
        await until(running, "swproxy_workers", 2)
        for process in ("supervisor", "0", "1"):
            name = f'swproxy_process_resident_memory_bytes{{process="{process}"}}'
            assert await running.metric(name) > 1e6
        for client in clients:
            await client.aclose()
        await until(running, STREAMS, 0)
        name = 'swproxy_requests_total{app="test-app",outcome="client-gone"}'
        assert await running.metric(name) == 40


async def test_connections_are_shared_evenly_between_workers(tmp_path: Path) -> None:
    async with (
        upstream(PausingApi()) as server,
        daemon(tmp_path / "d", server="workers = 2") as running,
    ):
        for _ in range(40):
            await open_stream(running, server.url)
        # Each stream is two sockets, so 40 more are ten streams more than an even share. Who is
        # behind has a millisecond to come, which a busy machine may let pass now and then.
        first, second = [open_descriptors(pid) for pid in running.workers()]
        assert abs(first - second) < 40
        # One that never comes keeps nobody waiting.
        asleep, _ = running.workers()
        os.kill(asleep, signal.SIGSTOP)
        for _ in range(20):
            client = await running.connect()
            await client.send(running.request(server.url + "/quick"))
            assert (await client.read_response()).status == 200
        os.kill(asleep, signal.SIGCONT)


async def test_a_dead_worker_is_replaced_and_the_other_never_notices(tmp_path: Path) -> None:
    api = PausingApi()
    async with upstream(api) as server, daemon(tmp_path / "d", server="workers = 2") as running:
        before = running.workers()
        streams = []
        for asleep in before:
            # Six streams each: which of two workers takes one is the kernel's choice otherwise.
            os.kill(asleep, signal.SIGSTOP)
            streams += [await open_stream(running, server.url) for _ in range(6)]
            os.kill(asleep, signal.SIGCONT)
        os.kill(before[0], signal.SIGKILL)
        (died,) = await running.wait_for("worker-died")
        assert died["reason"] == "SIGKILL"
        await running.wait_for("worker-ready", 3)
        after = running.workers()
        assert before[1] in after
        assert len(after) == 2
        api.go_on.set()
        lost = 0
        for stream in streams:
            try:
                await stream.read_until(b"last")
            except (EOFError, trio.BrokenResourceError):
                lost += 1
        assert lost == 6
        # What the dead one had counted is not forgotten, what it had open is.
        await until(running, STREAMS, 0)
        name = 'swproxy_requests_total{app="test-app",outcome="complete"}'
        await until(running, name, 6)


async def test_workers_that_lose_their_supervisor_drain(tmp_path: Path) -> None:
    async with upstream(PausingApi()), daemon(tmp_path / "d", server="workers = 2") as running:
        pids = running.workers()
        running.process.kill()
        await running.wait_ended()
        with trio.fail_after(PATIENCE):
            while any(is_running(pid) for pid in pids):
                await trio.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_stalled_log_holds_up_no_request(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    async with upstream(PausingApi()) as server, daemon(tmp_path / "d", log=writing) as running:
        os.close(writing)
        # Nobody reads the pipe after the line that tells the ports.
        said = b""
        with trio.fail_after(PATIENCE):
            while b'"serving"' not in said or not said.endswith(b"\n"):
                await trio.lowlevel.wait_readable(reading)
                said += os.read(reading, 4096)
        running.take_ports(json.loads(said.splitlines()[-1]))
        client = await running.connect()
        long = running.request(server.url + "/" + "x" * 1000)
        for _ in range(1000):
            await client.send(long)
            assert (await client.read_response()).status == 200
        dropped = int(await running.metric("swproxy_log_lines_dropped_total"))
        assert dropped > 0
        # Read again, it says how many it had to drop.
        said = b""
        with trio.fail_after(PATIENCE):
            while b"log-lines-dropped" not in said or not said.endswith(b"\n"):
                await trio.lowlevel.wait_readable(reading)
                said += os.read(reading, 65536)
        lines = [json.loads(line) for line in said.splitlines()]
        assert [each["count"] for each in lines if "count" in each] == [dropped]
        assert len([each for each in lines if each["event"] == "request"]) == 1000 - dropped
        running.process.send_signal(signal.SIGTERM)
        assert await running.wait_ended() == 0
    os.close(reading)


@workers
async def test_garbage_writes_less_log_than_it_is_long(tmp_path: Path, workers: int) -> None:
    preflight = b"OPTIONS / HTTP/1.1\r\nHost: a\r\nAccess-Control-Request-Method: GET\r\n\r\n"
    garbage = [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", preflight]
    most = 1500
    async with daemon(tmp_path / "d", server=f"workers = {workers}") as running:
        before = (running.work / "log").stat().st_size
        client = await running.connect()
        for each in garbage:
            await client.send(each * most)
            for _ in range(most):
                await client.read_response()

        def counted() -> int:
            sums = [int(event["count"]) for event in running.events("repeated")]
            return sum(sums) + len(running.events("request"))

        with trio.fail_after(PATIENCE):
            while counted() < 2 * most:
                await trio.sleep(0.05)
        assert counted() == 2 * most
        assert (running.work / "log").stat().st_size - before < most * len(b"".join(garbage)) / 3
        assert set(running.events("repeated")[0]["codes"]) <= {"parameter-missing", "preflight"}


async def test_an_address_with_a_zone_is_an_address_in_the_log(tmp_path: Path) -> None:
    async with daemon(tmp_path / "d") as running:
        client = await running.connect()
        for zone in (b"eth0", b'"', b'", "status": 200, "x": "', b"\\"):
            line = b"X-Forwarded-For: 2001:db8::1%" + zone.replace(b",", b";")
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")
            await client.read_response()
        logged = await running.wait_for("request", 4)
        assert [each["client"] for each in logged] == ["2001:db8::1"] * 4
        assert [each["status"] for each in logged] == [400] * 4


def test_a_faulty_configuration_is_exit_code_2(tmp_path: Path) -> None:
    config = tmp_path / "swproxy.toml"
    config.write_text("[server]\nworkers = 0\nspeed = 3\n")
    done = serve(config)
    assert done.returncode == 2
    assert "server.workers" in done.stderr
    assert "server.speed" in done.stderr


def test_an_address_that_is_taken_is_exit_code_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = tmp_path / "swproxy.toml"
        config.write_text(f'[server]\nlisten = ["127.0.0.1:{port}"]\n')
        done = serve(config)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr


def serve(config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "swproxy", "serve", "--config", str(config)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
