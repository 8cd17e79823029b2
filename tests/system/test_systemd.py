"""The shipped units under a real systemd: installed as the guide says, then lived through a day."""

import contextlib
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path

import pytest

from swproxy import sign_url
from tests.support import ROOT
from tests.support.pages import block
from tests.support.parts import require
from tests.support.systemd_host import PATIENCE, SystemdHost

UNITS = ROOT / "systemd"
SECRET = "canary-systemd-secret-51f0"
PORT, ADMIN_PORT = 3000, 3001


@dataclass
class Upstream:
    """An API on the machine: /ok answers at once, /stream says one word and then waits."""

    listener: socket.socket
    go_on: threading.Event = field(default_factory=threading.Event)
    authorizations: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve_one, args=(connection,), daemon=True).start()

    def _serve_one(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as lines:
            while first := lines.readline():
                while (line := lines.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"authorization:"):
                        self.authorizations.append(line.decode().strip())
                if b" /stream" not in first:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    continue
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
                self.go_on.wait(PATIENCE)
                connection.sendall(b"-last")


def installation() -> str:
    """Return the guide's commands, without those that put swproxy where it is already."""
    pip, rest = block("deploy").split("--no-build-isolation .\n")
    assert pip.startswith("/usr/bin/python3 -m venv /opt/swproxy\n/opt/swproxy/bin/pip install ")
    return rest


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdHost]:
    with SystemdHost(tmp_path_factory.mktemp("systemd")) as machine:
        said = machine.run(
            "env",
            "OPENAI_API_KEY=canary-key",
            "bash",
            "-euc",
            f"cd /opt/source\n{installation()}",
        )
        assert said.endswith("ready\n")
        yield machine


@pytest.fixture(scope="module")
def upstream(host: SystemdHost) -> Iterator[Upstream]:
    upstream = Upstream(host.listen())
    thread = threading.Thread(target=upstream.serve, daemon=True)
    thread.start()
    host.run("sh", "-c", "printf '[upstream]\nprivate_networks=[\"127.0.0.0/8\"]\n'"
             " >> /etc/swproxy/swproxy.toml")  # fmt: skip
    write_app(host, "test", upstream.url)
    host.run("systemctl", "reload", "swproxy")
    wait_until(lambda: Client(host).get(upstream, "test")[0] == 200)
    yield upstream
    upstream.listener.close()


def write_app(host: SystemdHost, name: str, url: str, header: str = "Bearer none") -> None:
    host.write(
        f"/etc/swproxy/apps/{name}.toml",
        f'secrets = ["{SECRET}"]\nallow = ["{url}/*"]\n'
        f'headers = {{ Authorization = "{header}" }}\n',
        owner="root:swproxy",
        mode=0o640,
    )


def wait_until(probe: object) -> None:
    assert callable(probe)
    until = time.monotonic() + PATIENCE
    while not probe():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)


def signed(upstream: Upstream, app: str, path: str = "/ok") -> str:
    url = sign_url(app, SECRET, "http://edge", upstream.url + path, 600, "GET")
    return url.removeprefix("http://edge")


class Client:
    """A client on the machine."""

    def __init__(self, host: SystemdHost) -> None:
        self._host = host

    def open(self, target: str, port: int = PORT) -> HTTPResponse:
        """Send a request over a new connection; return the answer once its head has come."""
        connection = self._host.connect(port)
        connection.sendall(
            f"GET {target} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n".encode()
        )
        answer = HTTPResponse(connection)
        connection.close()  # the answer holds on to it
        try:
            answer.begin()
        except BaseException:
            answer.close()
            raise
        return answer

    def get(self, upstream: Upstream, app: str) -> tuple[int, bytes]:
        with self.open(signed(upstream, app)) as answer:
            return answer.status, answer.read()

    def admin(self, path: str) -> tuple[int, str]:
        with self.open(path, ADMIN_PORT) as answer:
            return answer.status, answer.read().decode()


class Load:
    """Requests one after another, each over a connection of its own, until left."""

    def __init__(self, host: SystemdHost, upstream: Upstream) -> None:
        self._client = Client(host)
        self._upstream = upstream
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answered = 0
        self.failures: list[object] = []

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self._client.get(self._upstream, "test")
            except Exception as error:  # noqa: BLE001 - any is a failure to count
                self.failures.append(error)
            else:
                if answer == (200, b"ok"):
                    self.answered += 1
                else:
                    self.failures.append(answer)

    def wait_for(self, count: int) -> None:
        """Wait until `count` more requests have been answered."""
        goal = self.answered + count
        wait_until(lambda: self.answered >= goal or self.failures)


