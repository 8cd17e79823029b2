"""TLS connections that break, beside those of others, which nothing is to come of."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from tests.support.daemon import Daemon, daemon
from tests.support.nginx import free_port
from tests.support.upstream import take_and_answer, upstream
from tests.support.wire import PATIENCE, End, authority, client_context

STREAMS = 30
EVENTS = [b"data: %03d\n\n" % number for number in range(30)]
EVENT_SECONDS = 0.02
ROUNDS = 5
PAUSE_SECONDS = 0.002


class InPieces(trio.abc.Stream):
    """A transport whose every send travels in two pieces, as over any network."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.socket = transport.socket

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        middle = len(data) // 2
        await self.transport.send_all(data[:middle])
        await trio.sleep(PAUSE_SECONDS)
        await self.transport.send_all(data[middle:])

    async def wait_send_all_might_not_block(self) -> None:
        await self.transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = await self.transport.receive_some(max_bytes)
        return data

    async def aclose(self) -> None:
        await self.transport.aclose()


async def in_pieces(end: End) -> None:
    """Let what an end sends, once it has shaken hands, travel in pieces."""
    assert isinstance(end.stream, trio.SSLStream)
    await end.stream.do_handshake()
    end.stream.transport_stream = InPieces(end.stream.transport_stream)


class Events:
    """An upstream that answers with EVENTS, and ends its answers when `enough` has happened."""

    def __init__(self) -> None:
        self.enough = trio.Event()

    async def __call__(self, end: End) -> None:
        await in_pieces(end)
        while True:
            await end.read_head()
            await end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for event in EVENTS:
                await end.send(b"%x\r\n%b\r\n" % (len(event), event))
                await trio.sleep(EVENT_SECONDS)
            await self.enough.wait()
            await end.send(b"0\r\n\r\n")


async def serve_in_pieces(end: End) -> None:
    await in_pieces(end)
    await take_and_answer(end)


async def break_off(end: End) -> None:
    """Reset the connection within an answer."""
    await end.read_head()
    await end.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
    await trio.sleep(PAUSE_SECONDS)
    await end.reset()


class Clients:
    """Clients over TLS: of the streams, and others that come and go until there are no streams."""

    def __init__(self, running: Daemon, port: int) -> None:
        self._running = running
        self._port = port
        self.over = False

    async def connect(self) -> End:
        tcp = await trio.open_tcp_stream("127.0.0.1", self._port)
        client = End(trio.SSLStream(tcp, client_context(), server_hostname="localhost"))
        self._running.clients.append(client)
        return client

    async def repeat(
        self,
        step: Callable[[str], Awaitable[None]],
        url: str,
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Repeat a step; started when that has been ROUNDS times."""
        rounds = 0
        while not self.over:
            await step(url)
            rounds += 1
            if rounds == ROUNDS:
                task_status.started()
            await trio.sleep(PAUSE_SECONDS)

    async def stream(self, url: str, done: Callable[[bytes], None]) -> None:
        client = await self.connect()
        await client.send(self._running.request(url))
        done((await client.read_response()).body)

    async def see_a_cut(self, url: str) -> None:
        client = await self.connect()
        await client.send(self._running.request(url))
        assert await client.wait_closed() == "reset"

    async def vanish(self, url: str) -> None:
        client = await self.connect()
        await client.send(self._running.request(url))
        await client.read_until(EVENTS[0])
        await client.reset()

    async def ask(self, url: str) -> None:
        client = await self.connect()
        await client.send(self._running.request(url))
        assert (await client.read_response()).body == b"ok"
        await client.aclose()

    async def upload(self, url: str) -> None:
        client = await self.connect()
        body = bytes(range(256)) * 40
        await in_pieces(client)
        request = self._running.request(url, "POST", body=body, body_signed=True)
        for start in range(0, len(request), 4000):
            await client.send(request[start : start + 4000])
        assert (await client.read_response()).body == b"ok"
        await client.aclose()


async def test_streams_stay_whole_and_idle_connections_fit_beside_those_that_break(
    tmp_path: Path, tls_files: dict[str, Path]
) -> None:
    port = free_port()
    authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    answer = Events()
    async with (
        upstream(answer, tls=True) as events,
        upstream(serve_in_pieces, tls=True) as small,
        upstream(break_off, tls=True) as breaking,
        daemon(
            tmp_path,
            listen=f"127.0.0.1:{port}",
            server="\n".join(f'{key} = "{path}"' for key, path in tls_files.items()),
            upstream=f'ca_file = "{tmp_path}/ca.pem"',
        ) as running,
    ):
        clients = Clients(running, port)
        whole: list[bytes] = []
        async with trio.open_nursery() as others:
            async with trio.open_nursery() as streams:
                for _ in range(STREAMS):
                    streams.start_soon(clients.stream, events.url, whole.append)
                with trio.fail_after(PATIENCE):
                    for step, url in (
                        (clients.see_a_cut, breaking.url),
                        (clients.vanish, events.url),
                        (clients.ask, small.url),
                        (clients.upload, small.url),
                    ):
                        await others.start(clients.repeat, step, url)
                answer.enough.set()
            clients.over = True
        assert whole == [b"".join(EVENTS)] * STREAMS
        # Two ask at once, so two connections are as many as are needed.
        assert len(small.connections) <= 2
