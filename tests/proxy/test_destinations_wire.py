"""Where a request may go, seen on the wire: refused before a connection, pinned when dialled."""

import ssl
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import quote_plus

import pytest
import trio

from swproxy.policy.destination import Pattern
from swproxy.sw1.canonical import (
    ALGORITHM,
    canonical_headers,
    canonical_query,
    request_head,
    sign_digest,
    signing_key,
)
from tests.support.proxy import Proxy, proxy
from tests.support.resolver import resolving
from tests.support.upstream import answer_ok, upstream
from tests.support.wire import APP_ID, SECRET, End, Response, authority

NOTHING_OPEN = {"private_networks": ()}


async def ask(swproxy: Proxy, url: str) -> Response:
    """Ask for `url` with a signature that holds, whatever `sign_url` would say of it."""
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    credential = quote_plus(f"{APP_ID}/{date[:8]}")
    values = (ALGORITHM, "false", credential, date, "600", quote_plus(url), "")
    query = canonical_query(values)
    head = request_head(b"GET", b"/\n" + query.encode(), canonical_headers([]))
    # An unsigned body counts as an empty one.
    key = signing_key(SECRET, date[:8])
    signature = sign_digest(key, date, sha256(head).hexdigest()).hex()
    swproxy.signatures.add(signature)
    client = await swproxy.connect()
    target = f"/?{query}&X-Sw-Signature={signature}"
    await client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return await client.read_response()


def allowing(*patterns: str) -> dict[str, Any]:
    return {"allow": tuple(Pattern.parse(pattern) for pattern in patterns)}


LOOK_ALIKES = [
    "{scheme}://api.test.evil.test:{port}/v1/chat",
    "{scheme}://evil.test:{port}/v1/chat",
    "{scheme}://evilapi.test:{port}/v1/chat",
    "{scheme}://a.api.test:{port}/v1/chat",
    "{scheme}://api.test:{other}/v1/chat",
    "{scheme}://api.test:{port}/v11",
    "{scheme}://api.test:{port}/v1",
    "{scheme}://api.test:{port}/",
    "{scheme}://api.test:{port}/V1/chat",
    "{scheme}://api.test:{port}/%76%31/chat",
    "{scheme}://api.test:{port}//v1/chat",
    "{scheme}://api.test:{port}/v2?/v1/chat",
    "{scheme}://api.test:{port}/?{scheme}://api.test:{port}/v1/chat",
    "https://api.test:{port}/v1/chat",
    "{scheme}://127.0.0.1:{port}/v1/chat",
    "{scheme}://xn--api-8na.test:{port}/v1/chat",
]

NO_DESTINATIONS = [
    "{scheme}://api.test:{port}@evil.test:{port}/v1/chat",
    "{scheme}://api.test@evil.test:{port}/v1/chat",
    "{scheme}://evil.test:{port}\\@api.test/v1/chat",
    "{scheme}://evil.test:{port}\\.api.test/v1/chat",
    "{scheme}://user:password@api.test:{port}/v1/chat",
    "{scheme}://@api.test:{port}/v1/chat",
    "{scheme}://api.test.:{port}/v1/chat",
    "{scheme}://api.test:/v1/chat",
    "{scheme}://api.test:65536/v1/chat",
    "{scheme}://api.test:0{port}/v1/chat",
    "{scheme}://api.test:+{port}/v1/chat",
    "{scheme}://api.test:{port}/v1/../admin",
    "{scheme}://api.test:{port}/v1/%2e%2e/admin",
    "{scheme}://api.test:{port}/v1/.%2E/admin",
    "{scheme}://api.test:{port}/v1/./chat",
    "{scheme}://api.test:{port}/v1\\..\\admin",
    "{scheme}:api.test:{port}/v1/chat",
    "{scheme}:/api.test:{port}/v1/chat",
    "{scheme}:///api.test:{port}/v1/chat",
    "{scheme}:\\\\api.test:{port}/v1/chat",
    "//api.test:{port}/v1/chat",
    "api.test:{port}/v1/chat",
    " {scheme}://api.test:{port}/v1/chat",
    "{scheme}://api.test:{port}/v1/chat ",
    "{scheme}://ap i.test:{port}/v1/chat",
    "{scheme}://[fe80::1%25lo]:{port}/v1/chat",
    "{scheme}://[::1:{port}/v1/chat",
    "{scheme}://0x7f.1:{port}/v1/chat",
    "{scheme}://2130706433:{port}/v1/chat",
    "{scheme}://017700000001:{port}/v1/chat",
    "{scheme}://127.1:{port}/v1/chat",
    "{scheme}://127.0.0.1.:{port}/v1/chat",
    "{scheme}://\uff11\uff12\uff17.0.0.1:{port}/v1/chat",
    "{scheme}://127\u30020\u30020\u30021:{port}/v1/chat",
    "{scheme}://\u2460\u2461\u2466.0.0.1:{port}/v1/chat",
    "{scheme}://api%2etest:{port}/v1/chat",
    "file:///etc/passwd",
    "unix:/run/secret.sock",
    "gopher://api.test:{port}/v1/chat",
    "ftp://api.test:{port}/v1/chat",
    "data:text/plain,hello",
    "javascript:alert(1)",
    "",
    "/v1/chat",
]


