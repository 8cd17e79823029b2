"""One worker's service: its listeners, its shared parts, and an orderly end.

Three nurseries, each outliving the next. The service's own holds the pump and the pool; cancelling
it ends everything at once. The connections' holds one task a connection; draining closes the idle
ones and lets the others finish. The accept loops' is the first to end.
"""

import contextlib
import socket
import ssl
from collections.abc import Sequence

import httpcore
import trio

from swproxy.daemon.listeners import accept_forever
from swproxy.policy.config import Config
from swproxy.proxy.body import SpoolBudget
from swproxy.proxy.connection import Connection
from swproxy.proxy.dial import GuardedBackend
from swproxy.proxy.pool import Pool
from swproxy.proxy.pump import Pump
from swproxy.proxy.record import Observer
from swproxy.proxy.respond import render_problem
from swproxy.proxy.stream import SocketStream
from swproxy.proxy.worker import Worker

__all__ = ["Service", "client_tls_context", "server_tls_context"]

_SPOOLED_AT_ONCE = 16
"""Signed bodies of the greatest size that a worker may hold together, in memory and on disk."""


def client_tls_context(config: Config) -> ssl.SSLContext:
    """Return the context for upstreams: certificates and host names are always verified.

    The system's trust store is used, or certifi's where the system has none. Raises OSError for a
    `ca_file` that can't be read.
    """
    context = ssl.create_default_context()
    if not context.get_ca_certs() and not context.cert_store_stats()["x509_ca"]:
        context = httpcore.default_ssl_context()
    if config.upstream.ca_file is not None:
        context.load_verify_locations(config.upstream.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def server_tls_context(config: Config) -> ssl.SSLContext | None:
    """Return the context for the listeners, or None where they are plain."""
    server = config.server
    if server.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(server.tls_certificate, server.tls_key)
    context.set_alpn_protocols(["http/1.1"])
    return context


class Service:
    """Everything that serves in one process. `run` it; `drain` it for an orderly end."""

    def __init__(
        self, config: Config, listeners: Sequence[socket.socket], observer: Observer
    ) -> None:
        self._listeners = listeners
        self._tls = server_tls_context(config)
        self._accepting = trio.CancelScope()
        self._observer = observer
        upstream = config.upstream
        pool = Pool(
            GuardedBackend(upstream.private_networks),
            client_tls_context(config),
            connect_seconds=upstream.connect_seconds,
            idle_connections=upstream.idle_connections,
            idle_connection_seconds=upstream.idle_connection_seconds,
        )
        self.worker = Worker(
            config=config,
            pump=Pump(),
            pool=pool,
            spools=SpoolBudget(_SPOOLED_AT_ONCE * config.limits.signed_body_bytes),
            observer=observer,
        )
        self._open = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until drained, or cancelled."""
        async with trio.open_nursery() as service:
            service.start_soon(self.worker.pump.run)
            service.start_soon(self.worker.pool.run)
            async with trio.open_nursery() as connections:
                task_status.started()
                with self._accepting:
                    async with trio.open_nursery() as accepting:
                        for listener in self._listeners:
                            accepting.start_soon(self._accept, listener, connections)
            service.cancel_scope.cancel()

    def drain(self) -> None:
        """Accept no more; let requests under way finish, and close connections without one."""
        self._accepting.cancel()
        for connection in list(self.worker.connections):
            connection.drain()

    def reload(self, config: Config) -> None:
        """Use another configuration for requests that begin from now on."""
        self.worker.config = config

    async def _accept(self, listener: socket.socket, connections: trio.Nursery) -> None:
        def handle(sock: socket.socket, client: str) -> None:
            if self._open >= self.worker.config.limits.connections and not self._make_room():
                self._turn_away(sock)
                return
            self._open += 1
            connections.start_soon(self._serve_connection, sock, client)

        await accept_forever(listener, handle, exhausted=self.worker.pool.drop_idle)

    def _make_room(self) -> bool:
        """Ask the connection that has been idle longest to close."""
        for connection in self.worker.connections:
            if connection.idle:
                connection.drain()
                return True
        return False

    def _turn_away(self, sock: socket.socket) -> None:
        """Say 503 without waiting for a request, as far as the kernel takes it at once."""
        stream = SocketStream(sock)
        if self._tls is None:
            _, head, body = render_problem(
                "overloaded",
                "All connections are taken.",
                extra=self.worker.config.open_cors.response_headers(None),
                keep_alive=False,
                with_body=True,
            )
            with contextlib.suppress(httpcore.WriteError):
                stream.send_now(head + body)
        stream.close()

    async def _serve_connection(self, sock: socket.socket, client: str) -> None:
        try:
            stream = SocketStream(sock)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                stream = await self._start_tls(stream, self._tls)
            connection = Connection(self.worker, stream, client)
            if self._accepting.cancel_called:
                connection.drain()
            await connection.serve()
        except (httpcore.ConnectError, httpcore.ConnectTimeout, OSError):
            sock.close()  # it never got as far as a request
        except BaseException:
            sock.close()
            raise
        finally:
            self._open -= 1

    async def _start_tls(self, stream: SocketStream, context: ssl.SSLContext) -> SocketStream:
        limit = self.worker.config.limits.head_seconds
        return await stream.handshake(context, timeout=limit, server_side=True)
