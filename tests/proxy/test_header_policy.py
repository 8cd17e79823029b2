"""Which headers travel, seen on both wires: nobody's credentials but the application's go up."""

from base64 import b64encode, urlsafe_b64encode

import pytest

from swproxy.policy.page_headers import PageHeaders
from tests.support.proxy import proxy
from tests.support.upstream import take_and_answer, upstream
from tests.support.wire import API_KEY, End

KEY = b"Authorization: Bearer " + API_KEY.encode()


def sent(head: bytes) -> dict[bytes, list[bytes]]:
    """Return the header fields of a head, names in lower case."""
    fields: dict[bytes, list[bytes]] = {}
    for line in head.split(b"\r\n")[1:-2]:
        name, _, value = line.partition(b":")
        fields.setdefault(name.lower(), []).append(value.strip())
    return fields


TRAVELS = [
    b"Accept: text/event-stream",
    b"Content-Type: application/json",
    b"User-Agent: browser",
    b"If-None-Match: a",
    b"X-Stainless-Lang: js",
    b"OpenAI-Beta: assistants=v2",
]

ORDERS = [
    b"OpenAI-Organization: mine",
    b"OpenAI-Project: mine",
    b"Stripe-Account: mine",
    b"Impersonate-User: mine",
    b"Sudo: mine",
    b"X-Custom: mine",
    b"X_Custom: mine",
]
"""To some API, each says on whose account or as which user to act."""

STAYS = [
    b"Authorization: Bearer mine",
    b"AUTHORIZATION: Basic mine",
    b"Cookie: session=mine",
    b"Origin: https://page.test",
    b"Referer: https://page.test/mine",
    b"Forwarded: for=mine",
    b"X-Forwarded-For: 192.0.2.7",
    b"X-Forwarded-Host: mine",
    b"X-Forwarded-Proto: mine",
    b"X_Forwarded_For: mine",
    b"X-Real-IP: mine",
    b"Via: 1.1 mine",
    b"Sec-Fetch-Mode: cors",
    b"Sec-CH-UA: mine",
    b"DNT: 1",
    b"Proxy-Authorization: Basic mine",
    b"Proxy-Connection: keep-alive",
    b"Proxy-Mine: mine",
    b"Keep-Alive: timeout=5",
    b"TE: trailers",
    b"Trailer: Authorization",
    b"Upgrade: h2c",
    b"HTTP2-Settings: AAMAAABkAAQAAP__",
    b"X-HTTP-Method-Override: DELETE",
    b"X-Original-URL: /admin",
    b"X-Original-Method: DELETE",
    b"X-Rewrite-URL: /admin",
    b"Max-Forwards: 1",
]


@pytest.mark.parametrize("line", TRAVELS)
async def test_what_travels(line: bytes) -> None:
    async with upstream() as server, proxy() as swproxy:
        await swproxy.ask(server.url, headers=line + b"\r\n")
        name, _, value = line.partition(b": ")
        assert sent(server.received)[name.lower()] == [value]
        assert KEY in server.received


@pytest.mark.parametrize(
    ("lines", "app"),
    [(STAYS + ORDERS, {}), (STAYS, {"headers_from_page": PageHeaders(("*",))})],
    ids=["default", "all"],
)
async def test_what_stays(lines: list[bytes], app: dict[str, object]) -> None:
    async with upstream() as server, proxy(app=app) as swproxy:
        for line in lines:
            assert (await swproxy.ask(server.url, headers=line + b"\r\n")).status == 200
        heads = server.received.split(b"\r\n\r\n")[:-1]
        assert len(heads) == len(lines)
        wrong = {
            line: head
            for line, head in zip(lines, heads, strict=True)
            if set(sent(head + b"\r\n\r\n")) != {b"host", b"authorization"} or KEY not in head
        }
        assert wrong == {}


@pytest.mark.parametrize(
    "options",
    [
        b"authorization",
        b"Authorization, Host, X-Foo",
        b"close, authorization",
        b"host, content-length, transfer-encoding",
        b"keep-alive, te, upgrade, x-foo",
        b"x-foo,,authorization,",
    ],
)
async def test_connection_options_never_take_away_what_the_proxy_adds(options: bytes) -> None:
    everything = {"headers_from_page": PageHeaders(("*",))}
    async with upstream(take_and_answer) as server, proxy(app=everything) as swproxy:
        lines = b"Connection: " + options + b"\r\nX-Foo: a\r\nX-Bar: b\r\n"
        answer = await swproxy.ask(server.url, "POST", headers=lines, body=b"hello")
        assert answer.status == 200
        head, _, body = server.received.partition(b"\r\n\r\n")
        fields = sent(head + b"\r\n\r\n")
        assert fields[b"authorization"] == [b"Bearer " + API_KEY.encode()]
        assert fields[b"host"] == [server.url.removeprefix("http://").encode()]
        assert fields[b"content-length"] == [b"5"]
        assert body == b"hello"
        assert (b"x-foo" in fields) == (b"foo" not in options.lower())
        assert fields[b"x-bar"] == [b"b"]
        assert b"connection" not in fields


