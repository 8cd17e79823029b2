"""Out of descriptors: requests are refused, nothing dies, and it serves again after."""

from collections.abc import Callable
from pathlib import Path

import trio

from tests.support.daemon import Daemon, daemon
from tests.support.upstream import take_and_answer, upstream
from tests.support.wire import End, Response

LIMIT = 64
MANY = 100


async def ask(client: End, request: bytes) -> Response:
    await client.send(request)
    return await client.read_response()


async def until(
    client: End, request: Callable[[], bytes], status: int, *, patience: float = 20
) -> Response:
    """Ask until the answer has `status`: accepting and dialling compete for what there is."""
    with trio.fail_after(patience):
        while (answer := await ask(client, request())).status != status:
            await trio.sleep(0.01)
    return answer


async def crowd(served: Daemon, count: int) -> list[End]:
    """Connect `count` clients that say nothing; those beyond the limit wait in the backlog."""
    return [await served.connect() for _ in range(count)]


async def answer_once(end: End) -> None:
    await end.read_request()
    await end.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")


async def test_without_descriptors_requests_are_refused_and_later_served_again(
    tmp_path: Path,
) -> None:
    async with (
        upstream(answer_once) as server,
        daemon(tmp_path, descriptors=LIMIT) as served,
    ):
        early = await served.connect()
        assert (await ask(early, served.request(server.url))).status == 200
        waiting = await crowd(served, MANY)
        # Each answer frees a descriptor, until the accept loop gets it for a client.
        answer = await until(early, lambda: served.request(server.url), 503)
        assert b'"overloaded"' in answer.body
        assert answer.headers["retry-after"] == "1"
        # A large signed body has no file to wait in.
        body = b"x" * 200_000
        large = served.request(server.url, "POST", body=body, body_signed=True)
        refused = await ask(waiting[0], large)
        assert refused.status == 503
        assert b'"body-buffer-full"' in refused.body
        for client in waiting:
            await client.aclose()
        late = await served.connect()
        assert (await until(late, lambda: served.request(server.url), 200)).body == b"ok"
        assert (await until(early, lambda: served.request(server.url), 200)).body == b"ok"


async def test_idle_upstream_connections_give_way_to_clients(tmp_path: Path) -> None:
    together = trio.Event()

    async def answer(end: End) -> None:
        await end.read_request()
        await together.wait()
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await take_and_answer(end)

    async with upstream(answer) as server, daemon(tmp_path, descriptors=LIMIT) as served:
        clients = await crowd(served, 15)
        for client in clients:
            await client.send(served.request(server.url))
        await server.wait_for_connections(15)
        together.set()
        for client in clients:
            assert (await client.read_response()).body == b"ok"
        assert server.open == 15
        clients += await crowd(served, MANY)
        await server.wait_all_closed()


async def test_failed_dials_lose_no_descriptor(tmp_path: Path) -> None:
    async with upstream(take_and_answer) as server, daemon(tmp_path, descriptors=LIMIT) as served:
        client = await served.connect()
        for number in range(2, MANY):
            # Nobody listens there.
            url = f"http://127.0.0.{number}:{server.port}/"
            assert (await ask(client, served.request(url))).status == 502
        assert (await ask(client, served.request(server.url))).body == b"ok"
