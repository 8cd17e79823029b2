"""swproxy between a client and an upstream, in the test's own event loop.

Every run of the proxy is a search for secrets as well: as it ends, whatever clients received and
whatever was recorded of their requests is searched for the application's secret, its key and the
signatures, and what upstreams received for the secret and the signatures.
"""

import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trio

from swproxy import sign_url
from swproxy.config.config import App, Config, Limits, Server, Store
from swproxy.config.config import Upstream as UpstreamSection
from swproxy.config.listen_address import TcpAddress
from swproxy.daemon.serve import serve
from swproxy.policy.destination import Pattern
from swproxy.proxy.record import Record
from tests.support.upstream import UPSTREAMS, Upstream
from tests.support.wire import (
    API_KEY,
    APP_ID,
    PATIENCE,
    SECRET,
    End,
    Response,
    authority,
    client_context,
    reveals,
)


@dataclass
class Recorder:
    """An observer that keeps every record."""

    begun: int = 0
    records: list[Record] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)

    def began(self, record: Record) -> None:
        self.begun += 1

    def ended(self, record: Record) -> None:
        self.records.append(record)

    def crashed(self, error: BaseException) -> None:
        self.faults.append(error)

    async def wait_for(self, count: int) -> list[Record]:
        """Return the records once there are `count` of them."""
        with trio.fail_after(PATIENCE):
            while len(self.records) < count:
                await trio.sleep(0.002)
        return self.records


def sign(host: str, url: str, method: str = "GET", **options: Any) -> str:
    """Return a URL signed for the tests' application."""
    arguments: dict[str, Any] = {"id": APP_ID, "secret": SECRET, "expiry": 600} | options
    return sign_url(host=host, proxy_url=url, method=method, **arguments)


@dataclass
class Proxy:
    """A running swproxy."""

    addresses: Sequence[Any]
    recorder: Recorder
    config: Config
    clients: list[End] = field(default_factory=list)
    signatures: set[str] = field(default_factory=set)

    @property
    def address(self) -> Any:
        return self.addresses[0]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.address[1]}"

    async def connect(self, *, receive_buffer: int | None = None) -> End:
        """Open a client connection, closed with the proxy at the latest.

        With `receive_buffer` the kernel holds about that many unread bytes for us, no more.
        """
        sock = trio.socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await sock.connect(("127.0.0.1", self.address[1]))
        stream: trio.abc.Stream = trio.SocketStream(sock)
        if self.config.server.tls_certificate is not None:
            stream = trio.SSLStream(stream, client_context(), server_hostname="localhost")
        client = End(stream)
        self.clients.append(client)
        return client

    async def ask(self, url: str, method: str = "GET", **options: Any) -> Response:
        """Return the answer to one request on a connection of its own."""
        client = await self.connect()
        await client.send(self.request(url, method, **options))
        return await client.read_response(head_only=method == "HEAD")

    def sign(self, url: str, method: str = "GET", **options: Any) -> str:
        """Return a signed URL for `url`."""
        signed = sign(self.url, url, method, **options)
        self.signatures.add(signed.rpartition("X-Sw-Signature=")[2].partition("&")[0])
        return signed

    def target(self, url: str, method: str = "GET", **options: Any) -> bytes:
        """Return a signed request target (path and query) for `url`."""
        return self.sign(url, method, **options).removeprefix(self.url).encode()

    def request(
        self,
        url: str,
        method: str = "GET",
        *,
        headers: bytes = b"",
        sign_headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        **options: Any,
    ) -> bytes:
        """Return a whole signed request; `headers` are lines, each with its CRLF.

        `sign_headers` are signed, and sent only if they are among the lines.
        """
        target = self.target(url, method, headers=sign_headers, **options)
        if body and b"Content-Length" not in headers and b"Transfer-Encoding" not in headers:
            headers += b"Content-Length: %d\r\n" % len(body)
        return b"%b %b HTTP/1.1\r\nHost: swproxy.test\r\n%b\r\n%b" % (
            method.encode(),
            target,
            headers,
            body,
        )


@contextmanager
def _trust_store(path: str) -> Iterator[None]:
    """Put a file in the place of the system's trust store, whose loading takes 25 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", path)
        patch.setenv("SSL_CERT_DIR", "")
        yield


def search(running: Proxy, upstreams: Sequence[Upstream]) -> None:
    """Fail if a secret is where it must not be, in what a run of the proxy left behind."""
    signatures = sorted(running.signatures)
    for client in running.clients:
        assert not reveals(bytes(client.received), signatures=signatures)
    for record in running.recorder.records:
        assert not reveals(repr(record).encode(), signatures=signatures)
    for server in upstreams:
        for end in server.connections:
            seen = reveals(bytes(end.received), signatures=signatures)
            assert set(seen) <= {API_KEY}, "only the application's header goes upstream"
    assert not reveals(repr(running.config).encode())


@asynccontextmanager
async def proxy(
    *,
    allow: str = "*",
    app: Mapping[str, Any] = {},
    limits: Mapping[str, Any] = {},
    upstreams: Mapping[str, Any] = {},
    server: Mapping[str, Any] = {},
    store: Path | None = None,
) -> AsyncIterator[Proxy]:
    """Run swproxy with one application, which adds API_KEY; loopback is open to it.

    The mappings override fields of the sections of those names; `store` is a directory for the
    ledger, which is nowhere without one. Fails the test if swproxy met a
    fault of its own.
    """
    application = App(
        id=APP_ID,
        secrets=(SECRET,),
        allow=(Pattern.parse(allow),),
        headers=((b"Authorization", b"Bearer " + API_KEY.encode()),),
    )
    config = Config(
        server=Server.model_construct(
            **dict(Server()) | {"listen": (TcpAddress("127.0.0.1", 0),)} | dict(server)
        ),
        limits=Limits.model_construct(**dict(Limits()) | dict(limits)),
        upstream=UpstreamSection.model_construct(
            **dict(UpstreamSection())
            | {"private_networks": (ip_network("127.0.0.0/8"), ip_network("::1/128"))}
            | dict(upstreams)
        ),
        apps={APP_ID: replace(application, **app)},
        store=Store(path=store / "ledger.sqlite") if store else Store(),
    )
    recorder = Recorder()
    with authority().cert_pem.tempfile() as path:
        trusting = config.upstream.model_copy(update={"ca_file": path})
        config = replace(config, upstream=trusting)
        async with trio.open_nursery() as nursery:

            async def start(task_status: trio.TaskStatus[list[Any]]) -> None:
                await serve(config, observer=recorder, task_status=task_status)

            with _trust_store(path):
                addresses = await nursery.start(start)
            running = Proxy(addresses, recorder, config)
            try:
                yield running
            finally:
                for client in running.clients:
                    await client.aclose()
                nursery.cancel_scope.cancel()
    search(running, UPSTREAMS)
    assert not recorder.faults, recorder.faults
