"""One worker: who gets in, what a reload leaves alone, and TLS where it belongs."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from swproxy.config.config import Config, Limits, Server
from swproxy.config.config import Upstream as UpstreamSection
from swproxy.config.listen_address import TcpAddress, UnixAddress
from swproxy.daemon.listeners import Listener, close_listeners, open_listeners
from swproxy.daemon.service import Service
from swproxy.proxy.connection import Connection
from tests.support.wire import PATIENCE, End, Recorder, authority


@dataclass
class Running:
    service: Service
    listeners: list[Listener]
    recorder: Recorder

    async def connect(self, index: int = 0) -> trio.SocketStream:
        sock = socket.socket(self.listeners[index].sock.family)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        await stream.socket.connect(self.listeners[index].sock.getsockname())
        return stream


@asynccontextmanager
async def service(config: Config, *more: UnixAddress) -> AsyncIterator[Running]:
    listeners = open_listeners([TcpAddress("127.0.0.1", 0), *more])
    recorder = Recorder()
    running = Running(Service(config, listeners, recorder), listeners, recorder)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(running.service.run)
            yield running
            nursery.cancel_scope.cancel()
    finally:
        close_listeners(listeners)


def certificate(path: Path) -> Path:
    authority().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


async def until(service: Service, connections: int) -> None:
    with trio.fail_after(PATIENCE):
        while service.open != connections:
            await trio.sleep(0.002)


async def test_a_full_worker_closes_an_idle_connection_for_a_new_one() -> None:
    config = Config(limits=Limits(connections=2))
    async with service(config) as running:
        first = End(await running.connect())
        second = End(await running.connect())
        await until(running.service, 2)
        # A request under way is never given up; the connection without one is.
        await first.send(b"GET / HTTP/1.1\r\n")
        await second.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await second.read_response()).status == 400
        third = End(await running.connect())
        assert await second.wait_closed() == "closed"
        await third.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await third.read_response()).status == 400
        await first.send(b"Host: a\r\n\r\n")
        assert (await first.read_response()).status == 400
        for client in (first, second, third):
            await client.aclose()


async def test_who_has_been_idle_for_longest_makes_room() -> None:
    async with service(Config(limits=Limits(connections=3))) as running:
        clients = [End(await running.connect()) for _ in range(3)]
        # In another order than they came.
        for number in (1, 2, 0):
            await clients[number].send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await clients[number].read_response()).status == 400
        for number in (1, 2):
            clients.append(End(await running.connect()))
            assert await clients[number].wait_closed() == "closed"
            await until(running.service, 3)
        await clients[0].send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await clients[0].read_response()).status == 400
        for client in clients:
            await client.aclose()


async def test_a_worker_that_is_full_of_requests_says_so() -> None:
    async with service(Config(limits=Limits(connections=1))) as running:
        busy = End(await running.connect())
        await until(running.service, 1)
        await busy.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        worker = running.service.worker
        with trio.fail_after(PATIENCE):
            while not worker.connections or worker.idle:
                await trio.sleep(0.002)
        late = End(await running.connect())
        response = await late.read_response()
        assert response.status == 503
        assert response.headers["retry-after"] == "1"
        assert response.headers["access-control-allow-origin"] == "*"
        await busy.send(b"no\r\n\r\n")
        assert (await busy.read_response()).status == 400
        await busy.aclose()
        await late.aclose()


async def test_tls_is_for_tcp_alone_and_a_reload_renews_the_certificate(tmp_path: Path) -> None:
    file = certificate(tmp_path / "certificate.pem")
    tls = Server.model_construct(**dict(Server()) | {"tls_certificate": file, "tls_key": file})
    config = Config(server=tls)
    context = ssl.create_default_context()
    authority().configure_trust(context)

    async def shown(running: Running) -> bytes:
        stream = trio.SSLStream(
            await running.connect(), context, server_hostname="localhost", https_compatible=True
        )
        await stream.do_handshake()
        certificate = stream.getpeercert(binary_form=True)
        assert isinstance(certificate, bytes)
        await trio.aclose_forcefully(stream)
        return certificate

    async with service(config, UnixAddress(f"{tmp_path}/s")) as running:
        before = await shown(running)
        assert await shown(running) == before
        certificate(file)
        await running.service.reload(config)
        assert await shown(running) != before
        plain = End(await running.connect(1))
        await plain.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await plain.read_response()).status == 400
        await plain.aclose()


async def test_a_reload_keeps_the_pool_unless_the_upstream_rules_change(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(str(ca_file))
    trusting = UpstreamSection.model_construct(**dict(UpstreamSection()) | {"ca_file": ca_file})
    config = Config(upstream=trusting)
    async with service(config) as running:
        worker = running.service.worker
        pool = worker.pool
        changed = replace(config, limits=Limits(connections=5, signed_body_bytes=100))
        await running.service.reload(changed)
        assert worker.pool is pool
        assert worker.config.limits.connections == 5
        assert worker.spools.size == 1600

        # The same name with another content is another rule.
        ca_file.write_bytes(ca_file.read_bytes() * 2)
        await running.service.reload(changed)
        assert worker.pool is not pool

        pool = worker.pool
        slower = UpstreamSection(connect_seconds=3.0)
        await running.service.reload(replace(changed, upstream=slower))
        assert worker.pool is not pool


async def test_a_drain_ends_the_service() -> None:
    listeners = open_listeners([TcpAddress("127.0.0.1", 0)])
    running = Service(Config(), listeners, Recorder())
    async with trio.open_nursery() as nursery:
        await nursery.start(running.run)
        running.drain()
        assert running.draining
    assert listeners[0].sock.fileno() == -1


async def test_a_fault_in_one_connection_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with service(Config()) as running:
        healthy = End(await running.connect())
        # An answer shows that it is being served already, and not by what is put in place below.
        await healthy.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await healthy.read_response()).status == 400

        async def fail(self: Connection) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patched:
            patched.setattr(Connection, "serve", fail)
            struck = End(await running.connect())
            assert await struck.wait_closed() == "closed"
        await healthy.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await healthy.read_response()).status == 400
        (fault,) = running.recorder.faults
        assert isinstance(fault, ZeroDivisionError)
        await healthy.aclose()
        await struck.aclose()
