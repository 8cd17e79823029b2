"""Who may ask the admin listener what: names, tokens, cookies, and whose page asks."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h11
import pytest
import trio

from swproxy.config.config import Server
from swproxy.config.listen_address import TcpAddress, UnixAddress
from swproxy.daemon.guard import Guard
from tests.support.live import look
from tests.support.proxy import Proxy, proxy
from tests.support.wire import End, Response

TOKEN = "canary-admin-token-5a6b"
BEARER = b"Authorization: Bearer " + TOKEN.encode()
OWN = (b"Origin: http://localhost", b"Sec-Fetch-Site: same-origin")
JSON = b"Content-Type: application/json"


def elsewhere() -> str:
    """Return an address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(sock.getsockname()[0])


@asynccontextmanager
async def asked(**server: Any) -> AsyncIterator[Proxy]:
    settings = {"admin_listen": TcpAddress("127.0.0.1", 0)} | server
    async with proxy(server=settings) as running:
        yield running


async def ask(
    running: Proxy, path: bytes, *lines: bytes, body: object = None, host: bytes = b"localhost"
) -> Response:
    place = running.addresses[-1]
    stream: trio.abc.Stream
    if isinstance(place, str):
        stream = await trio.open_unix_socket(place)
    else:
        stream = await trio.open_tcp_stream(*place[:2])
    end = End(stream)
    method, data = (b"GET", b"") if body is None else (b"POST", json.dumps(body).encode())
    fields = [b"Host: " + host, *lines]
    if body is not None:
        fields.append(b"Content-Length: %d" % len(data))
    head = b"%b %b HTTP/1.1\r\n" % (method, path) + b"".join(each + b"\r\n" for each in fields)
    try:
        await end.send(head + b"\r\n" + data)
        response = Response.parse(await end.read_head())
        if response.headers.get("content-type") == "text/event-stream":
            return response
        length = int(response.headers["content-length"])
        return replace(response, body=await end.read_exactly(length))
    finally:
        await end.aclose()


PAGES = [b"/", b"/live.css", b"/live.js"]


async def test_on_this_machine_all_of_it_is_there() -> None:
    async with asked() as running:
        for path in [*PAGES, b"/live", b"/metrics", b"/healthz"]:
            assert (await ask(running, path)).status == 200, path


