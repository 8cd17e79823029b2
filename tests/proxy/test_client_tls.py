"""Clients over TLS: endings that can't be forged, handshakes that go nowhere."""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.proxy import Proxy, proxy
from tests.support.upstream import upstream
from tests.support.wire import End, client_context


@asynccontextmanager
async def plain(swproxy: Proxy) -> AsyncIterator[trio.SocketStream]:
    """Connect without TLS."""
    stream = await trio.open_tcp_stream("127.0.0.1", swproxy.address[1])
    try:
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


async def send_and_close(end: End) -> None:
    await end.read_head()
    await end.send(b"HTTP/1.1 200 OK\r\n\r\nhello")


async def cut_short(end: End) -> None:
    await end.read_head()
    await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")


async def test_requests_and_large_bodies_both_ways(tls_files: dict[str, Path]) -> None:
    body = bytes(range(256)) * 4000

    async def echo(end: End) -> None:
        for _ in range(2):
            _, received = await end.read_request()
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(received)
            await end.send(head + received)
        await end.wait_closed()

    async with upstream(echo, tls=True) as server, proxy(server=tls_files) as swproxy:
        client = await swproxy.connect()
        for signed in (False, True):
            options = {"body": body} if signed else {}
            target = swproxy.target(server.url, "POST", **options)
            head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
            await client.send(head % (target, len(body)) + body)
            assert (await client.read_response()).body == body
        assert len(server.connections) == 1


async def test_an_answer_that_ends_with_the_connection_ends_with_close_notify(
    tls_files: dict[str, Path],
) -> None:
    async with upstream(send_and_close) as server, proxy(server=tls_files) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url))
        # trio's SSLStream tells a truncation from an end.
        assert (await client.read_response()).body == b"hello"


async def test_an_answer_cut_short_ends_without_close_notify(tls_files: dict[str, Path]) -> None:
    async with upstream(cut_short) as server, proxy(server=tls_files) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url))
        assert await client.wait_closed() == "reset"


async def test_a_client_that_sends_all_before_it_reads_gets_an_early_answer(
    tls_files: dict[str, Path],
) -> None:
    async with upstream() as server, proxy(server=tls_files) as swproxy:
        client = await swproxy.connect()
        large = swproxy.request(server.url, "POST", headers=b"Content-Length: 99999999\r\n")
        await client.send(large)
        for _ in range(100):
            await client.send(b"x" * 60_000)
        assert (await client.read_response()).status == 413
        assert await client.wait_closed() == "closed"
        assert server.connections == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_that_leaves_ends_the_upstream_connection(
    tls_files: dict[str, Path], version: ssl.TLSVersion
) -> None:
    async def hang(end: End) -> None:
        await end.read_head()
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
        await end.wait_closed()

    async with upstream(hang) as server, proxy(server=tls_files) as swproxy:
        context = client_context()
        context.minimum_version = context.maximum_version = version
        tcp = await trio.open_tcp_stream("127.0.0.1", swproxy.address[1])
        client = End(trio.SSLStream(tcp, context, server_hostname="localhost"))
        await client.send(swproxy.request(server.url))
        await client.read_until(b"hello")
        await client.aclose()
        await server.wait_all_closed()
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "client-gone"


SAYINGS: Mapping[str, bytes] = {
    "nothing": b"",
    "plain HTTP": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "half a record": b"\x16\x03\x01\x02\x00\x01",
    "an alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "noise": bytes(range(256)) * 40,
}


@pytest.mark.parametrize("then", ["wait", "close", "reset"])
@pytest.mark.parametrize("name", SAYINGS)
async def test_a_handshake_that_goes_nowhere_is_over_at_its_deadline(
    tls_files: dict[str, Path], name: str, then: str
) -> None:
    limits = {"head_seconds": 0.1}
    async with proxy(server=tls_files, limits=limits) as swproxy:
        async with plain(swproxy) as stream:
            end: Any = End(stream)
            if SAYINGS[name]:
                await end.send(SAYINGS[name])
            if then == "wait":
                assert await end.wait_closed() in ("closed", "reset")
            elif then == "reset":
                await end.reset()
        async with upstream() as server:
            client = await swproxy.connect()
            await client.send(swproxy.request(server.url))
            assert (await client.read_response()).body == b"ok"


async def test_old_versions_of_tls_are_not_spoken(tls_files: dict[str, Path]) -> None:
    async with proxy(server=tls_files) as swproxy, plain(swproxy) as stream:
        hello = bytes.fromhex(
            "16030100310100002d0302" + "00" * 32 + "00" + "0006" + "c013c0140035" + "0100"
        )
        end = End(stream)
        await end.send(hello)
        assert await end.wait_closed() in ("closed", "reset")
        # An alert (21): protocol version or decode error, and nothing that resembles a hello.
        assert bytes(end.received[:1]) in (b"", b"\x15")
