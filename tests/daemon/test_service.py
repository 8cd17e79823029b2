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
from tests.support.proxy import Recorder
from tests.support.wire import PATIENCE, End, authority


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


async def test_who_has_proved_nothing_makes_room_the_oldest_first() -> None:
    """With a head, without one, or with a refusal: none of them has shown that it may call."""
    async with service(Config(limits=Limits(connections=3))) as running:
        clients = [End(await running.connect())]
        await clients[0].send(b"GET / HTTP/1.1\r\nX-Slow: ")
        await until(running.service, 1)
        clients.append(End(await running.connect()))
        await until(running.service, 2)
        clients.append(End(await running.connect()))
        await clients[2].send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await clients[2].read_response()).status == 400
        for number, how in ((0, "reset"), (1, "closed"), (2, "closed")):
            clients.append(End(await running.connect()))
            assert await clients[number].wait_closed() == how
            await until(running.service, 3)
        for client in clients[3:]:
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.read_response()).status == 400
        for client in clients:
            await client.aclose()


async def test_who_has_been_answered_makes_room_before_all_others() -> None:
    async with service(Config(limits=Limits(connections=2))) as running:
        first = End(await running.connect())
        await until(running.service, 1)
        lingering = End(await running.connect())
        await lingering.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
        assert (await lingering.read_response()).status == 400
        third = End(await running.connect())
        await until(running.service, 2)
        for client in (first, third):
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.read_response()).status == 400
        for client in (first, lingering, third):
            await client.aclose()


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
