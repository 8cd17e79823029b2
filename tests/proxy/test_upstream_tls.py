"""TLS to upstreams: always verified, and resumed where that spares a handshake."""

import ssl

import pytest
import trio

from tests.support.proxy import proxy
from tests.support.upstream import upstream
from tests.support.wire import End


async def test_later_connections_resume_the_first_ones_session() -> None:
    reused: list[bool] = []
    done = trio.Event()

    async def hold(end: End) -> None:
        await end.read_head()
        assert isinstance(end.stream, trio.SSLStream)
        reused.append(end.stream.session_reused)
        await end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        await done.wait()
        await end.send(b"0\r\n\r\n")

    async with upstream(hold, tls=True) as server, proxy() as swproxy:
        for _ in range(3):
            client = await swproxy.connect()
            await client.send(swproxy.request(server.url + "/"))
            await client.read_until(b"x\r\n")  # its stream stays open
        done.set()
        await swproxy.recorder.wait_for(3)
    assert reused == [False, True, True]


async def test_sessions_are_kept_for_some_origins_and_not_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So thousands of origins take no more memory than some."""
    reused: list[bool] = []

    async def answer(end: End) -> None:
        await end.read_head()
        assert isinstance(end.stream, trio.SSLStream)
        reused.append(end.stream.session_reused)
        await end.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")

    monkeypatch.setattr("swproxy.net.sessions.MOST_ORIGINS", 2)
    monkeypatch.setattr("swproxy.net.pool.SWEEP_SECONDS", 0.01)
    async with (
        upstream(answer, tls=True) as one,
        upstream(answer, tls=True) as two,
        upstream(answer, tls=True) as three,
        proxy() as swproxy,
    ):
        for server in (one, two, one, three, three, two):
            assert (await swproxy.ask(server.url)).body == b"ok"
        monkeypatch.setattr("swproxy.net.sessions.KEPT_SECONDS", 0.0)
        await trio.sleep(0.2)
        monkeypatch.setattr("swproxy.net.sessions.KEPT_SECONDS", 60.0)
        for server in (two, three, three):
            assert (await swproxy.ask(server.url)).body == b"ok"
    # There was no room for the third, until those had been forgotten that nobody used.
    assert reused == [False, False, True, False, False, True, False, False, True]


async def test_http11_is_what_the_upstream_is_asked_for() -> None:
    offered: list[str | None] = []

    async def note(end: End) -> None:
        await end.read_head()
        assert isinstance(end.stream, trio.SSLStream)
        offered.append(end.stream.selected_alpn_protocol())
        assert isinstance(end.stream.context, ssl.SSLContext)
        await end.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with upstream(note, tls=True) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url + "/"))
        assert (await client.read_response()).status == 204
    assert offered == ["http/1.1"]
