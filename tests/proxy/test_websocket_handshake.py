"""The WebSocket handshake over both wires: what passes, and what is refused with nothing sent."""

import base64
import os

import pytest

from swproxy.http.request import parse_head
from swproxy.http.websocket import Handshake, accept_value, check_switch, read_handshake
from swproxy.policy.cors import CorsPolicy
from swproxy.sw1.refusal import Refusal
from tests.support.proxy import proxy
from tests.support.sockets import KEY, ask, switching
from tests.support.upstream import answer_ok, upstream
from tests.support.wire import API_KEY, End

LINES = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY.decode(),
}


def lines(**changes: str | None) -> bytes:
    """Return the handshake's header lines, some replaced or (None) left out."""
    given = {name.replace("_", "-"): value for name, value in changes.items()}
    fields = {**LINES, **given}
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value).encode()


def head(headers: bytes, start: bytes = b"GET / HTTP/1.1") -> bytes:
    return start + b"\r\nHost: a\r\n" + headers + b"\r\n"


def read(headers: bytes, start: bytes = b"GET / HTTP/1.1") -> Handshake | None:
    return read_handshake(parse_head(head(headers, start), header_count=100))


def test_the_accept_value_of_the_rfc() -> None:
    assert accept_value(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_what_browsers_send_is_a_handshake() -> None:
    given = lines(
        Connection="keep-alive, Upgrade",
        Upgrade="WebSocket",
        Origin="https://app.example.com",
        Sec_WebSocket_Protocol="realtime, token.abc",
        Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits",
    )
    assert read(given) == Handshake(KEY, (b"https://app.example.com",), (b"realtime", b"token.abc"))


@pytest.mark.parametrize(
    "upgrade", [None, "h2c", "TLS/1.0", "websockets", "websocket/13", "web, socket"]
)
def test_any_other_upgrade_asks_for_nothing(upgrade: str | None) -> None:
    assert read(lines(Upgrade=upgrade)) is None


INVALID = {
    "no Connection": (lines(Connection=None), b"GET"),
    "another Connection": (lines(Connection="keep-alive"), b"GET"),
    "Connection of a longer name": (lines(Connection="upgraded"), b"GET"),
    "no version": (lines(Sec_WebSocket_Version=None), b"GET"),
    "version 12": (lines(Sec_WebSocket_Version="12"), b"GET"),
    "versions": (lines(Sec_WebSocket_Version="13, 8"), b"GET"),
    "version twice": (lines() + b"Sec-WebSocket-Version: 13\r\n", b"GET"),
    "no key": (lines(Sec_WebSocket_Key=None), b"GET"),
    "short key": (lines(Sec_WebSocket_Key=base64.b64encode(b"x" * 15).decode()), b"GET"),
    "long key": (lines(Sec_WebSocket_Key=base64.b64encode(b"x" * 17).decode()), b"GET"),
    "key not in base64": (lines(Sec_WebSocket_Key="!" * 22 + "=="), b"GET"),
    "key twice": (lines() + b"Sec-WebSocket-Key: " + KEY + b"\r\n", b"GET"),
    "body": (lines() + b"Content-Length: 1\r\n", b"GET"),
    "chunked body": (lines() + b"Transfer-Encoding: chunked\r\n", b"GET"),
    "POST": (lines() + b"Content-Length: 0\r\n", b"POST"),
    "HEAD": (lines(), b"HEAD"),
}


@pytest.mark.parametrize("scheme", ["ws", "http"])
@pytest.mark.parametrize("case", INVALID)
async def test_an_invalid_handshake_is_refused_and_nothing_is_sent(case: str, scheme: str) -> None:
    headers, method = INVALID[case]
    async with upstream() as server, proxy() as swproxy:
        client = await swproxy.connect()
        url = server.url.replace("http", scheme)
        body = b"x" if b"Content-Length: 1" in headers else b""
        request = swproxy.request(url, method.decode(), headers=headers, body=body)
        await client.send(request)
        response = await client.read_response(head_only=method == b"HEAD")
        assert response.status == 400
        assert response.headers["sec-websocket-version"] == "13"
        if method != b"HEAD":
            assert b'"upgrade-invalid"' in response.body
        (record,) = await swproxy.recorder.wait_for(1)
        assert (record.outcome, record.code) == ("refused", "upgrade-invalid")
        assert not server.connections


async def test_a_handshake_of_http_1_0_is_refused() -> None:
    async with upstream() as server, proxy() as swproxy:
        client = await swproxy.connect()
        request = swproxy.request(server.url, headers=lines()).replace(b"HTTP/1.1", b"HTTP/1.0")
        await client.send(request)
        assert b'"upgrade-invalid"' in (await client.read_response()).body
        assert not server.connections


@pytest.mark.parametrize("headers", [b"", lines(Upgrade="h2c"), lines(Upgrade=None)])
async def test_a_websocket_url_without_a_handshake_says_what_is_missing(headers: bytes) -> None:
    async with upstream() as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url.replace("http", "ws"), headers=headers))
        response = await client.read_response()
        assert response.status == 426
        assert response.headers["upgrade"] == "websocket"
        assert b'"upgrade-required"' in response.body
        assert not server.connections


