"""TLS to upstreams: always verified, and resumed where that spares a handshake."""

import ssl

import trio

from tests.support.wire import End, proxy, upstream


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