def main_pid(host: SystemdHost) -> str:
    return host.show("swproxy.service", "MainPID")


def restarts(host: SystemdHost) -> int:
    return int(host.show("swproxy.service", "NRestarts"))


def test_the_unit_is_hardened(tmp_path: Path) -> None:
    analyze = require("systemd-analyze", "systemd")
    command = [analyze, "security", "--offline=true", "--no-pager", str(UNITS / "swproxy.service")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    exposure = re.search(r"Overall exposure level for swproxy.service: ([\d.]+)", said)
    assert exposure
    assert float(exposure[1]) <= 1.5


def test_the_guide_leads_to_a_serving_unit(host: SystemdHost, upstream: Upstream) -> None:
    assert Client(host).get(upstream, "test") == (200, b"ok")
    assert Client(host).admin("/readyz") == (200, "ready\n")
    assert host.show("swproxy.service", "ActiveState") == "active"
    user = host.run("stat", "-c", "%U", f"/proc/{main_pid(host)}").strip()
    assert user == "swproxy"
    wait_until(lambda: "serving: " in host.show("swproxy.service", "StatusText"))
    assert "applications 2" in host.show("swproxy.service", "StatusText")
    # Neither command lines nor environments of any process tell a secret.
    told = host.run("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'")
    assert "-m\nswproxy\nserve\n" in told
    assert SECRET not in told
    assert "canary-key" not in told


def test_the_journal_can_be_read_without_a_tool(host: SystemdHost, upstream: Upstream) -> None:
    assert Client(host).get(upstream, "test")[0] == 200

    def lines() -> list[dict[str, str]]:
        told = host.journal("swproxy.service", "-o", "json").splitlines()
        return [json.loads(line) for line in told]

    def requests() -> list[dict[str, str]]:
        return [line for line in lines() if line["MESSAGE"].startswith("event=request ")]

    wait_until(requests)
    last = requests()[-1]
    assert last["PRIORITY"] == "6"
    assert last["MESSAGE"].startswith(
        f"event=request app=test method=GET origin={upstream.url} path=/ok status=200"
        " outcome=complete bytes_up=0 bytes_down=2 "
    )
    # As the documentation searches it.
    with host.listen() as closed_soon:
        gone = f"http://127.0.0.1:{closed_soon.getsockname()[1]}"
    write_app(host, "gone", gone)
    host.run("systemctl", "reload", "swproxy")
    url = sign_url("gone", SECRET, "http://edge", f"{gone}/x", 600, "GET").removeprefix(
        "http://edge"
    )
    wait_until(lambda: Client(host).open(url).status == 502)

    def found() -> list[str]:
        said = host.run("sh", "-c", block("journal"), check=False)
        return [line for line in said.splitlines() if " event=request " in f" {line}"]

    wait_until(found)
    assert all("outcome=upstream-failed" in line and "app=gone" in line for line in found())
    host.run("rm", "/etc/swproxy/apps/gone.toml")
    host.run("systemctl", "reload", "swproxy")


def test_a_connection_starts_the_service(host: SystemdHost, upstream: Upstream) -> None:
    host.run("systemctl", "stop", "swproxy.service")
    assert host.show("swproxy.service", "ActiveState") == "inactive"
    assert Client(host).get(upstream, "test") == (200, b"ok")
    host.wait_for("swproxy.service", ActiveState="active")


def test_a_reload_rotates_a_key_and_keeps_streams(host: SystemdHost, upstream: Upstream) -> None:
    host.write("/etc/swproxy/keys/api", "one\n", owner="root:swproxy", mode=0o640)
    write_app(host, "rotating", upstream.url, "Bearer ${file:/etc/swproxy/keys/api}")
    host.run("systemctl", "reload", "swproxy")
    wait_until(lambda: Client(host).get(upstream, "rotating")[0] == 200)
    upstream.go_on.clear()
    stream = Client(host).open(signed(upstream, "rotating", "/stream"))
    assert stream.read(5) == b"first"
    pid = main_pid(host)

    host.write("/etc/swproxy/keys/api", "two\n", owner="root:swproxy", mode=0o640)
    host.run("systemctl", "reload", "swproxy")

    def key_in_use() -> str:
        Client(host).get(upstream, "rotating")
        return upstream.authorizations[-1]

    wait_until(lambda: key_in_use() == "authorization: Bearer two".replace("a", "A", 1))
    upstream.go_on.set()
    assert stream.read() == b"-last"
    assert main_pid(host) == pid
    host.run("rm", "/etc/swproxy/apps/rotating.toml")


def test_a_broken_file_changes_nothing_and_says_why(host: SystemdHost, upstream: Upstream) -> None:
    host.write("/etc/swproxy/apps/broken.toml", "allow = 1\n", owner="root:swproxy", mode=0o640)
    try:
        said = host.run("systemctl", "reload", "swproxy", check=False)
        assert "failed" in said
        assert "broken.toml" in host.journal()
        # Whoever signals the daemon without asking first is told by the status.
        host.run("systemctl", "kill", "--kill-whom=main", "-s", "HUP", "swproxy")
        wait_until(lambda: "reload refused" in host.show("swproxy.service", "StatusText"))
        assert "broken.toml" in host.show("swproxy.service", "StatusText")
        assert Client(host).get(upstream, "test") == (200, b"ok")
    finally:
        host.run("rm", "/etc/swproxy/apps/broken.toml")
    host.run("systemctl", "reload", "swproxy")
    wait_until(lambda: host.show("swproxy.service", "StatusText").startswith("serving: "))


def test_a_crash_is_followed_by_a_start(host: SystemdHost, upstream: Upstream) -> None:
    before, count = main_pid(host), restarts(host)
    # All of it at once: workers whose supervisor is gone would still take a connection or two.
    host.run("systemctl", "kill", "--signal=KILL", "swproxy.service")
    assert Client(host).get(upstream, "test") == (200, b"ok")  # it waited in the socket's queue
    wait_until(lambda: restarts(host) == count + 1)
    host.wait_for("swproxy.service", ActiveState="active", SubState="running")
    assert main_pid(host) != before


def test_a_stopped_process_trips_the_watchdog(host: SystemdHost, upstream: Upstream) -> None:
    host.run("mkdir", "-p", "/run/systemd/system/swproxy.service.d")
    drop_in = "/run/systemd/system/swproxy.service.d/test.conf"
    host.write(drop_in, "[Service]\nWatchdogSec=1s\nTimeoutAbortSec=1s\n")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "swproxy")
    count = restarts(host)
    host.run("kill", "-STOP", main_pid(host))
    wait_until(lambda: restarts(host) > count)
    assert Client(host).get(upstream, "test") == (200, b"ok")
    assert "Watchdog timeout" in host.run("journalctl", "--no-pager", "-u", "swproxy.service")
    host.run("rm", drop_in)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "swproxy")