async def test_any_other_upgrade_is_stripped() -> None:
    async with upstream() as server, proxy() as swproxy:
        client = await swproxy.connect()
        given = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
        await client.send(swproxy.request(server.url, headers=given))
        assert (await client.read_response()).body == b"ok"
        assert b"upgrade" not in server.received.lower()
        assert b"h2c" not in server.received


async def test_a_wrong_signature_is_refused_like_any() -> None:
    async with upstream() as server, proxy() as swproxy:
        client = await swproxy.connect()
        request = swproxy.request(server.url, headers=lines(), secret="wrong")
        await client.send(request)
        assert b'"signature-mismatch"' in (await client.read_response()).body
        assert not server.connections


@pytest.mark.parametrize("scheme", ["ws", "http"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_what_travels_in_the_handshake(tls: bool, scheme: str) -> None:
    answer = (
        b"Sec-WebSocket-Protocol: realtime\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
        b"Set-Cookie: a=b\r\nX-Model: m\r\n"
    )
    async with upstream(switching(answer=answer), tls=tls) as server, proxy() as swproxy:
        client = await swproxy.connect()
        url = server.url.replace("http", scheme) + "/v1/realtime?model=m"
        given = lines(
            Connection="keep-alive, upgrade, x-mine",
            Origin="https://page.example",
            Cookie="user=1",
            X_Mine="1",
            Sec_WebSocket_Protocol="realtime, other",
            Sec_WebSocket_Extensions="permessage-deflate",
            Sec_WebSocket_Accept="mine",
        )
        response = await ask(client, swproxy, url, given)
        sent = server.received.decode().split("\r\n")
        assert sent[0] == "GET /v1/realtime?model=m HTTP/1.1"
        lowered = {line.lower() for line in sent[1:] if line}
        assert lowered == {
            f"host: {server.host}:{server.port}",
            "connection: upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
            f"sec-websocket-key: {KEY.decode()}".lower(),
            "sec-websocket-protocol: realtime, other",
            "sec-websocket-extensions: permessage-deflate",
            f"authorization: bearer {API_KEY}",
        }
        assert f"sec-websocket-key: {KEY.decode()}" in sent
        assert response.status == 101
        told = response.headers
        assert told["upgrade"] == "websocket"
        assert told["connection"].lower() == "upgrade"
        assert told["sec-websocket-accept"] == accept_value(KEY).decode()
        assert told["sec-websocket-protocol"] == "realtime"
        assert told["sec-websocket-extensions"] == "permessage-deflate"
        assert told["x-model"] == "m"
        assert "set-cookie" not in told
        assert len(told["x-request-id"]) == 16
        assert "transfer-encoding" not in told
        assert "content-length" not in told


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("https://app.example.com", True),
        ("https://a.team.example.com", True),
        ("https://example.com", False),
        ("https://app.example.com.evil.test", False),
        ("null", False),
    ],
)
async def test_pages_of_other_origins_are_refused_once_verified(
    origin: str | None, allowed: bool
) -> None:
    cors = CorsPolicy(("https://app.example.com", "https://*.team.example.com"))
    async with (
        upstream(switching()) as server,
        proxy(app={"cors": cors}) as swproxy,
    ):
        client = await swproxy.connect()
        given = lines(Origin=origin)
        response = await ask(client, swproxy, server.url, given)
        assert (response.status == 101) == allowed
        if not allowed:
            assert response.status == 403
            assert b'"origin-not-allowed"' in response.body
            assert not server.connections
        other = await swproxy.connect()
        await other.send(swproxy.request(server.url, headers=given, secret="wrong"))
        assert b'"signature-mismatch"' in (await other.read_response()).body


REFUSALS = {
    "no Upgrade": b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept_value(KEY) + b"\r\n",
    "another Upgrade": b"Upgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    + accept_value(KEY)
    + b"\r\n",
    "no Connection": b"Upgrade: websocket\r\nSec-WebSocket-Accept: " + accept_value(KEY) + b"\r\n",
    "no Accept": b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
    "another's Accept": b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    + accept_value(base64.b64encode(os.urandom(16)))
    + b"\r\n",
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_101_that_does_not_answer_the_handshake_is_not_passed_on(case: str) -> None:
    async def answer(end: End) -> None:
        await end.read_head()
        await end.send(b"HTTP/1.1 101 Switching Protocols\r\n" + REFUSALS[case] + b"\r\n")
        await end.wait_closed()

    async with upstream(answer) as server, proxy() as swproxy:
        client = await swproxy.connect()
        response = await ask(client, swproxy, server.url)
        assert response.status == 502
        assert b'"upstream-malformed"' in response.body
        await server.wait_all_closed()


async def test_a_101_that_nobody_asked_for_is_no_answer() -> None:
    async with upstream(switching()) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url))
        assert (await client.read_response()).status == 502