@pytest.mark.parametrize("path", [*PAGES, b"/nothing", b"/metrics"])
async def test_no_page_may_frame_it_or_run_what_is_not_its_own(path: bytes) -> None:
    async with asked() as running:
        headers = (await ask(running, path)).headers
        policy = dict(
            each.strip().partition(" ")[::2]
            for each in headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


async def test_elsewhere_it_is_not_there_without_a_token() -> None:
    async with asked(admin_listen=TcpAddress(elsewhere(), 0)) as running:
        for path in [*PAGES, b"/live"]:
            assert (await ask(running, path)).status == 403, path
        refused = await ask(running, b"/end", JSON, *OWN, body={"id": "x"})
        assert refused.status == 403
        # What was there before the page is there as before.
        for path in (b"/metrics", b"/healthz", b"/readyz"):
            assert (await ask(running, path)).status == 200, path


@pytest.mark.parametrize("address", ["127.0.0.1", "elsewhere"])
async def test_with_a_token_whatever_tells_of_traffic_asks_for_it(address: str) -> None:
    host = elsewhere() if address == "elsewhere" else address
    async with asked(admin_token=TOKEN, admin_listen=TcpAddress(host, 0)) as running:
        for path in (b"/live", b"/metrics"):
            refused = await ask(running, path)
            assert refused.status == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            for wrong in (b"Bearer ", b"Bearer x", b"Basic " + TOKEN.encode(), TOKEN.encode()):
                assert (await ask(running, path, b"Authorization: " + wrong)).status == 401
            assert (await ask(running, path, BEARER)).status == 200
        for path in (*PAGES, b"/healthz", b"/readyz"):  # which tell of none
            assert (await ask(running, path)).status == 200


async def test_the_page_exchanges_the_token_for_a_cookie() -> None:
    async with asked(admin_token=TOKEN) as running:
        wrong = await ask(running, b"/login", JSON, *OWN, body={"token": TOKEN[:-1]})
        assert (wrong.status, "set-cookie" in wrong.headers) == (401, False)
        nonsense: list[object] = [[], {}, {"token": 5}, {"token": "é" * 20}, {"token": "\ud800"}]
        for body in nonsense:
            assert (await ask(running, b"/login", JSON, *OWN, body=body)).status == 401
        right = await ask(running, b"/login", JSON, *OWN, body={"token": TOKEN})
        assert right.status == 204
        cookie, *attributes = right.headers["set-cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict"} <= set(attributes)
        assert "Secure" not in attributes  # for it is spoken to in the clear
        assert TOKEN not in cookie
        line = b"Cookie: other=1; " + cookie.encode()
        assert (await ask(running, b"/live", line)).status == 200
        assert (await ask(running, b"/live", line[:-1])).status == 401
        until, mark = cookie.partition("=")[2].split(".")
        later = f"Cookie: swproxy-admin={int(until) + 1}.{mark}".encode()
        assert (await ask(running, b"/live", later)).status == 401
        behind_tls = (OWN[1], b"Origin: https://localhost")
        secure = await ask(running, b"/login", JSON, *behind_tls, body={"token": TOKEN})
        assert secure.headers["set-cookie"].endswith("; Secure")


def test_a_cookie_ends_and_so_does_it_with_the_token() -> None:
    now = 1000.0
    server = Server(admin_token=TOKEN)
    guard = Guard(lambda: server, clock=lambda: now)

    def request(*headers: tuple[str, str]) -> h11.Request:
        return h11.Request(method="GET", target="/live", headers=[("Host", "localhost"), *headers])

    given = guard.exchange(TOKEN, request())
    assert given is not None
    cookie = request(("Cookie", given.partition(";")[0]))
    assert guard.judge(cookie, local=True) == "welcome"
    # Another process's is none of ours.
    assert Guard(lambda: server, clock=lambda: now).judge(cookie, local=True) == "unknown"
    server = Server(admin_token=TOKEN + "-new")
    assert guard.judge(cookie, local=True) == "unknown"
    server = Server(admin_token=TOKEN)
    now += 12 * 3600 + 1
    assert guard.judge(cookie, local=True) == "unknown"


FOREIGN = {
    "nobody says whose": (JSON,),
    "another site": (JSON, b"Sec-Fetch-Site: cross-site", b"Origin: http://localhost"),
    "another port of this host": (JSON, b"Sec-Fetch-Site: same-site"),
    "another origin": (JSON, b"Origin: http://evil.test"),
    "an origin that only begins alike": (JSON, b"Origin: http://localhost.evil.test"),
    "an opaque origin": (JSON, b"Origin: null"),
    "typed into the address bar": (JSON, b"Sec-Fetch-Site: none"),
    "a plain form": (b"Content-Type: text/plain", *OWN),
    "a form": (b"Content-Type: application/x-www-form-urlencoded", *OWN),
    "no type": OWN,
}


@pytest.mark.parametrize("lines", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("path", [b"/end", b"/revoke", b"/login"])
async def test_only_our_own_page_changes_anything(path: bytes, lines: tuple[bytes, ...]) -> None:
    body = {"id": "x", "app": "test-app", "user": "ada", "token": TOKEN}
    async with asked(admin_actions=True, admin_token=TOKEN) as running:
        refused = await ask(running, path, BEARER, *lines, body=body)
        assert refused.status == 403
        assert "set-cookie" not in refused.headers


@pytest.mark.parametrize("lines", [(OWN[0],), (OWN[1],), OWN], ids=["origin", "site", "both"])
async def test_our_own_page_is_known_by_what_its_browser_says(lines: tuple[bytes, ...]) -> None:
    async with asked(admin_actions=True) as running:
        answer = await ask(running, b"/end", JSON, *lines, body={"id": "none such"})
        assert (answer.status, answer.body) == (404, b"there is no such call under way\n")


ELSEWHERE = {
    "another site": (b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Dest: empty"),
    "another port of this host": (b"Sec-Fetch-Site: same-site", b"Sec-Fetch-Dest: empty"),
    "a frame": (b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Dest: iframe"),
    "an older browser": (b"Origin: http://evil.test",),
}


@pytest.mark.parametrize("lines", ELSEWHERE.values(), ids=ELSEWHERE)
async def test_another_page_makes_no_work_here(lines: tuple[bytes, ...]) -> None:
    """It could read nothing of it, but take the places of those who look, and the loop's time."""
    async with asked() as running:
        for path in (b"/live", b"/metrics"):
            assert (await ask(running, path, *lines)).status == 403


async def test_a_link_on_another_page_leads_here() -> None:
    followed = (b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Dest: document")
    async with asked() as running:
        for path in (b"/", b"/metrics"):
            assert (await ask(running, path, *followed)).status == 200


async def test_nothing_is_changed_but_where_that_is_configured() -> None:
    async with asked() as running:
        for path in (b"/end", b"/revoke"):
            refused = await ask(running, path, JSON, *OWN, body={"id": "x"})
            assert (refused.status, refused.body) == (403, b"server.admin_actions is false\n")
            assert (await ask(running, path)).status == 405
    async with asked(admin_actions=True, admin_token=TOKEN) as running:
        for path in (b"/end", b"/revoke"):
            assert (await ask(running, path, JSON, *OWN, body={"id": "x"})).status == 401


NONSENSE: list[object] = [[], {}, 5, "x", {"id": ""}, {"id": 5}, {"app": "test-app", "user": ""}]
NONSENSE += [{"id": "\ud800"}, {"app": "test-app", "user": "\ud800"}]  # JSON may say it, UTF-8 not


@pytest.mark.parametrize("body", [*NONSENSE, {"app": "unknown", "user": "ada"}, "x" * 5000])
async def test_nonsense_is_refused(body: object) -> None:
    async with asked(admin_actions=True) as running:
        for path in (b"/end", b"/revoke"):
            assert (await ask(running, path, JSON, *OWN, body=body)).status == 400


async def test_through_a_tunnel_a_page_of_a_name_of_its_own_learns_nothing(tmp_path: Path) -> None:
    """`ssh -L 3001:admin.sock`: then DNS rebinding leads to the Unix socket as well."""
    async with asked(admin_listen=UnixAddress(f"{tmp_path}/admin")) as running:
        for path in (b"/", b"/live", b"/metrics"):
            for host in (b"localhost:3001", b"127.0.0.1:3001", b"[::1]:3001", b"admin"):
                assert (await ask(running, path, host=host)).status == 200
            for host in (b"evil.test:3001", b"localhost.evil.test", b"evil.test."):
                assert (await ask(running, path, host=host)).status == 421


async def test_lookers_are_few_and_make_room_when_they_go() -> None:
    async with asked() as running, trio.open_nursery() as nursery:
        place = running.addresses[-1]

        async def sit(task_status: trio.TaskStatus[None]) -> None:
            async with look(await trio.open_tcp_stream(*place)) as looker:
                await looker.next()
                task_status.started()
                await leave.wait()

        leave = trio.Event()
        for _ in range(16):
            await nursery.start(sit)
        full = await ask(running, b"/live")
        assert full.status == 503
        assert "retry-after" in full.headers
        assert (await ask(running, b"/healthz")).status == 200
        leave.set()
        with trio.fail_after(10):
            while (await ask(running, b"/live")).status == 503:
                await trio.sleep(0.05)
