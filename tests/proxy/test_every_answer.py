"""What docs/security.md says of every answer, of every kind of answer: relayed, or made here."""

import re
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from time import time

import pytest

from tests.support.proxy import Proxy, proxy
from tests.support.sockets import ask as ask_for_websocket
from tests.support.sockets import switching
from tests.support.upstream import upstream
from tests.support.wire import End, Response

OWN = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "cross-origin",
    "x-accel-buffering": "no",
    "cache-control": "no-store",
    "access-control-allow-origin": "*",
}


LAST_HOP = b"Max-Forwards: 0\r\n"


async def answer(end: End) -> None:
    while True:
        head = await end.read_head()
        if b"upgrade:" in head.lower():
            await switching(request=head)(end)
        if b"/hold" in head:
            await end.send(b"HTTP/1.1 200 OK\r\n\r\n")
            await end.wait_closed()
            return
        status = b"404 Not Found" if b"/missing" in head else b"200 OK"
        await end.send(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)


async def preflight(swproxy: Proxy, url: str) -> Response:
    client = await swproxy.connect()
    lines = b"Origin: https://a.test\r\nAccess-Control-Request-Method: POST\r\n"
    await client.send(b"OPTIONS / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
    return await client.read_response()


async def garbage(swproxy: Proxy, url: str) -> Response:
    client = await swproxy.connect()
    await client.send(b"\x00\r\n\r\n")
    return await client.read_response()


async def websocket(swproxy: Proxy, url: str) -> Response:
    return await ask_for_websocket(await swproxy.connect(), swproxy, url)


async def turned_away(swproxy: Proxy, url: str) -> Response:
    for _ in range(2):
        client = await swproxy.connect()
        await client.send(swproxy.request(url + "/hold"))
        await client.read_head()
    return await (await swproxy.connect()).read_response()


KINDS: dict[str, tuple[int, Callable[[Proxy, str], Awaitable[Response]]]] = {
    "relayed": (200, lambda swproxy, url: swproxy.ask(url)),
    "relayed HEAD": (200, lambda swproxy, url: swproxy.ask(url, "HEAD")),
    "relayed error": (404, lambda swproxy, url: swproxy.ask(url + "/missing")),
    "websocket": (101, websocket),
    "refused": (417, lambda swproxy, url: swproxy.ask(url, headers=b"Expect: that\r\n")),
    "failed HEAD": (502, lambda swproxy, url: swproxy.ask("http://127.0.0.1:1/", "HEAD")),
    "no upstream": (502, lambda swproxy, url: swproxy.ask("http://127.0.0.1:1/")),
    "garbage": (400, garbage),
    "preflight": (204, preflight),
    "last hop": (204, lambda swproxy, url: swproxy.ask(url, "OPTIONS", headers=LAST_HOP)),
    "turned away": (503, turned_away),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_what_every_answer_carries(kind: str) -> None:
    status, ask = KINDS[kind]
    limits = {"connections": 2 if kind == "turned away" else 100}
    async with upstream(answer) as server, proxy(limits=limits) as swproxy:
        answered = await ask(swproxy, server.url)
        assert answered.status == status
        assert {name: answered.headers.get(name) for name in OWN} == OWN
        assert abs(parsedate_to_datetime(answered.headers["date"]).timestamp() - time()) < 60
        assert answered.raw.lower().count(b"\r\ndate:") == 1
        assert re.fullmatch("[0-9a-f]{16}", answered.headers["x-request-id"])
        assert ("retry-after" in answered.headers) == (status == 503)
        for client in swproxy.clients:
            await client.aclose()
        records = {record.request_id: record for record in await swproxy.recorder.wait_for(1)}
        assert records[answered.headers["x-request-id"]].status == status


async def test_an_upstream_s_own_date_and_caching_stay() -> None:
    said = {"date": "Tue, 15 Nov 1994 08:12:31 GMT", "cache-control": "max-age=5"}

    async def dated(end: End) -> None:
        await end.read_head()
        lines = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        await end.send(f"HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n".encode())

    async with upstream(dated) as server, proxy() as swproxy:
        answered = await swproxy.ask(server.url)
        assert {name: answered.headers[name] for name in said} == said
        assert answered.raw.lower().count(b"\r\ndate:") == 1
