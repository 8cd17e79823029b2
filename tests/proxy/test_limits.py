"""Every limit of the configuration, at its edge: what is within is served, nothing beyond."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from tests.support.proxy import Proxy, proxy
from tests.support.upstream import take_and_answer, upstream
from tests.support.wire import APP_ID, SECRET, End


async def ask_raw(swproxy: Proxy, data: bytes) -> tuple[int, str]:
    """Return status and ending of the answer to `data`."""
    client = await swproxy.connect()
    await client.send(data)
    answer = await client.read_response()
    if answer.headers.get("connection") == "close":
        assert await client.wait_closed() == "closed"
        return answer.status, "closed"
    return answer.status, "kept"


async def test_head_bytes() -> None:
    async with upstream() as server, proxy(limits={"head_bytes": 2000}) as swproxy:
        plain = swproxy.request(server.url)
        room = 2000 - len(plain) - len(b"X-A: \r\n")
        assert await ask_raw(
            swproxy, swproxy.request(server.url, headers=b"X-A: " + b"b" * room + b"\r\n")
        ) == (200, "kept")
        assert await ask_raw(
            swproxy, swproxy.request(server.url, headers=b"X-A: " + b"b" * (room + 1) + b"\r\n")
        ) == (431, "closed")
        # Never ending, and far beyond at once.
        assert await ask_raw(swproxy, plain[:-2] + b"X-A: " + b"b" * 5000) == (431, "closed")
        assert await ask_raw(swproxy, plain[:-2] + b"X-A: b\r\n" * 9000 + b"\r\n") == (
            431,
            "closed",
        )
        assert await ask_raw(swproxy, b"GET /" + b"a" * 5000) == (414, "closed")
        assert await ask_raw(swproxy, b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n") == (
            414,
            "closed",
        )
        assert server.received.count(b"GET / ") == 1


async def test_header_count() -> None:
    async with upstream() as server, proxy(limits={"header_count": 10}) as swproxy:
        for count, expected in ((9, (200, "kept")), (10, (431, "closed")), (500, (431, "closed"))):
            # One more is the Host.
            request = swproxy.request(server.url, headers=b"X-A: b\r\n" * count)
            assert await ask_raw(swproxy, request) == expected
        assert server.received.count(b"GET / ") == 1


@pytest.mark.parametrize("signed", [False, True], ids=["body_bytes", "signed_body_bytes"])
@pytest.mark.parametrize("framing", ["content-length", "chunked", "chunked at once", "announced"])
async def test_body_bytes(signed: bool, framing: str) -> None:
    limits = {"body_bytes": 5000, "signed_body_bytes": 1000}
    limit = 1000 if signed else 5000

    def request(size: int) -> bytes:
        body = b"x" * size
        target = swproxy.target(server.url, "POST", **({"body": body} if signed else {}))
        if framing == "content-length":
            lines, data = b"Content-Length: %d" % size, body
        else:
            lines = b"Transfer-Encoding: chunked"
            step = {"chunked": 100, "announced": size + (size > limit)}.get(framing, size)
            data = b"".join(b"%x\r\n%b\r\n" % (step, b"x" * step) for _ in range(size // step))
            data += b"0\r\n\r\n"
            if framing == "announced" and size > limit:
                data = b"%x\r\n" % size
        return b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n%b" % (target, lines, data)

    async with upstream(take_and_answer) as server, proxy(limits=limits) as swproxy:
        assert await ask_raw(swproxy, request(limit)) == (200, "kept")
        assert await ask_raw(swproxy, request(limit + 100)) == (413, "closed")
        assert server.received.count(b"\r\n\r\n") <= 2 + limit // 100
        assert len(server.connections) == 1
        assert len(server.received.replace(b"POST", b"")) < 2 * limit + 1000


async def test_silent_bodies_give_way_to_those_that_come() -> None:
    """Sixteen of the largest may be held by a worker: strangers can fill that, but not keep it."""
    body = b"x" * 1000
    async with (
        upstream(take_and_answer) as server,
        proxy(limits={"signed_body_bytes": 1000}) as swproxy,
    ):
        head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
        target = swproxy.target(server.url, "POST", body=body)
        forged = swproxy.target(server.url, "POST", body=body[:-1] + b"y")
        silent = []
        for _ in range(16):
            silent.append(await swproxy.connect())
            # Byte for byte what may be held; the last byte but one is spared for each.
            await silent[-1].send(head % forged + body[:-1])
        for _ in range(9):
            assert await ask_raw(swproxy, head % target + body) == (200, "kept")
        # Each made room for one honest body after the other: the first alone had to go.
        refusal = await silent[0].read_response()
        assert (refusal.status, b"body-buffer-full" in refusal.body) == (503, True)
        for client in silent[1:]:
            await client.send(b"x")
            assert (await client.read_response()).status == 400


async def test_one_address_has_a_share_of_the_room_for_bodies() -> None:
    """Four of the largest bodies, for one client behind a proxy that names it."""
    body = b"x" * 1000
    async with (
        upstream(take_and_answer) as server,
        proxy(limits={"signed_body_bytes": 1000}) as swproxy,
    ):
        target = swproxy.target(server.url, "POST", body=body)

        def request(client: str) -> bytes:
            lines = f"Host: a\r\nX-Forwarded-For: {client}\r\nContent-Length: 1000\r\n\r\n"
            return b"POST %b HTTP/1.1\r\n%b" % (target, lines.encode())

        waiting = []
        for number in range(8):
            waiting.append(await swproxy.connect())
            await waiting[-1].send(request("192.0.2.1" if number else "192.0.2.2") + body[:-1])
            await trio.sleep(0.01)
        for client in waiting[1:4]:
            assert (await client.read_response()).status == 503
        for client in (waiting[0], *waiting[4:]):
            await client.send(b"x")
            assert (await client.read_response()).status == 200


async def test_a_signed_body_is_let_go_when_it_has_been_answered() -> None:
    """Answers stream for minutes: what they answer must not count for as long."""
    body = b"x" * 1000

    async def stream(end: End) -> None:
        await end.read_request()
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
        await end.wait_closed()

    async with upstream(stream) as server, proxy(limits={"signed_body_bytes": 1000}) as swproxy:
        target = swproxy.target(server.url, "POST", body=body)
        request = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n%b" % (target, body)
        for _ in range(20):
            client = await swproxy.connect()
            await client.send(request)
            await client.read_until(b"hello")


async def test_connections() -> None:
    """A newcomer is told to come again; one that is idle makes room for it."""
    release = trio.Event()

    async def answer(end: End) -> None:
        await end.read_head()
        await release.wait()
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await take_and_answer(end)

    async with upstream(answer) as server, proxy(limits={"connections": 2}) as swproxy:
        busy = [await swproxy.connect(), await swproxy.connect()]
        for client in busy:
            await client.send(swproxy.request(server.url))
        await server.wait_for_connections(2)
        turned_away = await swproxy.connect()
        answered = await turned_away.read_response()
        assert answered.status == 503
        assert b'"overloaded"' in answered.body
        assert "retry-after" in answered.headers
        assert await turned_away.wait_closed() == "closed"
        release.set()
        for client in busy:
            assert (await client.read_response()).body == b"ok"
        # Both are idle now, and one of them has to go.
        assert (await swproxy.ask(server.url)).status == 200


async def hold(end: End) -> None:
    """Begin an answer that does not end for one path, and answer any other at once."""
    while True:
        try:
            head, _ = await end.read_request()
        except EOFError:
            return
        if b" /held " in head:
            await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun")
            await end.stream.receive_some()
            return
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


FULL = {
    "uploads without a byte": b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
    "parts of heads": b"GET %b HTTP/1.1\r\nHost:",
    "nothing": b"",
    "refused requests": b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n",
    "lingering ends": b"POST /no%b HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
}


@pytest.mark.parametrize("what", FULL)
async def test_strangers_take_no_connection_that_somebody_needs(what: str) -> None:
    async with upstream(hold) as server, proxy(limits={"connections": 20}) as swproxy:
        held = await swproxy.connect()
        await held.send(swproxy.request(server.url + "/held"))
        await held.read_until(b"begun")
        forged = swproxy.target(server.url, "POST", body=b"other")
        for _ in range(60):
            client = await swproxy.connect()
            await client.send(FULL[what].replace(b"%b", forged))
        for _ in range(30):
            assert (await swproxy.ask(server.url)).body == b"ok"
        await server.connections[0].send(b" end")
        assert await held.read_until(b" end") == b" end"


async def test_one_valid_url_takes_a_share_of_the_connections() -> None:
    lines = b"X-Forwarded-For: %b\r\n"
    async with upstream(hold) as server, proxy(limits={"connections": 20}) as swproxy:
        url = server.url + "/held"
        clients = [await swproxy.connect() for _ in range(6)]
        for client in clients[:5]:
            await client.send(swproxy.request(url, headers=lines % b"192.0.2.1"))
            await client.read_until(b"begun")
        await clients[5].send(swproxy.request(url, headers=lines % b"192.0.2.1"))
        refusal = await clients[5].read_response()
        assert (refusal.status, b"overloaded" in refusal.body) == (503, True)
        answer = await swproxy.ask(server.url, headers=lines % b"192.0.2.2")
        assert answer.body == b"ok"
        # What the proxy in front sends in nobody's name is not one client's.
        for _ in range(6):
            client = await swproxy.connect()
            await client.send(swproxy.request(url))
            await client.read_until(b"begun")


async def test_keepalive_seconds() -> None:
    async with upstream() as server, proxy(limits={"keepalive_seconds": 0.05}) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url))
        assert "connection" not in (await client.read_response()).headers
        assert await client.wait_closed() == "closed"


async def test_keepalive_seconds_of_zero_closes_after_each_answer() -> None:
    async with upstream() as server, proxy(limits={"keepalive_seconds": 0}) as swproxy:
        assert await ask_raw(swproxy, swproxy.request(server.url)) == (200, "closed")
        bad = swproxy.request(server.url).replace(b"X-Sw-Signature=", b"X-Sw-Signature=0")
        assert await ask_raw(swproxy, bad) == (400, "closed")


@pytest.mark.parametrize(
    ("limits", "options", "status"),
    [
        ({"expiry_seconds": 100}, {"expiry": 100}, 200),
        ({"expiry_seconds": 100}, {"expiry": 101}, 400),
        ({"clock_skew_seconds": 100}, {"ahead": 90}, 200),
        ({"clock_skew_seconds": 100}, {"ahead": 110}, 400),
        ({}, {"ahead": -590, "expiry": 600}, 200),
        ({}, {"ahead": -610, "expiry": 600}, 400),
    ],
)
async def test_expiry_and_clock_skew_seconds(
    limits: Mapping[str, int], options: dict[str, int], status: int
) -> None:
    options = dict(options)
    ahead = options.pop("ahead", None)
    signing: dict[str, Any] = dict(options)
    if ahead is not None:
        signing["datetime_override"] = datetime.now(UTC) + timedelta(seconds=ahead)
    async with upstream() as server, proxy(limits=limits) as swproxy:
        assert (await swproxy.ask(server.url, **signing)).status == status
        assert len(server.connections) == (status == 200)


@pytest.mark.parametrize(("kept", "connections"), [(0, 3), (1, 2), (2, 1)])
async def test_idle_connections(kept: int, connections: int) -> None:
    """With none kept each request dials; with one, the second of two at once is closed."""
    async with upstream() as server, proxy(upstreams={"idle_connections": kept}) as swproxy:
        for _ in range(3):
            assert (await swproxy.ask(server.url)).status == 200
        if kept == 0:
            assert len(server.connections) == 3
            await server.wait_all_closed()
        else:
            assert len(server.connections) == 1


async def test_idle_connections_beyond_the_number_are_closed() -> None:
    together = trio.Event()

    async def answer(end: End) -> None:
        while True:
            try:
                await end.read_head()
            except EOFError:
                return
            await together.wait()
            await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with upstream(answer) as server, proxy(upstreams={"idle_connections": 2}) as swproxy:
        clients = [await swproxy.connect() for _ in range(5)]
        for client in clients:
            await client.send(swproxy.request(server.url))
        await server.wait_for_connections(5)
        together.set()
        for client in clients:
            assert (await client.read_response()).body == b"ok"
        with trio.fail_after(5):
            while server.open > 2:
                await trio.sleep(0.002)
        assert (await swproxy.ask(server.url)).status == 200
        assert (server.open, len(server.connections)) == (2, 5)


async def test_idle_connection_seconds() -> None:
    brief = {"idle_connection_seconds": 0.05}
    async with upstream() as server, proxy(upstreams=brief) as swproxy:
        assert (await swproxy.ask(server.url)).status == 200
        await server.wait_all_closed()


async def test_unknown_application_and_wrong_secret_are_told_alike() -> None:
    async with upstream() as server, proxy() as swproxy:
        answers = []
        for options in (
            {"id": "nobody", "secret": SECRET},
            {"id": APP_ID, "secret": "wrong"},
            {"id": "nobody", "secret": "wrong"},
        ):
            answer = await swproxy.ask(server.url, **options)
            headers = {
                name: value
                for name, value in answer.headers.items()
                if name not in ("x-request-id", "date")
            }
            answers.append((answer.status, headers, answer.body))
        assert answers[0] == answers[1] == answers[2]
        assert answers[0][0] == 400
        assert server.connections == []


async def test_an_answer_that_began_in_time_runs_on_when_its_url_expires() -> None:
    expired = trio.Event()

    async def stream(end: End) -> None:
        await end.read_head()
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        await expired.wait()
        await end.send(b"world")
        await end.wait_closed()

    async with upstream(stream) as server, proxy() as swproxy:
        client = await swproxy.connect()
        began = datetime.now(UTC)
        # Dates have whole seconds: it is over in one to two.
        request = swproxy.request(server.url, expiry=2, datetime_override=began)
        await client.send(request)
        await client.read_until(b"hello")
        while datetime.now(UTC) < began + timedelta(seconds=2):
            await trio.sleep(0.1)
        other = await swproxy.connect()
        await other.send(request)
        answer = await other.read_response()
        assert (answer.status, b'"expired"' in answer.body) == (400, True)
        expired.set()
        assert await client.read_exactly(5) == b"world"