async def test_a_signed_header_travels_although_it_would_stay() -> None:
    async with upstream() as server, proxy() as swproxy:
        client = await swproxy.connect()
        target = swproxy.target(server.url, headers={"Cookie": "mine=1"})
        head = b"GET %b HTTP/1.1\r\nHost: a\r\nCookie: mine=1\r\nOrigin: https://a.test\r\n\r\n"
        await client.send(head % target)
        assert (await client.read_response()).status == 200
        fields = sent(server.received)
        assert fields[b"cookie"] == [b"mine=1"]
        assert b"origin" not in fields


@pytest.mark.parametrize("line", ORDERS)
async def test_an_order_travels_if_signed_or_let(line: bytes) -> None:
    name, _, value = line.decode().partition(": ")
    let = {"headers_from_page": PageHeaders((name,))}
    async with upstream() as server, proxy() as swproxy, proxy(app=let) as letting:
        await swproxy.ask(server.url, headers=line + b"\r\n", sign_headers={name: value})
        await letting.ask(server.url, headers=line + b"\r\n")
        heads = server.received.split(b"\r\n\r\n")[:-1]
        assert [sent(head + b"\r\n\r\n").get(name.lower().encode()) for head in heads] == [
            [value.encode()]
        ] * 2


@pytest.mark.parametrize(
    "twin", [b"X_User_Id", b"x_user-id", b"X-User_ID", b"X.User.Id", b"x~user~id", b"X_user_id"]
)
async def test_the_twin_of_a_signed_header_never_travels(twin: bytes) -> None:
    everything = {"headers_from_page": PageHeaders(("*",))}
    async with upstream() as server, proxy(app=everything) as swproxy:
        for lines in (b"%b: mine\r\nX-User-Id: 7\r\n", b"X-User-Id: 7\r\n%b: mine\r\n"):
            signed = {"X-User-Id": "7"}
            answer = await swproxy.ask(server.url, headers=lines % twin, sign_headers=signed)
            assert answer.status == 200
        assert b"mine" not in server.received
        for head in server.received.split(b"\r\n\r\n")[:-1]:
            fields = sent(head + b"\r\n\r\n")
            assert set(fields) == {b"host", b"authorization", b"x-user-id"}
            assert fields[b"x-user-id"] == [b"7"]


@pytest.mark.parametrize("twin", [b"X_Api_Key", b"x.api.key", b"X-API_KEY", b"x-api-key"])
async def test_the_twin_of_a_configured_header_never_travels(twin: bytes) -> None:
    app = {
        "headers": ((b"X-Api-Key", API_KEY.encode()),),
        "headers_from_page": PageHeaders(("*", twin.decode())),
    }
    async with upstream() as server, proxy(app=app) as swproxy:
        for signed in [None, {twin.decode(): "mine"}]:
            await swproxy.ask(server.url, headers=twin + b": mine\r\n", sign_headers=signed)
        heads = server.received.split(b"\r\n\r\n")[:-1]
        assert len(heads) == 2
        for head in heads:
            fields = sent(head + b"\r\n\r\n")
            assert set(fields) == {b"host", b"x-api-key"}
            assert fields[b"x-api-key"] == [API_KEY.encode()]


@pytest.mark.parametrize(("sent_value", "arrives"), [(b"1", b"0"), (b"10", b"9"), (b"007", b"6")])
async def test_an_options_request_is_counted_down(sent_value: bytes, arrives: bytes) -> None:
    async with upstream() as server, proxy() as swproxy:
        lines = b"Max-Forwards: " + sent_value + b"\r\n"
        for signed in [None, {"Max-Forwards": sent_value.decode()}]:
            answer = await swproxy.ask(server.url, "OPTIONS", headers=lines, sign_headers=signed)
            assert answer.status == 200
        for head in server.received.split(b"\r\n\r\n")[:-1]:
            assert sent(head + b"\r\n\r\n")[b"max-forwards"] == [arrives]


@pytest.mark.parametrize("zero", [b"0", b"000"])
async def test_an_options_request_ends_here_if_it_may_go_no_further(zero: bytes) -> None:
    async with upstream() as server, proxy() as swproxy:
        lines = b"Max-Forwards: " + zero + b"\r\n"
        answer = await swproxy.ask(server.url, "OPTIONS", headers=lines)
        assert answer.status == 204
        assert "OPTIONS" in answer.headers["allow"]
        assert server.connections == []


@pytest.mark.parametrize(
    "lines", [b"Max-Forwards: -1\r\n", b"Max-Forwards: x\r\n", b"Max-Forwards: 1\r\n" * 2]
)
async def test_a_count_that_is_none_is_refused(lines: bytes) -> None:
    async with upstream() as server, proxy() as swproxy:
        answer = await swproxy.ask(server.url, "OPTIONS", headers=lines)
        assert (answer.status, b"request-malformed" in answer.body) == (400, True)
        assert server.connections == []


