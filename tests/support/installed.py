"""swproxy on a machine with systemd as the guide installs it, an API and clients beside it."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path

from swproxy import __version__, sign_url
from tests.support.pages import block
from tests.support.systemd_host import PATIENCE, SystemdHost

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


def guide(name: str) -> str:
    """Return a block of the guide, without the commands that SystemdHost.install stands in for."""
    pip, rest = block(name).split("--no-build-isolation .\n")
    assert re.match(r"/usr/bin/python3 -m venv (/opt/swproxy-[0-9.]+)\n\1/bin/pip install ", pip)
    return rest


@contextlib.contextmanager
def installed(work: Path) -> Iterator[SystemdHost]:
    """Boot a machine, and install swproxy on it as the guide says."""
    with SystemdHost(work) as machine:
        machine.install(__version__)
        said = do(machine, guide("deploy"), OPENAI_API_KEY="canary-key")
        assert said.endswith("ready\n")
        yield machine


def do(host: SystemdHost, script: str, **environ: str) -> str:
    """Run commands of the guide in the clone, as root; return what they printed."""
    given = [f"{name}={value}" for name, value in environ.items()]
    return host.run("env", *given, "bash", "-euc", f"cd /opt/source\n{script}")


@contextlib.contextmanager
def serving_api(host: SystemdHost) -> Iterator[Upstream]:
    """Run an API on the machine, with an application `test` that may call it."""
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
        name = "localhost" if port == ADMIN_PORT else "edge"
        connection.sendall(
            f"GET {target} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
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
