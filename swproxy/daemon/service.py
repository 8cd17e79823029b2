"""One worker's service: its listeners, its shared parts, and an orderly end.

Three nurseries, each outliving the next. The service's own holds the pump and the pool; cancelling
it ends everything at once. The connections' holds one task a connection; draining closes the idle
ones and lets the others finish. The accept loops' is the first to end.

Beyond the configured number of connections one makes room for a new one (see `proxy.slots`); if all
carry verified calls, the newcomer is told to come again.
"""

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Sequence
from functools import partial

import httpcore
import trio

from swproxy.config.config import Config
from swproxy.daemon.balance import Share
from swproxy.daemon.contexts import make_contexts
from swproxy.daemon.ledgers import LedgerWatch, make_ledger
from swproxy.daemon.listeners import Listener, accept_forever, accept_rest
from swproxy.http.respond import render_problem
from swproxy.net.dial import GuardedBackend
from swproxy.net.names import Names
from swproxy.net.pool import Pool
from swproxy.net.pump import Pump
from swproxy.net.stream import SocketStream
from swproxy.net.turns import Turns
from swproxy.policy.clients import client_of_share
from swproxy.proxy.connection import Connection
from swproxy.proxy.record import Observer, Record
from swproxy.proxy.slots import Slot, Slots
from swproxy.proxy.spool import SpoolBudget
from swproxy.proxy.worker import Worker

__all__ = ["Service"]

_SPOOLED_AT_ONCE = 16
"""Signed bodies of the greatest size that a worker may hold together, in memory and on disk."""


_FULL = "All connections are taken."


