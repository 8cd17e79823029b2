"""Both ends of the wire: a recording upstream, a raw client, and swproxy between them.

All of it runs over real loopback sockets in the test's own event loop. An upstream is scripted: a
test gives it a function that is called with each connection that the proxy opens, and everything
that arrives is recorded, so a test can assert what went over either wire, byte for byte.

Every run of the proxy is a search for secrets as well: as it ends, whatever clients received and
whatever was recorded of their requests is searched for the application's secret, its key and the
signatures, and what upstreams received for the secret and the signatures.
"""

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from swproxy import sign_url
from swproxy.config.config import App, Config, Limits, Server, Store
from swproxy.config.config import Upstream as UpstreamSection
from swproxy.config.listen_address import TcpAddress
from swproxy.daemon.serve import serve
from swproxy.policy.destination import Pattern
from swproxy.proxy.record import Record

APP_ID = "test-app"
SECRET = "canary-signing-secret-4f1c"
API_KEY = "canary-api-key-93ab"
PATIENCE = 10.0
"""Seconds after which a test that waits for bytes gives up; never what a test asserts."""


@cache
def authority() -> trustme.CA:
    """Return the certificate authority of all tests."""
    return trustme.CA()


@cache
def server_context() -> ssl.SSLContext:
    """Return a TLS context for localhost and 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("localhost", "127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


class End:
    """One end of a connection: whole heads and exact counts on top of a trio stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.received = bytearray()
        self._taken = 0

    async def send(self, data: bytes) -> None:
        with trio.fail_after(PATIENCE):
            await self.stream.send_all(data)

    async def _more(self) -> bool:
        with trio.fail_after(PATIENCE):
            data = await self.stream.receive_some(65536)
        self.received += data
        return bool(data)

    async def read_until(self, mark: bytes) -> bytes:
        """Return bytes up to and including `mark`; EOFError if the stream ends before."""
        while (at := self.received.find(mark, self._taken)) < 0:
            if not await self._more():
                raise EOFError(bytes(self.received[self._taken :]))
        start, self._taken = self._taken, at + len(mark)
        return bytes(self.received[start : self._taken])

    async def read_exactly(self, count: int) -> bytes:
        """Return `count` bytes; EOFError if the stream ends before."""
        while len(self.received) - self._taken < count:
            if not await self._more():
                raise EOFError(bytes(self.received[self._taken :]))
        start, self._taken = self._taken, self._taken + count
        return bytes(self.received[start : self._taken])

    async def read_head(self) -> bytes:
        """Return a message head, the empty line included."""
        return await self.read_until(b"\r\n\r\n")

    async def read_to_end(self) -> bytes:
        """Return what is left until a clean end; trio.BrokenResourceError on a reset."""
        while await self._more():
            pass
        start, self._taken = self._taken, len(self.received)
        return bytes(self.received[start:])

    async def read_response(self, *, head_only: bool = False) -> "Response":
        """Return one whole response, by its own framing."""
        head = await self.read_head()
        response = Response.parse(head)
        if head_only or response.status in (204, 304):
            return response
        if "content-length" in response.headers:
            body = await self.read_exactly(int(response.headers["content-length"]))
        elif response.headers.get("transfer-encoding") == "chunked":
            body = await self._read_chunks()
        else:
            body = await self.read_to_end()
        return replace(response, body=body)

    async def _read_chunks(self) -> bytes:
        body = b""
        while size := int((await self.read_until(b"\r\n")).split(b";")[0], 16):
            body += await self.read_exactly(size)
            assert await self.read_exactly(2) == b"\r\n"
        while await self.read_until(b"\r\n") != b"\r\n":
            pass
        return body

    async def read_request(self) -> tuple[bytes, bytes]:
        """Return head and body of one request; EOFError if the stream ends before."""
        head = await self.read_head()
        lowered = head.lower()
        if b"\r\ntransfer-encoding: chunked\r\n" in lowered:
            return head, await self._read_chunks()
        _, found, rest = lowered.partition(b"\r\ncontent-length: ")
        length = int(rest.split(b"\r\n")[0]) if found else 0
        return head, await self.read_exactly(length)

    def forget(self) -> None:
        """Drop what was received and taken: for traffic without end."""
        del self.received[: self._taken]
        self._taken = 0

    async def wait_closed(self) -> str:
        """Wait until the peer is gone; return "closed" or "reset"."""
        try:
            while await self._more():
                pass
        except trio.BrokenResourceError:
            return "reset"
        return "closed"

    @property
    def socket(self) -> Any:
        """The trio socket at the bottom."""
        stream: Any = self.stream
        while isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        return stream.socket

    def half_close(self) -> None:
        """End our sending side only."""
        self.socket.shutdown(socket.SHUT_WR)

    async def reset(self) -> None:
        """Close with a reset, as a process that dies does with unread bytes."""
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await self.aclose()

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self.stream)