async def test_look_alikes_of_an_allowed_url_reach_nobody() -> None:
    hosts = [
        "api.test",
        "evil.test",
        "evilapi.test",
        "a.api.test",
        "api.test.evil.test",
        "api.test.",
    ]
    names = {host: ["127.0.0.1"] for host in hosts}
    with resolving(names):
        async with (
            upstream() as server,
            upstream() as other,
            proxy(app=allowing(f"http://api.test:{server.port}/v1/*")) as swproxy,
        ):
            wrong = {}
            cases = dict.fromkeys(LOOK_ALIKES, 403) | dict.fromkeys(NO_DESTINATIONS, 400)
            for case, expected in cases.items():
                url = case.format(scheme="http", port=server.port, other=other.port)
                status = (await ask(swproxy, url)).status
                if status != expected:
                    wrong[case] = status
            assert wrong == {}
            assert server.connections == other.connections == []
            answer = await ask(swproxy, f"http://api.test:{server.port}/v1/chat?a=b#fragment")
            assert answer.body == b"ok"
            assert server.received.startswith(b"GET /v1/chat?a=b HTTP/1.1\r\n")


async def test_control_characters_in_a_destination_are_refused() -> None:
    async with upstream() as server, proxy() as swproxy:
        wrong = {}
        for inserted in ("\t", "\n", "\r", "\r\nX-A: b", "\x00", "\x0b", "\x7f", "\u2028", "\xa0"):
            for url in (f"{server.url}/{inserted}", f"{server.url[:8]}{inserted}{server.url[8:]}"):
                status = (await ask(swproxy, url)).status
                if status != 400:
                    wrong[url] = status
        assert wrong == {}
        assert server.connections == []


NOT_PUBLIC = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.1.2.3",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize(
    ("url", "allow"),
    [("https://api.example/v2/x?q=1", ["https://api.example/v1/*"]), ("http://10.0.0.1/v2/x", "*")],
    ids=["not allowed", "not public"],
)
async def test_a_refusal_after_the_signature_held_is_on_record(
    url: str, allow: Sequence[str]
) -> None:
    async with proxy(app=allowing(*allow), upstreams=NOTHING_OPEN) as swproxy:
        assert (await ask(swproxy, url)).status == 403
        (record,) = await swproxy.recorder.wait_for(1)
    assert (record.app, record.path, record.outcome) == (APP_ID, "/v2/x", "refused")
    assert record.origin == url.partition("/v2")[0]


async def test_a_refusal_before_the_signature_held_says_nothing_of_its_claims() -> None:
    async with proxy(upstreams=NOTHING_OPEN) as swproxy:
        client = await swproxy.connect()
        target = swproxy.target("https://api.example/v2/x").decode()
        await client.send(
            f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode()
        )
        assert b"signature-mismatch" in (await client.read_response()).body
        (record,) = await swproxy.recorder.wait_for(1)
    assert (record.app, record.origin, record.path) == ("", "", "")


async def test_a_name_or_literal_of_an_address_that_is_not_public_is_refused() -> None:
    names = {f"host{number}.test": [text] for number, text in enumerate(NOT_PUBLIC)}
    with resolving(names):
        async with proxy(upstreams=NOTHING_OPEN) as swproxy:
            wrong, asked = {}, 0
            for name, (text,) in names.items():
                literal = f"[{text}]" if ":" in text else text
                for host in (name, literal):
                    answer = await ask(swproxy, f"http://{host}:9/")
                    refused = answer.status == 403 and b"destination-not-public" in answer.body
                    if not refused:
                        wrong[host, text] = (answer.status, answer.body)
                    # The client learns that, not where the name leads.
                    assert text.encode() not in answer.body or host == literal or text == "::"
                    # The operator learns that too, and which key opens it.
                    asked += 1
                    told = (await swproxy.recorder.wait_for(asked))[-1].for_operator
                    assert f"{ip_address(text)} is not public" in told
                    assert "upstream.private_networks" in told
            assert wrong == {}


@pytest.mark.parametrize(
    "addresses",
    [
        ["8.8.8.8", "127.0.0.1"],
        ["127.0.0.1", "8.8.8.8"],
        ["8.8.8.8"] * 3 + ["::1"],
        [f"8.8.8.{number}" for number in range(1, 20)] + ["10.0.0.1"],
    ],
    ids=["behind a public one", "before it", "the other family", "behind many"],
)
async def test_an_answer_of_good_and_bad_addresses_is_refused_whole(
    addresses: Sequence[str],
) -> None:
    with resolving({"mixed.test": addresses}):
        async with upstream() as server, proxy(upstreams=NOTHING_OPEN) as swproxy:
            answer = await ask(swproxy, f"http://mixed.test:{server.port}/")
            assert answer.status == 403
            assert server.connections == []


