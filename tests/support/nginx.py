"""A real nginx that runs the shipped site, with its addresses and certificate replaced."""

import os
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.support import ROOT
from tests.support.pages import block
from tests.support.parts import require
from tests.support.shell import shell
from tests.support.wire import PATIENCE, End, authority

SITE = ROOT / "systemd"

_MAIN = """
daemon off;
pid {work}/nginx.pid;
error_log {work}/main-error.log notice;
events {{ worker_connections 1024; }}
http {{
    access_log {work}/main-access.log;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    include {work}/site.conf;
}}
"""


@dataclass
class Nginx:
    """A running nginx."""

    work: Path
    port: int
    clients: list[End] = field(default_factory=list)

    async def connect(self, *, source: str = "127.0.0.1") -> End:
        """Open a TLS connection, with HTTP/1.1 inside, from `source`; closed with nginx at last."""
        context = ssl.create_default_context()
        authority().configure_trust(context)
        stream = await trio.open_tcp_stream("127.0.0.1", self.port, local_address=source)
        tls = trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=True)
        client = End(tls)
        self.clients.append(client)
        await tls.do_handshake()
        return client

    def logs(self) -> str:
        """Return all that nginx has logged."""
        return "".join(file.read_text() for file in sorted(self.work.glob("*.log")))


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def installed_site(work: Path) -> str:
    """Return the shipped site as the guide's commands install it for the nginx that is here."""
    script = block("nginx").replace("/etc/nginx/conf.d", str(work))
    script = script.replace("your.host", "localhost")
    script = script.replace("nginx -t && systemctl reload nginx\n", "true\n")
    done = shell(ROOT, script)
    assert done.returncode == 0, done.stderr
    return (work / "swproxy.conf").read_text()


def site(work: Path, port: int, nodes: Sequence[int]) -> str:
    """Return the installed site as it is, but for addresses, certificate and where logs go."""
    text = installed_site(work)
    if len(nodes) == 2:
        two = (SITE / "nginx-two-nodes.conf").read_text()
        upstreams = r"^upstream swproxy {.*?^}\n"
        found = re.search(upstreams, two, re.DOTALL | re.MULTILINE)
        assert found
        text = re.sub(upstreams, found[0], text, count=1, flags=re.DOTALL | re.MULTILINE)
        places = ["10.0.0.11:3000", "10.0.0.12:3000"]
    else:
        places = ["127.0.0.1:3000"]
    certificate = authority().issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(work / "certificate.pem"))
    letsencrypt = "/etc/letsencrypt/live/localhost"
    changes = [(place, f"127.0.0.1:{node}") for place, node in zip(places, nodes, strict=True)]
    changes += [
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        (f"{letsencrypt}/fullchain.pem", f"{work}/certificate.pem"),
        (f"{letsencrypt}/privkey.pem", f"{work}/certificate.pem"),
        ("/var/log/nginx/", f"{work}/"),
    ]
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    # Not every machine has IPv6.
    return re.sub(r" *listen \[::\]:.*\n", "", text)


def configure(work: Path, port: int, *nodes: int) -> list[str]:
    """Write nginx's configuration for a port and swproxys; return the command that runs it."""
    (work / "site.conf").write_text(site(work, port, nodes))
    return _command(work)


def _command(work: Path) -> list[str]:
    binary = require("nginx", "nginx")
    (work / "nginx.conf").write_text(_MAIN.format(work=work))
    return [binary, "-p", str(work), "-c", str(work / "nginx.conf"), "-e", f"{work}/early.log"]


@asynccontextmanager
async def nginx(work: Path, *nodes: int, at_once: int = 256) -> AsyncIterator[Nginx]:
    """Run nginx in front of the swproxy, or the two of them, on the ports `nodes`.

    An address may have `at_once` requests under way.
    """
    port = free_port()
    command = configure(work, port, *nodes)
    written = (work / "site.conf").read_text()
    limit = "limit_conn swproxy_at_once "
    assert f"{limit}256;" in written
    (work / "site.conf").write_text(written.replace(f"{limit}256;", f"{limit}{at_once};"))
    async with _running(work, port, command) as edge:
        yield edge


@asynccontextmanager
async def run_nginx(work: Path, port: int, text: str) -> AsyncIterator[Nginx]:
    """Run nginx with another site, on `port`."""
    (work / "site.conf").write_text(text)
    command = _command(work)
    if os.geteuid() == 0:
        # What a worker reads is in a directory of whoever runs the test.
        command += ["-g", "user root;"]
    async with _running(work, port, command) as edge:
        yield edge


@asynccontextmanager
async def _running(work: Path, port: int, command: Sequence[str]) -> AsyncIterator[Nginx]:
    process = await trio.lowlevel.open_process(command, stdin=subprocess.DEVNULL)
    edge = Nginx(work, port)
    try:
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    await trio.aclose_forcefully(await trio.open_tcp_stream("127.0.0.1", port))
                    break
                except OSError:
                    assert process.poll() is None, (work / "early.log").read_text()
                    await trio.sleep(0.01)
        yield edge
    finally:
        for client in edge.clients:
            await client.aclose()
        process.terminate()
        with trio.CancelScope(shield=True):
            await process.wait()
