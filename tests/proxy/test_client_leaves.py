"""A client that leaves, or ends its own side only, costs the upstream nothing more.

Whether it closes, resets or half-closes makes no difference: a half-closed client counts as gone,
as it does for nginx, since nothing tells it from one whose machine closed for good.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from tests.support.proxy import Proxy, proxy
from tests.support.resolver import resolving
from tests.support.upstream import Upstream, upstream
from tests.support.wire import End

LARGE = 6_000_000


async def close(client: End) -> None:
    await client.aclose()


async def reset(client: End) -> None:
    await client.reset()


async def half_close(client: End) -> None:
    client.half_close()


WAYS = [close, reset, half_close]


@dataclass
class Scene:
    """What a phase needs to bring about itself."""

    swproxy: Proxy
    server: Upstream
    client: End


async def listen(end: End) -> None:
    await end.wait_closed()


async def begin_to_answer(end: End) -> None:
    await end.read_head()
    await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
    await end.wait_closed()


async def answer_without_end(end: End) -> None:
    await end.read_head()
    await end.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await end.stream.send_all(b"x" * 100_000)


async def in_tls_handshake(scene: Scene) -> None:
    await scene.client.send(scene.swproxy.request(f"https://localhost:{scene.server.port}/"))
    await scene.server.wait_for_connections(1)


async def in_upload(scene: Scene) -> None:
    head = scene.swproxy.request(scene.server.url, "POST", headers=b"Content-Length: 9\r\n")
    await scene.client.send(head + b"hello")
    await scene.server.wait_for_connections(1)
    with trio.fail_after(5):
        while b"hello" not in scene.server.received:
            await trio.sleep(0.001)


async def in_chunked_upload(scene: Scene) -> None:
    lines = b"Transfer-Encoding: chunked\r\n"
    head = scene.swproxy.request(scene.server.url, "POST", headers=lines)
    await scene.client.send(head + b"5\r\nhello\r\n")
    with trio.fail_after(5):
        while b"hello" not in scene.server.received:
            await trio.sleep(0.001)


async def while_waiting(scene: Scene) -> None:
    await scene.client.send(scene.swproxy.request(scene.server.url))
    with trio.fail_after(5):
        while b"\r\n\r\n" not in scene.server.received:
            await trio.sleep(0.001)


async def while_waiting_with_a_request_behind(scene: Scene) -> None:
    await scene.client.send(scene.swproxy.request(scene.server.url) * 2)
    with trio.fail_after(5):
        while b"\r\n\r\n" not in scene.server.received:
            await trio.sleep(0.001)


async def in_the_answer(scene: Scene) -> None:
    await scene.client.send(scene.swproxy.request(scene.server.url))
    await scene.client.read_until(b"hello")


async def in_an_answer_not_read(scene: Scene) -> None:
    await scene.client.send(scene.swproxy.request(scene.server.url))
    await scene.client.read_head()
    with trio.fail_after(5):
        while scene.swproxy.recorder.begun == 0:
            await trio.sleep(0.001)


PHASES: dict[str, tuple[Callable[[Scene], Awaitable[None]], Callable[[End], Awaitable[None]]]] = {
    "TLS handshake": (in_tls_handshake, listen),
    "upload": (in_upload, listen),
    "chunked upload": (in_chunked_upload, listen),
    "waiting": (while_waiting, listen),
    "waiting, a request behind": (while_waiting_with_a_request_behind, listen),
    "answer": (in_the_answer, begin_to_answer),
    "answer not read": (in_an_answer_not_read, answer_without_end),
}


@pytest.mark.parametrize("leave", WAYS)
@pytest.mark.parametrize("phase", PHASES)
async def test_a_client_that_leaves_ends_the_upstream_connection(
    phase: str, leave: Callable[[End], Awaitable[None]]
) -> None:
    reach, handler = PHASES[phase]
    async with upstream(handler) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await reach(Scene(swproxy, server, client))
        await leave(client)
        await server.wait_all_closed()
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "client-gone"
        if leave is half_close:
            assert await client.wait_closed() == "reset"


@pytest.mark.parametrize("leave", WAYS)
async def test_a_client_that_leaves_ends_a_dial(leave: Callable[[End], Awaitable[None]]) -> None:
    started, ended = trio.Event(), trio.Event()

    async def never(*args: Any, **kwargs: Any) -> list[Any]:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()
        return []

    with resolving({}) as resolver:
        resolver.getaddrinfo = never  # type: ignore[method-assign]
        async with proxy() as swproxy:
            client = await swproxy.connect()
            await client.send(swproxy.request("http://api.test/"))
            await started.wait()
            await leave(client)
            with trio.fail_after(5):
                await ended.wait()
            (record,) = await swproxy.recorder.wait_for(1)
            assert record.outcome == "client-gone"


@pytest.mark.parametrize("leave", WAYS)
async def test_a_client_that_leaves_within_a_signed_body_reaches_nobody(
    leave: Callable[[End], Awaitable[None]],
) -> None:
    body = b"x" * 200_000
    async with upstream() as server, proxy() as swproxy:
        client = await swproxy.connect()
        target = swproxy.target(server.url, "POST", body=body)
        request = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" % target
        await client.send(request + body[:-1])
        await leave(client)
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "client-gone"
        assert server.connections == []


@pytest.mark.parametrize("leave", WAYS)
async def test_a_client_that_leaves_within_a_head_leaves_no_trace(
    leave: Callable[[End], Awaitable[None]],
) -> None:
    async with upstream() as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url)[:-2])
        await leave(client)
        if leave is half_close:
            assert await client.wait_closed() == "closed"
        assert (await swproxy.ask(server.url)).body == b"ok"
        assert len(swproxy.recorder.records) == 1


async def test_a_half_closed_client_is_still_told_what_is_wrong_with_its_request() -> None:
    """What needs no upstream is answered at once, before anybody looks who is there."""
    async with upstream() as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n")
        client.half_close()
        assert (await client.read_response()).status == 400
        assert await client.wait_closed() == "closed"
        assert server.connections == []


async def test_an_upstream_that_half_closes_has_answered() -> None:
    async def answer(end: End) -> None:
        await end.read_head()
        await end.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        end.half_close()
        await end.wait_closed()

    async with upstream(answer) as server, proxy() as swproxy:
        answered = await swproxy.ask(server.url)
        assert answered.body == b"hello"
        await server.wait_all_closed()


async def test_an_upstream_that_half_closes_instead_of_answering_is_a_502() -> None:
    async def refuse(end: End) -> None:
        await end.read_head()
        end.half_close()
        await end.wait_closed()

    async with upstream(refuse) as server, proxy() as swproxy:
        assert (await swproxy.ask(server.url)).status == 502
        await server.wait_all_closed()


async def test_an_idle_upstream_connection_that_half_closes_is_not_used_again() -> None:
    half_closed = trio.Event()

    async def answer(end: End) -> None:
        await end.read_head()
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        end.half_close()
        half_closed.set()
        await end.wait_closed()

    async with upstream(answer) as server, proxy() as swproxy:
        client = await swproxy.connect()
        for count in (1, 2):
            await client.send(swproxy.request(server.url))
            assert (await client.read_response()).body == b"ok"
            await half_closed.wait()
            assert len(server.connections) == count
