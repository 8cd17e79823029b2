"""Tunnels whose client speaks TLS to swproxy itself: the bytes, and ends that can't be forged."""

from pathlib import Path

import pytest
import trio

from tests.sockets import CLOSE, ask, frame, switching
from tests.test_websocket_tunnel import GOING_AWAY, LARGE, pattern
from tests.wire import End, Proxy, authority, proxy, upstream

TLS = pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Return the settings of a TLS listener."""
    certificate = authority().issue_cert("localhost")
    paths = {"tls_certificate": tmp_path / "chain.pem", "tls_key": tmp_path / "key.pem"}
    paths["tls_key"].write_bytes(certificate.private_key_pem.bytes())
    paths["tls_certificate"].write_bytes(b"".join(c.bytes() for c in certificate.cert_chain_pems))
    return paths


async def open_tunnel(swproxy: Proxy, url: str) -> End:
    client = await swproxy.connect()
    assert (await ask(client, swproxy, url.replace("http", "ws"))).status == 101
    return client


@TLS
async def test_large_messages_cross_each_other_unharmed(tls: bool, files: dict[str, Path]) -> None:
    down, up = pattern(LARGE, b"down"), pattern(LARGE, b"up")

    async def cross(end: End) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end.stream.send_all, down)
            assert await end.read_exactly(LARGE) == up
        await end.wait_closed()

    async with upstream(switching(cross), tls=tls) as server, proxy(server=files) as swproxy:
        client = await open_tunnel(swproxy, server.url)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.stream.send_all, up)
            assert await client.read_exactly(LARGE) == down
        await client.aclose()
        (record,) = await swproxy.recorder.wait_for(1)
        assert (record.bytes_up, record.bytes_down) == (LARGE, LARGE)


@TLS
async def test_the_upstream_s_end_is_told_with_close_notify(
    tls: bool, files: dict[str, Path]
) -> None:
    async def leave(end: End) -> None:
        await end.send(frame(b"last") + CLOSE)

    async with upstream(switching(leave), tls=tls) as server, proxy(server=files) as swproxy:
        client = await open_tunnel(swproxy, server.url)
        assert await client.read_to_end() == frame(b"last") + CLOSE
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "complete"


async def test_a_goodbye_arrives_over_tls(files: dict[str, Path]) -> None:
    async with (
        upstream(switching()) as server,
        proxy(server=files, upstream={"idle_seconds": 0.2}) as swproxy,
    ):
        client = await open_tunnel(swproxy, server.url)
        assert await client.read_to_end() == GOING_AWAY


async def test_a_client_that_vanishes_ends_the_upstream(files: dict[str, Path]) -> None:
    async with upstream(switching()) as server, proxy(server=files) as swproxy:
        client = await open_tunnel(swproxy, server.url)
        await client.aclose()
        await server.wait_all_closed()
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "client-gone"