@dataclass(frozen=True)
class Response:
    """A response as a client sees it; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    raw: bytes
    body: bytes = b""

    @classmethod
    def parse(cls, head: bytes) -> "Response":
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        pairs = [line.split(":", 1) for line in lines]
        headers = {name.lower(): value.strip() for name, value in pairs}
        return cls(int(first.split(" ")[1]), headers, head)


Handler = Callable[[End], Awaitable[None]]


@dataclass
class Upstream:
    """A recording upstream: what every connection received, in the order they came."""

    host: str
    port: int
    tls: bool
    connections: list[End] = field(default_factory=list)
    open: int = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def received(self) -> bytes:
        return b"".join(bytes(end.received) for end in self.connections)

    async def wait_for_connections(self, count: int) -> None:
        with trio.fail_after(PATIENCE):
            while len(self.connections) < count:
                await trio.sleep(0.002)

    async def wait_all_closed(self) -> None:
        """Wait until the proxy has no connection open to this upstream."""
        with trio.fail_after(PATIENCE):
            while self.open:
                await trio.sleep(0.002)


async def answer_ok(end: End) -> None:
    """Serve `ok` to every request without a body, until the proxy closes."""
    while True:
        try:
            await end.read_head()
        except EOFError:
            return
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def take_and_answer(end: End) -> None:
    """Serve `ok` to every request once its body has come, until the proxy closes."""
    while True:
        try:
            await end.read_request()
        except EOFError:
            return
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@asynccontextmanager
async def upstream(
    handler: Handler = answer_ok, *, tls: bool = False, context: ssl.SSLContext | None = None
) -> AsyncIterator[Upstream]:
    """Run an upstream whose every connection is served by `handler`, over TLS with `context`."""
    tls = tls or context is not None
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        found = Upstream("localhost" if tls else "127.0.0.1", port, tls)
        _upstreams.append(found)

        async def serve_one(stream: trio.abc.Stream) -> None:
            if tls:
                stream = trio.SSLStream(stream, context or server_context(), server_side=True)
            end = End(stream)
            found.connections.append(end)
            found.open += 1
            try:
                await handler(end)
                with trio.fail_after(PATIENCE):
                    await end.stream.aclose()
            except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
                pass
            finally:
                found.open -= 1
                await end.aclose()

        nursery.start_soon(trio.serve_listeners, serve_one, [listener])
        try:
            yield found
        finally:
            _upstreams.remove(found)
        nursery.cancel_scope.cancel()


_upstreams: list[Upstream] = []
"""Those that run; a proxy that ends before them is searched with what they saw."""


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


def client_context() -> ssl.SSLContext:
    """Return a TLS context that trusts the tests' authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    return context


SECRETS = (SECRET, API_KEY)
"""What nobody but the upstream may see, and of the upstream only the second."""


def reveals(data: bytes, *, signatures: Iterator[str] | Sequence[str] = ()) -> list[str]:
    """Return the secrets in `data`."""
    return [secret for secret in (*SECRETS, *signatures) if secret.encode() in data]


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


def open_descriptors(pid: int | str = "self") -> int:
    """Return how many descriptors a process has open, this one if none is given."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


@asynccontextmanager
async def proxy(
    *,
    allow: str = "*",
    app: Mapping[str, Any] = {},
    limits: Mapping[str, Any] = {},
    upstream: Mapping[str, Any] = {},
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
            | dict(upstream)
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
    search(running, _upstreams)
    assert not recorder.faults, recorder.faults
