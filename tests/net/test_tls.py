"""What one TLS connection's end leaves behind for the others of its thread: nothing.

Where Python has CPython issue 148594 (Debian 13), this fails without `clear_errors`.
"""

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpcore
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from swproxy.http.framing import UntilCloseBody
from swproxy.net.failure import DownstreamGone, UpstreamFailure
from swproxy.net.flow import Flow
from swproxy.net.pump import Pump
from swproxy.net.stream import SocketStream
from swproxy.net.tls import clear_errors
from tests.support.wire import PATIENCE, End, client_context, server_context


def connect() -> tuple[SocketStream, trio.SocketStream]:
    """Return both ends of a TCP connection, ours first."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    return SocketStream(ours), trio.SocketStream(trio.socket.from_stdlib_socket(theirs))


@asynccontextmanager
async def tls() -> AsyncIterator[tuple[SocketStream, End]]:
    """Connect in TLS; yield our end, which has nothing to read, and the peer's."""
    ours, transport = connect()
    theirs = trio.SSLStream(transport, server_context(), server_side=True)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.do_handshake)
            ours = await ours.handshake(client_context(), "localhost")
    assert ours.read_now() == b""  # but session tickets
    try:
        yield ours, End(theirs)
    finally:
        ours.close()
        await trio.aclose_forcefully(theirs)


@asynccontextmanager
async def healthy_and_gone() -> AsyncIterator[tuple[SocketStream, SocketStream]]:
    """Yield an end of two connections: one on which nothing happens, one that has been reset."""
    # In this order, for a handshake empties the queue too.
    async with tls() as (healthy, _), tls() as (gone, peer):
        await peer.reset()
        await trio.lowlevel.wait_readable(gone.socket)
        yield healthy, gone


def assert_waits(healthy: SocketStream) -> None:
    """Fail unless a read says that there is nothing yet, which is all there is to say."""
    with pytest.raises(ssl.SSLWantReadError):
        healthy.socket.recv(1)
    assert healthy.is_clean()


async def read(gone: SocketStream) -> None:
    with pytest.raises(httpcore.ReadError):
        await gone.read()


async def read_now(gone: SocketStream) -> None:
    assert gone.read_now() == b""


async def write(gone: SocketStream) -> None:
    with pytest.raises(httpcore.WriteError):
        await gone.write(b"hello")


async def check(gone: SocketStream) -> None:
    assert not gone.is_clean()


async def linger(gone: SocketStream) -> None:
    await gone.linger(PATIENCE)


async def close(gone: SocketStream) -> None:
    gone.close()


@asynccontextmanager
async def pumping() -> AsyncIterator[Pump]:
    pump = Pump()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        with trio.fail_after(PATIENCE):
            yield pump
        nursery.cancel_scope.cancel()


async def relay_from(gone: SocketStream) -> None:
    sink, client = socket.socketpair()
    async with pumping() as pump:
        endpoint = pump.attach(sink)
        # What ends with its connection is not whole when that was cut.
        with pytest.raises(UpstreamFailure):
            await pump.relay(Flow(gone.socket, endpoint, UntilCloseBody()))
        pump.detach(endpoint)
    sink.close()
    client.close()


async def relay_to(gone: SocketStream) -> None:
    source, upstream = socket.socketpair()
    source.setblocking(False)
    upstream.send(b"hello")
    async with pumping() as pump:
        endpoint = pump.attach(gone.socket)
        pump.detach(endpoint)  # its end is to show in a write, not before
        with pytest.raises(DownstreamGone):
            await pump.relay(Flow(source, endpoint, UntilCloseBody()))
    source.close()
    upstream.close()


@pytest.mark.parametrize(
    "operation", [read, read_now, write, check, linger, close, relay_from, relay_to]
)
async def test_what_fails_on_one_connection_fails_on_no_other(
    operation: Callable[[SocketStream], Awaitable[None]],
) -> None:
    async with healthy_and_gone() as (healthy, gone):
        # The first read fails with the reset, the second with the alert that can't be sent.
        for _ in range(2):
            await operation(gone)
            assert_waits(healthy)


async def test_nor_does_it_on_a_stream_of_trio_s_in_the_same_thread() -> None:
    async with tls() as (ours, theirs), tls() as (gone, peer):
        await peer.reset()
        await trio.lowlevel.wait_readable(gone.socket)
        gone.close()
        await ours.write(b"hello")
        # It asks OpenSSL before it looks at its transport.
        assert await theirs.read_exactly(5) == b"hello"


@pytest.mark.parametrize("server_side", [True, False], ids=["client gone", "upstream gone"])
async def test_a_handshake_that_fails_fails_on_no_other(server_side: bool) -> None:
    async with tls() as (healthy, _):
        ours, theirs = connect()
        context = server_context() if server_side else client_context()
        name = None if server_side else "localhost"
        async with trio.open_nursery() as nursery:

            async def go() -> None:
                await wait_all_tasks_blocked()
                await End(theirs).reset()

            nursery.start_soon(go)
            with pytest.raises(httpcore.ConnectError):
                await ours.handshake(context, name, PATIENCE, server_side=server_side)
        assert_waits(healthy)


def fail_and_clear(healthy: SocketStream, gone: SocketStream) -> None:
    assert isinstance(gone.socket, ssl.SSLSocket)
    with contextlib.suppress(OSError):
        gone.socket.unwrap()
    clear_errors()
    assert_waits(healthy)


async def test_each_thread_has_a_queue_of_its_own() -> None:
    async with healthy_and_gone() as (healthy, gone):
        await trio.to_thread.run_sync(fail_and_clear, healthy, gone)
    async with healthy_and_gone() as (healthy, gone):
        fail_and_clear(healthy, gone)
