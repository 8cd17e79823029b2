"""The subjects: how each proxy is started, and what a request through it looks like.

All are given the same task: check a signature over the destination, add the API key, pass the
answer on unbuffered over kept upstream connections (256 idle ones at most, which is swproxy's
default) whose certificates they verify. The client's side is plain HTTP/1.1, as behind a load
balancer. All but the plain proxy write an access log, each to a file; so comparison with that one
leans in its favour. Those that others made are in `bench.peers`.
"""

from __future__ import annotations

import abc
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import tomli_w

from bench.processes import Process, StartError, free_port
from bench.site import (
    APP_ID,
    APP_SECRET,
    BODY_BYTES,
    EXPIRY_SECONDS,
    IDLE_CONNECTIONS,
    METERED_ID,
    ROOT,
    Request,
    Site,
    target_of,
)
from bench.upstream import API_KEY
from swproxy import sign_url

__all__ = [
    "Direct",
    "Peer",
    "Plain",
    "Program",
    "Signed",
    "Subject",
    "Swproxy",
    "find",
    "swproxy_config",
]

_PLACES = ("/usr/sbin", "/usr/local/go/bin", str(Path.home() / "go" / "bin"))


class Subject(abc.ABC):
    """Something a request can be sent through."""

    checks_signatures = False

    _site: Site

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: Process | None = None

    def start(self, site: Site) -> None:
        """Start it and return once it accepts connections; StartError when it does not."""
        self._site = site
        self._start(site)

    def restart(self) -> None:
        """End its processes and start it anew where it was; StartError when it does not."""
        self.stop()
        self.start(self._site)

    @abc.abstractmethod
    def _start(self, site: Site) -> None: ...

    @abc.abstractmethod
    def request(self, scheme: str, path: str, method: str = "GET") -> Request:
        """Return the request that reaches that path of the upstream of that scheme."""

    def stop(self) -> None:
        """End its processes."""
        if self.process is not None:
            self.process.end()
            self.process = None

    def family(self) -> list[int]:
        """Return its process ids; none for the direct way."""
        return [] if self.process is None else self.process.family()

    def _launch(self, site: Site, command: list[str], port: int, **environment: str) -> None:
        self.process = Process(
            command,
            log=site.directory / f"{self.name}.log",
            cores=site.cores,
            cwd=ROOT,
            environment=environment,
        )
        try:
            self.process.wait_for_port(port)
        except StartError:
            self.stop()
            raise


class Direct(Subject):
    """No proxy at all: the ceiling of load generator and upstream together."""

    def __init__(self) -> None:
        super().__init__("direct")

    def _start(self, site: Site) -> None:
        """Do nothing: there is no process."""

    def request(self, scheme: str, path: str, method: str = "GET") -> Request:
        """Return the upstream's own request, with the key a proxy would add."""
        return Request(
            self._site.ports[scheme],
            path,
            scheme == "https",
            method,
            (("Authorization", API_KEY),),
        )


class Signed(Subject):
    """A proxy that takes SW1 URLs."""

    checks_signatures = True

    def _start(self, site: Site) -> None:
        self._port = free_port()
        self._run(site, self._port)

    @abc.abstractmethod
    def _run(self, site: Site, port: int) -> None: ...

    def request(self, scheme: str, path: str, method: str = "GET") -> Request:
        """Return the signed request."""
        return self._request_of(APP_ID, scheme, path, method)

    def _request_of(self, app: str, scheme: str, path: str, method: str) -> Request:
        signed = sign_url(
            app,
            APP_SECRET,
            f"http://127.0.0.1:{self._port}",
            self._site.url(scheme, path),
            EXPIRY_SECONDS,
            method,
        )
        return Request(self._port, target_of(signed), method=method)


class Swproxy(Signed):
    """The daemon as installed: `swproxy serve`, its defaults but for what a 100 MB body needs."""

    def __init__(self) -> None:
        super().__init__("swproxy")

    def metered_request(self, scheme: str, path: str, method: str = "GET") -> Request:
        """Return a request of an application whose answers are read for what they used."""
        return self._request_of(METERED_ID, scheme, path, method)

    def upload_request(self, scheme: str, path: str, body: str) -> Request:
        """Return a request whose body is part of the signature."""
        host, url = f"http://127.0.0.1:{self._port}", self._site.url(scheme, path)
        signed = sign_url(APP_ID, APP_SECRET, host, url, EXPIRY_SECONDS, "POST", body=body)
        return Request(self._port, target_of(signed), method="POST")

    @property
    def admin_socket(self) -> str:
        """The path at which the live feed is."""
        return str(self._site.directory / "admin.sock")

    def _run(self, site: Site, port: int) -> None:
        config = site.directory / "swproxy.toml"
        config.write_text(swproxy_config(site, port))
        config.chmod(0o600)
        program = find("swproxy")
        if program is None:
            raise StartError("the swproxy command is not installed beside this python")
        self._launch(site, [program, "serve", "--config", str(config)], port)