class Service:
    """Everything that serves in one process. `run` it; `drain` it for an orderly end.

    `batch` connections are accepted at a time, and left to other workers as `share` advises.
    """

    def __init__(
        self,
        config: Config,
        listeners: Sequence[Listener],
        observer: Observer,
        *,
        batch: int = 64,
        share: Share | None = None,
        watch: LedgerWatch | None = None,
    ) -> None:
        self._listeners = listeners
        self._batch = batch
        self._share = share or Share()
        self._contexts = make_contexts(config)
        self._accepting = trio.CancelScope()
        self._pool_scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._retired: list[Pool] = []
        self._names = Names()
        self._turns = Turns()
        self.worker = Worker(
            config=config,
            pump=Pump(),
            pool=self._make_pool(config, self._contexts.client),
            spools=SpoolBudget(0),
            slots=Slots(config.limits.connections, config.limits.client_share),
            observer=observer,
            ledger=make_ledger(config, watch),
            turns=self._turns,
        )
        self._bound(config)
        if watch is not None:
            watch.on_revoked = self.worker.end_revoked
        self.open = 0
        """connections of clients, those in a TLS handshake included"""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until drained, or cancelled."""
        async with trio.open_nursery() as self._nursery:
            await self._nursery.start(self._names.run)
            self._nursery.start_soon(self._turns.run)
            await self._nursery.start(self.worker.ledger.run)
            self._nursery.start_soon(self.worker.pump.run)
            self._nursery.start_soon(self.worker.sweep)
            self._nursery.start_soon(self._run_pool)
            async with trio.open_nursery() as connections:
                self._share.tell(self.open)
                task_status.started()
                with self._accepting:
                    async with trio.open_nursery() as accepting:
                        for listener in self._listeners:
                            accepting.start_soon(self._accept, listener.sock, connections)
                self._share.leave()
                for listener in self._listeners:
                    if listener.own:
                        accept_rest(listener.sock, partial(self._take, connections))
                    listener.close()
            self._nursery.cancel_scope.cancel()

    @property
    def draining(self) -> bool:
        """Tell whether the end has begun."""
        return self._accepting.cancel_called

    def drain(self) -> None:
        """Accept no more; let requests under way finish, and close connections without one.

        WebSockets, which would never finish, are closed in time before `drain_seconds` have passed.
        """
        self._accepting.cancel()
        self.worker.end_tunnels(self.worker.config.server.drain_seconds)
        for connection in list(self.worker.connections):
            connection.drain()

    async def reload(self, config: Config) -> None:
        """Use another configuration for requests that begin from now on.

        Those under way go on, unless their application is gone, or the secret of their URL.
        Raises OSError for a file that it names and that does not serve; nothing has changed then.
        """
        contexts = await trio.to_thread.run_sync(make_contexts, config, self._contexts)
        worker = self.worker
        if contexts.upstream_state != self._contexts.upstream_state:
            # What was dialled under other rules must not carry another request.
            self._pool_scope.cancel()
            self._retired.append(worker.pool)
            worker.pool = self._make_pool(config, contexts.client)
            self._pool_scope = trio.CancelScope()
            if self._nursery is not None:
                self._nursery.start_soon(self._run_pool)
        self._bound(config)
        worker.config = config
        worker.end_orphaned()
        self._contexts = contexts

    def _bound(self, config: Config) -> None:
        """Set what clients may take together, and one of them alone."""
        limits = config.limits
        size = _SPOOLED_AT_ONCE * limits.signed_body_bytes
        share = max(limits.signed_body_bytes, int(size * limits.client_share))
        self.worker.spools.resize(size, share)
        self.worker.slots.resize(limits.connections, limits.client_share)

    def upstream_connections(self) -> tuple[int, int]:
        """Return how many upstream connections there are: idle, and in use."""
        self._retired = [pool for pool in self._retired if pool.active]
        pool = self.worker.pool
        return pool.idle, pool.active + sum(each.active for each in self._retired)

    async def turn(self) -> None:
        """Return once the event loop and the pump have both done a round of work."""
        try:
            ours, theirs = socket.socketpair()
        except OSError:
            # Out of descriptors is no reason to be taken for dead: clients come and go.
            await trio.lowlevel.checkpoint()
            return
        seen = trio.Event()
        endpoint = self.worker.pump.attach(ours)
        try:
            endpoint.on_gone = seen.set
            theirs.close()
            await seen.wait()
        finally:
            self.worker.pump.detach(endpoint)
            ours.close()
            theirs.close()

    def _make_pool(self, config: Config, context: ssl.SSLContext) -> Pool:
        upstream = config.upstream
        return Pool(
            GuardedBackend(upstream.private_networks, self._names.look_up),
            context,
            connect_seconds=upstream.connect_seconds,
            idle_connections=upstream.idle_connections,
            idle_connection_seconds=upstream.idle_connection_seconds,
            turn=self._turns.take,
        )

    async def _run_pool(self) -> None:
        with self._pool_scope:
            await self.worker.pool.run()

    async def _accept(self, listener: socket.socket, connections: trio.Nursery) -> None:
        def exhausted() -> None:
            self.worker.pool.drop_idle()

        handle = partial(self._take, connections)
        await accept_forever(
            listener, handle, batch=self._batch, hold=self._share.hold, exhausted=exhausted
        )

    def _take(self, connections: trio.Nursery, sock: socket.socket, client: str) -> None:
        """Serve a connection in a task of its own, or turn it away."""
        scope = trio.CancelScope()
        share_of = client_of_share(client, self.worker.config.server.trusted_proxies)
        slot = self.worker.slots.enter(share_of, scope.cancel)
        if slot is None:
            self._turn_away(sock, client)
            return
        self._count(+1)
        connections.start_soon(self._serve_connection, sock, client, slot, scope)

    def _turn_away(self, sock: socket.socket, client: str) -> None:
        """Say 503 without waiting for a request, as far as the kernel takes it at once."""
        stream = SocketStream(sock)
        if self._tls(sock) is None:
            now = trio.current_time()
            record = Record(os.urandom(8).hex(), client, "", started=now, ended=now)
            record.outcome, record.code, record.detail = "refused", "overloaded", _FULL
            extra = (
                *self.worker.config.open_cors.response_headers(None),
                (b"x-request-id", record.request_id.encode()),
            )
            record.status, head, body = render_problem(
                record.code, _FULL, extra=extra, now=time.time(), keep_alive=False, with_body=True
            )
            with contextlib.suppress(httpcore.WriteError):
                record.bytes_down = max(0, stream.send_now(head + body) - len(head))
            self.worker.observer.ended(record)
        stream.close()

    def _tls(self, sock: socket.socket) -> ssl.SSLContext | None:
        return None if sock.family == socket.AF_UNIX else self._contexts.server

    async def _serve_connection(
        self, sock: socket.socket, client: str, slot: Slot, scope: trio.CancelScope
    ) -> None:
        """Serve a connection to its end, or until it has to make room."""
        try:
            with scope:
                await self._serve(sock, client, slot, scope)
        except Exception as error:  # noqa: BLE001 - a fault in one must not end the others
            self.worker.observer.crashed(error)
        finally:
            sock.close()
            self.worker.slots.leave(slot)
            self._count(-1)

    async def _serve(
        self, sock: socket.socket, client: str, slot: Slot, scope: trio.CancelScope
    ) -> None:
        try:
            stream = SocketStream(sock)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if (context := self._tls(sock)) is not None:
                limit = self.worker.config.limits.head_seconds
                stream = await stream.handshake(
                    context, timeout=limit, server_side=True, turn=self.worker.turns.take
                )
        except (httpcore.ConnectError, httpcore.ConnectTimeout, OSError):
            return  # it never got as far as a request
        connection = Connection(self.worker, stream, client, slot)
        slot.give_way = partial(connection.give_way, scope)
        if self.draining:
            connection.drain()
        await connection.serve()

    def _count(self, change: int) -> None:
        self.open += change
        if not self.draining:
            self._share.tell(self.open)