async def test_the_client_s_own_value_of_a_configured_header_never_arrives() -> None:
    async with upstream() as server, proxy() as swproxy:
        lines = b"authorization: mine\r\nAuthorization: mine too\r\nConnection: authorization\r\n"
        await swproxy.ask(server.url, headers=lines)
        assert sent(server.received)[b"authorization"] == [b"Bearer " + API_KEY.encode()]
        assert b"mine" not in server.received


HOSTILE_ANSWER = [
    b"Set-Cookie: a=b",
    b'Alt-Svc: h3=":443"',
    b"Strict-Transport-Security: max-age=1",
    b'Clear-Site-Data: "*"',
    b"Access-Control-Allow-Origin: https://evil.test",
    b"Access-Control-Allow-Credentials: true",
    b"NEL: {}",
    b"Report-To: {}",
    b'Reporting-Endpoints: a="https://evil.test"',
    b"Content-Security-Policy-Report-Only: default-src 'none'; report-uri https://evil.test",
    b"Service-Worker-Allowed: /",
    b"WWW-Authenticate: Basic",
    b"Proxy-Authenticate: Basic",
    b"X-Accel-Redirect: /secret",
    b"X-Sendfile: /etc/passwd",
    b"Refresh: 0; url=https://evil.test",
    b"Connection: x-gone",
    b"X-Gone: evil",
    b"Keep-Alive: timeout=5",
    b"Upgrade: h2c",
    b"X-Echo: Bearer " + API_KEY.encode(),
    b"X-Echo-Key: " + API_KEY.encode(),
    b"X-Echo-" + API_KEY.encode() + b": evil",
    b"X-Echo-Upper: evil " + API_KEY.encode().upper(),
    b"X-Echo-Base64: evil " + b64encode(b"Authorization: Bearer " + API_KEY.encode()),
    b"X-Echo-Shifted: evil " + b64encode(b"uthorization: Bearer " + API_KEY.encode() + b"!"),
    b"X-Echo-Again: evil " + urlsafe_b64encode(b"thorization: Bearer " + API_KEY.encode()),
    b"X-Echo-Hex: evil " + API_KEY.encode().hex().encode(),
    b"X-Request-Id: evil",
    b"Secure-Session-Registration: (ES256);path=evil",
    b"Sec-Session-Registration: (ES256);path=evil",
    b'Attribution-Reporting-Register-Source: {"destination":"https://evil.test"}',
    b"Attribution_Reporting_Register_Trigger: {evil}",
    b"X-LiteSpeed-Location: /secret",
    b"X-LiteSpeed-Purge: evil",
    b"X-Accel-Limit-Rate: evil",
    b"X_Accel_Redirect: /secret",
    b"X-Lighttpd-Send-File: /secret",
    b"Netlify-CDN-Cache-Control: evil",
    b"Permissions-Policy-Report-Only: evil",
]


async def test_an_answer_s_headers_that_would_act_on_our_origin_end_here() -> None:
    async def answer(end: End) -> None:
        await end.read_head()
        lines = b"".join(line + b"\r\n" for line in HOSTILE_ANSWER)
        lines += b"Content-Type: text/plain\r\nX-Good: yes\r\nContent-Length: 2\r\n"
        await end.send(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\nok")

    async with upstream(answer) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url))
        answered = await client.read_response()
        assert answered.body == b"ok"
        for trace in (b"evil", b"/secret", b"passwd", API_KEY.encode(), b"set-cookie", b"max-age"):
            assert trace not in answered.raw.lower()
        assert answered.headers["content-type"] == "text/plain"
        assert answered.headers["x-good"] == "yes"
        assert answered.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answered.headers
        assert answered.headers["x-request-id"] != "evil"


@pytest.mark.parametrize(
    "line",
    [
        b"X-A: b\x00c",
        b"X-A: b\x01c",
        b"X-A: b\x0bc",
        b"X-A: b\x7fc",
        b"X-A: b\rSet-Cookie: c=d",
        b"X-A : b",
        b"X\x00A: b",
        b"X A: b",
        b": b",
        b"no colon",
    ],
)
async def test_an_answer_with_a_header_that_may_be_two_is_a_502(line: bytes) -> None:
    async def answer(end: End) -> None:
        await end.read_head()
        await end.send(b"HTTP/1.1 200 OK\r\n" + line + b"\r\nContent-Length: 2\r\n\r\nok")

    async with upstream(answer) as server, proxy() as swproxy:
        answered = await swproxy.ask(server.url)
        assert answered.status == 502
        assert b"upstream-malformed" in answered.body
        assert b"c=d" not in answered.raw
        await server.wait_all_closed()