def swproxy_config(site: Site, port: int) -> str:
    """Return the configuration the daemon is measured with."""
    app = {
        "secrets": [APP_SECRET],
        "allow": [site.url("http", "/*"), site.url("https", "/*")],
        "headers": {"Authorization": API_KEY},
    }
    return tomli_w.dumps(
        {
            "server": {
                "listen": [f"127.0.0.1:{port}"],
                "admin_listen": f"unix:{site.directory}/admin.sock",
                "workers": site.workers,
                "drain_seconds": 1.0,
            },
            "limits": {"body_bytes": BODY_BYTES},
            "upstream": {"private_networks": ["127.0.0.0/8"], "ca_file": str(site.ca_file)},
            "apps": {APP_ID: app, METERED_ID: {**app, "meter": "tokens"}},
        }
    )


class Plain(Signed):
    """The httpcore-pool proxy of `bench.peers.plain_proxy`."""

    def __init__(self) -> None:
        super().__init__("plain")

    def _run(self, site: Site, port: int) -> None:
        if site.workers != 1:
            raise StartError("one process only")
        self._launch(
            site,
            [
                sys.executable,
                "-m",
                "bench.peers.plain_proxy",
                "--port",
                str(port),
                "--ca-file",
                str(site.ca_file),
                "--app",
                APP_ID,
                "--secret",
                APP_SECRET,
                "--authorization",
                API_KEY,
                "--idle-connections",
                str(IDLE_CONNECTIONS),
            ],
            port,
        )


class Peer(Subject):
    """Any other proxy, by a command and a URL template.

    In both, `{port}` is the port to listen on. In the command also `{http}` and `{https}` (the
    upstream's ports), `{ca}` (the trust anchor's file), `{id}`, `{secret}` and `{key}` (the
    Authorization header to add). In the template also `{signed}` (an SW1 URL of the destination
    for that port), `{url}` and `{quoted}` (the destination, bare and percent-encoded), `{scheme}`,
    `{upstream}` (its port) and `{path}`.
    """

    def __init__(self, name: str, command: str, template: str) -> None:
        super().__init__(name)
        self._command = command
        self._template = template

    def _start(self, site: Site) -> None:
        """Run the command."""
        if site.workers != 1:
            raise StartError("measured with one worker only")
        self._port = free_port()
        names = {
            "port": self._port,
            "http": site.ports["http"],
            "https": site.ports["https"],
            "ca": site.ca_file,
            "id": APP_ID,
            "secret": APP_SECRET,
            "key": API_KEY,
        }
        command = [_filled(word, names) for word in shlex.split(self._command)]
        self._launch(site, command, self._port, SSL_CERT_FILE=str(site.ca_file))

    def request(self, scheme: str, path: str, method: str = "GET") -> Request:
        """Return what the template says."""
        url = self._site.url(scheme, path)
        signed = sign_url(
            APP_ID, APP_SECRET, f"http://127.0.0.1:{self._port}", url, EXPIRY_SECONDS, method
        )
        names = {
            "port": self._port,
            "signed": signed,
            "url": url,
            "quoted": quote(url, safe=""),
            "scheme": scheme,
            "upstream": self._site.ports[scheme],
            "path": path,
        }
        return Request(self._port, target_of(_filled(self._template, names)), method=method)


class Program(Subject):
    """A proxy made by others, as it is configured for the bench: see `bench.peers`."""

    checks_signatures = True

    program: str
    install: str

    def _start(self, site: Site) -> None:
        """Find it, configure it and run it; StartError says what to install."""
        program = find(self.program)
        if program is None:
            raise StartError(f"not installed ({self.install})")
        self._port = free_port()
        directory = site.directory / self.name
        directory.mkdir(exist_ok=True)
        self._launch(site, self._command(site, program, directory), self._port, HOME=str(directory))

    @abc.abstractmethod
    def _command(self, site: Site, program: str, directory: Path) -> list[str]:
        """Write what it reads into the directory, and return its command."""


def find(program: str) -> str | None:
    """Return where a program is: beside this interpreter, on the path, or where its like is put."""
    beside = str(Path(sys.executable).parent)
    return next(
        filter(None, (shutil.which(program, path=path) for path in (beside, None, *_PLACES))), None
    )


def _filled(template: str, names: Mapping[str, object]) -> str:
    try:
        return template.format_map(names)
    except KeyError as error:
        raise StartError(f"no such placeholder: {{{error.args[0]}}} in {template!r}") from None