async def test_the_address_that_was_checked_is_the_one_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that changes its address between check and use gains nothing: it is asked once."""
    monkeypatch.setattr("swproxy.net.names.ANSWER_SECONDS", 0.0)
    with resolving({"rebind.test": ["127.0.0.1"]}) as resolver:
        async with upstream() as server, proxy() as swproxy:
            for asked in range(1, 4):
                answer = await ask(swproxy, f"http://rebind.test:{server.port}/{asked}")
                assert answer.body == b"ok"
            # The first request asked; the others used its connection.
            assert resolver.asked == ["rebind.test"]
            assert server.received.count(b"Host: rebind.test:%d\r\n" % server.port) == 3
            resolver.names["rebind.test"] = ["10.0.0.1"]
            await server.connections[0].aclose()
            await server.wait_all_closed()
            assert (await ask(swproxy, f"http://rebind.test:{server.port}/")).status == 403


async def test_a_private_network_opens_what_it_says_and_no_more() -> None:
    names: Mapping[str, Sequence[str]] = {
        "inside.test": ["127.0.0.1"],
        "outside.test": ["127.0.0.2"],
        "six.test": ["::1"],
        "both.test": ["127.0.0.1", "127.0.0.2"],
    }
    opened = {"private_networks": (ip_network("127.0.0.1/32"),)}
    with resolving(names):
        async with upstream() as server, proxy(upstreams=opened) as swproxy:
            statuses = {
                name: (await ask(swproxy, f"http://{name}:{server.port}/")).status for name in names
            }
            assert statuses == {
                "inside.test": 200,
                "outside.test": 403,
                "six.test": 403,
                "both.test": 403,
            }


async def test_host_and_sni_are_the_name() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("api.test").configure_cert(context)
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    with resolving({"api.test": ["127.0.0.1"]}):
        async with upstream(context=context) as server, proxy() as swproxy:
            answer = await ask(swproxy, f"https://api.test:{server.port}/v1")
            assert answer.body == b"ok"
            assert asked == ["api.test"]
            assert b"\r\nHost: api.test:%d\r\n" % server.port in server.received


async def test_a_space_travels_percent_encoded() -> None:
    with resolving({"api.test": ["127.0.0.1"]}):
        async with upstream() as server, proxy() as swproxy:
            answer = await ask(swproxy, f"http://api.test:{server.port}/my file?q=a b#c d")
            assert answer.body == b"ok"
            assert server.received.startswith(b"GET /my%20file?q=a%20b HTTP/1.1\r\n")


async def test_the_next_address_is_tried_when_the_first_refuses() -> None:
    with resolving({"two.test": ["127.0.0.2", "127.0.0.1"]}):
        # Nobody listens on 127.0.0.2 of that port.
        async with upstream() as server, proxy() as swproxy:
            assert (await ask(swproxy, f"http://two.test:{server.port}/")).body == b"ok"
            assert len(server.connections) == 1


async def test_a_name_that_does_not_exist_is_a_502() -> None:
    with resolving({"empty.test": []}):
        async with proxy() as swproxy:
            for name in ("missing.test", "empty.test"):
                answer = await ask(swproxy, f"http://{name}/")
                assert answer.status == 502
                assert b"name-not-resolved" in answer.body


async def test_a_redirect_is_the_client_s_to_follow() -> None:
    """Following it here would send the key to a place that nobody allowed."""

    async def redirect(end: End) -> None:
        await end.read_head()
        lines = b"Location: http://127.0.0.1:%d/elsewhere\r\nContent-Length: 0\r\n" % other.port
        await end.send(b"HTTP/1.1 302 Found\r\n" + lines + b"\r\n")

    async with upstream(answer_ok) as other, upstream(redirect) as server, proxy() as swproxy:
        assert (await ask(swproxy, server.url)).status == 302
        assert other.connections == []


async def test_connections_of_one_origin_never_serve_another() -> None:
    """Two names of one address are two origins: what is idle for one is not used for the other."""
    with resolving({"a.test": ["127.0.0.1"], "b.test": ["127.0.0.1"]}):
        async with upstream() as server, proxy() as swproxy:
            for name in ("a.test", "b.test", "a.test"):
                assert (await ask(swproxy, f"http://{name}:{server.port}/")).body == b"ok"
            first, second = server.connections
            assert bytes(first.received).count(b"Host: a.test") == 2
            assert bytes(second.received).count(b"Host: b.test") == 1


async def test_a_slow_resolver_is_left_as_the_client_goes() -> None:
    started, ended = trio.Event(), trio.Event()
    with resolving({"slow.test": ["127.0.0.1"]}) as resolver:

        async def slow(*args: Any, **kwargs: Any) -> list[Any]:
            started.set()
            try:
                await trio.sleep_forever()
            finally:
                ended.set()
            return []

        resolver.getaddrinfo = slow  # type: ignore[method-assign]
        async with proxy() as swproxy:
            client = await swproxy.connect()
            await client.send(swproxy.request("http://slow.test/"))
            await started.wait()
            await client.aclose()
            with trio.fail_after(5):
                await ended.wait()
