"""Tunnels whose client speaks TLS to swproxy itself: the bytes, and ends that can't be forged."""

from pathlib import Path

import pytest

from tests.proxy.test_websocket_tunnel import GOING_AWAY, cross_large_messages, open_tunnel
from tests.support.proxy import proxy
from tests.support.sockets import CLOSE, frame, switching
from tests.support.upstream import upstream
from tests.support.wire import End

TLS = pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])


@TLS
async def test_large_messages_cross_each_other_unharmed(
    tls: bool, tls_files: dict[str, Path]
) -> None:
    await cross_large_messages(tls=tls, listener=tls_files)


@TLS
async def test_the_upstream_s_end_is_told_with_close_notify(
    tls: bool, tls_files: dict[str, Path]
) -> None:
    async def leave(end: End) -> None:
        await end.send(frame(b"last") + CLOSE)

    async with upstream(switching(leave), tls=tls) as server, proxy(server=tls_files) as swproxy:
        client = await open_tunnel(swproxy, server.url)
        assert await client.read_to_end() == frame(b"last") + CLOSE
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "complete"


async def test_a_goodbye_arrives_over_tls(tls_files: dict[str, Path]) -> None:
    async with (
        upstream(switching()) as server,
        proxy(server=tls_files, upstreams={"idle_seconds": 0.2}) as swproxy,
    ):
        client = await open_tunnel(swproxy, server.url)
        assert await client.read_to_end() == GOING_AWAY


async def test_a_client_that_vanishes_ends_the_upstream(tls_files: dict[str, Path]) -> None:
    async with upstream(switching()) as server, proxy(server=tls_files) as swproxy:
        client = await open_tunnel(swproxy, server.url)
        await client.aclose()
        await server.wait_all_closed()
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "client-gone"