@pytest.mark.parametrize("status", [200, 401, 404, 426])
async def test_an_answer_without_101_is_passed_on_as_it_is(status: int) -> None:
    async def decline(end: End) -> None:
        while True:
            try:
                await end.read_head()
            except EOFError:
                return
            await end.send(b"HTTP/1.1 %d Said\r\nContent-Length: 4\r\n\r\nbody" % status)

    async with upstream(decline) as server, proxy() as swproxy:
        client = await swproxy.connect()
        for _ in range(2):
            response = await ask(client, swproxy, server.url.replace("http", "ws"))
            assert (response.status, response.body) == (status, b"body")
        # The connections on both sides have gone on as any.
        assert len(server.connections) == 1
        records = await swproxy.recorder.wait_for(2)
        assert {(r.kind, r.outcome, r.status) for r in records} == {("http", "complete", status)}


async def test_interim_answers_before_the_101_are_passed_over() -> None:
    async def hint(end: End) -> None:
        request = await end.read_head()
        await end.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await switching(request=request)(end)

    async with upstream(hint) as server, proxy() as swproxy:
        client = await swproxy.connect()
        assert (await ask(client, swproxy, server.url)).status == 101


async def test_a_sub_protocol_of_the_application_stays_between_it_and_the_upstream() -> None:
    token = b"insecure-api-key.canary-api-key-93ab"
    app = {"headers": ((b"Sec-WebSocket-Protocol", b"realtime, " + token),)}

    async def choose(end: End) -> None:
        request = await end.read_head()
        assert b"\r\nSec-WebSocket-Protocol: realtime, " + token in request
        chosen = token if b"/token" in request else b"realtime"
        answer = b"Sec-WebSocket-Protocol: " + chosen + b"\r\n"
        await switching(answer=answer, request=request)(end)

    async with upstream(choose) as server, proxy(app=app) as swproxy:
        for offered, path, told in [
            ("realtime", "/", "realtime"),
            (None, "/", None),
            ("realtime", "/token", None),
        ]:
            client = await swproxy.connect()
            given = lines(Sec_WebSocket_Protocol=offered)
            response = await ask(client, swproxy, server.url + path, given)
            assert response.status == 101
            assert response.headers.get("sec-websocket-protocol") == told
            assert token.decode() not in response.raw.decode()


async def test_a_configured_sub_protocol_that_the_client_knows_is_no_secret() -> None:
    app = {"headers": ((b"Sec-WebSocket-Protocol", b"realtime"),)}
    handler = switching(answer=b"Sec-WebSocket-Protocol: realtime\r\n")
    async with upstream(handler) as server, proxy(app=app) as swproxy:
        client = await swproxy.connect()
        given = lines(Sec_WebSocket_Protocol="realtime")
        response = await ask(client, swproxy, server.url, given)
        assert response.headers["sec-websocket-protocol"] == "realtime"


def test_check_switch_says_what_is_wrong() -> None:
    handshake = Handshake(KEY, (), ())
    with pytest.raises(ValueError, match="Upgrade is not websocket"):
        check_switch(handshake, [])


def test_a_refusal_never_quotes_the_key() -> None:
    with pytest.raises(Refusal) as caught:
        read(lines(Sec_WebSocket_Key="c2VjcmV0"))
    assert "c2VjcmV0" not in caught.value.detail


async def test_an_http_request_behind_a_declined_handshake_is_answered() -> None:
    async with upstream(answer_ok) as server, proxy() as swproxy:
        client = await swproxy.connect()
        first = swproxy.request(server.url, headers=lines())
        await client.send(first + swproxy.request(server.url))
        assert (await client.read_response()).body == b"ok"
        assert (await client.read_response()).body == b"ok"


async def test_refusals_keep_the_connection() -> None:
    async with upstream() as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url, headers=lines(Connection=None)))
        assert (await client.read_response()).status == 400
        await client.send(swproxy.request(server.url))
        assert (await client.read_response()).body == b"ok"


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize("only", [False, True])
async def test_an_application_may_want_it_signed_for_websockets(scheme: str, only: bool) -> None:
    async with upstream(switching()) as server, proxy(app={"websocket_urls_only": only}) as swproxy:
        url = server.url.replace("http", scheme, 1)
        answer = await ask(await swproxy.connect(), swproxy, url)
        if only and scheme == "http":
            assert (answer.status, b"upgrade-not-signed" in answer.body) == (403, True)
            assert server.connections == []
        else:
            assert answer.status == 101