def test_reloads_and_restarts_under_load_refuse_nobody(
    host: SystemdHost, upstream: Upstream
) -> None:
    with Load(host, upstream) as load:
        load.wait_for(5)
        for _ in range(2):
            host.run("systemctl", "restart", "swproxy")
            load.wait_for(5)
        for _ in range(2):
            host.run("systemctl", "reload", "swproxy")
            load.wait_for(5)
    assert load.failures == []


def test_a_stop_waits_for_a_stream(host: SystemdHost, upstream: Upstream) -> None:
    upstream.go_on.clear()
    stream = Client(host).open(signed(upstream, "test", "/stream"))
    assert stream.read(5) == b"first"
    host.run("systemctl", "stop", "--no-block", "swproxy.service")
    host.wait_for("swproxy.service", ActiveState="deactivating")
    wait_until(lambda: "draining: streams 1" in host.show("swproxy.service", "StatusText"))
    assert Client(host).admin("/readyz") == (503, "draining\n")
    upstream.go_on.set()
    assert stream.read() == b"-last"
    host.wait_for("swproxy.service", ActiveState="inactive")
    assert host.show("swproxy.service", "Result") == "success"
    assert Client(host).get(upstream, "test") == (200, b"ok")


def test_credentials_of_systemd_serve_as_files(host: SystemdHost, upstream: Upstream) -> None:
    host.run("mkdir", "-p", "/run/systemd/system/swproxy.service.d", "/etc/credentials")
    host.write("/etc/credentials/api", "from-a-credential\n", mode=0o600)
    drop_in = "/run/systemd/system/swproxy.service.d/credential.conf"
    host.write(drop_in, "[Service]\nLoadCredential=api:/etc/credentials/api\n")
    write_app(host, "credential", upstream.url, "Bearer ${file:api}")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "swproxy")
    assert Client(host).get(upstream, "credential") == (200, b"ok")
    assert upstream.authorizations[-1] == "Authorization: Bearer from-a-credential"


def test_no_secret_reached_the_journal(host: SystemdHost, upstream: Upstream) -> None:
    told = host.run("journalctl", "--no-pager", "-o", "export")
    for secret in (SECRET, "canary-key", "from-a-credential", "X-Sw-Signature"):
        assert secret not in told
