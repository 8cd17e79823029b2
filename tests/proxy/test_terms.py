"""Terms over the wire: what is refused before a byte goes up, and what is sent on as it came."""

import contextlib
import gzip
import json
from collections.abc import Mapping
from typing import Any

import pytest
import trio

from swproxy.config.term_tables import Plan
from swproxy.sw1.terms import Terms, read_pairs
from tests.support.proxy import Proxy, proxy
from tests.support.sockets import LINES, ask, frame, switching, unmasked
from tests.support.upstream import Upstream, take_and_answer, upstream
from tests.support.wire import End, Response

JSON = b"Content-Type: application/json\r\n"
TERMS = {
    "user": "42",
    "body.model": ["small", "tiny"],
    "body.max_tokens?": "1..800",
    "body.messages.0.role": ["system", "user"],
    "body": "only",
}
CHAT = {"model": "small", "messages": [{"role": "user", "content": "Hello"}]}


def configured(text: str) -> Terms:
    return read_pairs(text)


async def post(
    swproxy: Proxy,
    server: Upstream,
    body: bytes | dict[str, Any],
    *,
    terms: Mapping[str, object] = TERMS,
    headers: bytes = JSON,
    **options: Any,
) -> Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await swproxy.ask(server.url, "POST", headers=headers, body=data, terms=terms, **options)


def problem(response: Response) -> tuple[int, str, str]:
    """Return status, code and detail of a problem, which a page can read."""
    assert response.headers["access-control-allow-origin"] == "*"
    found = json.loads(response.body)
    assert found["status"] == response.status
    return response.status, found["code"], found["detail"]


async def test_a_body_that_meets_its_terms_goes_up_byte_for_byte() -> None:
    data = b' {"model" : "sm\\u0061ll",\r\n "messages":[{"role":"user","content":"\xc3\xa9"}]}\n'
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        assert (await post(swproxy, server, data)).status == 200
        assert server.received.endswith(b"\r\n\r\n" + data)
        assert b"sw1:" not in server.received
        assert b"#" not in server.received.partition(b"\r\n")[0]
        [record] = await swproxy.recorder.wait_for(1)
        assert (record.user, record.plan, record.tags) == ("42", "", ())


@pytest.mark.parametrize(
    ("change", "term"),
    [
        ({"model": "large"}, "body.model"),
        ({"max_tokens": 801}, "body.max_tokens"),
        ({"max_tokens": 1.0}, "body.max_tokens"),
        ({"messages": []}, "body.messages.0.role"),
        ({"tools": []}, "body"),
    ],
)
async def test_a_body_that_does_not_is_refused_and_nothing_goes_up(
    change: dict[str, Any], term: str
) -> None:
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        status, code, detail = problem(await post(swproxy, server, CHAT | change))
        assert (status, code) == (403, "terms-not-met")
        assert detail.startswith(f"The term '{term}' is not met: ")
        assert not server.connections


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"model":"small","model":"large"}', JSON, 400),
        (b'{"model":"small","Model":"large"}', JSON, 400),
        (b"\xef\xbb\xbf" + json.dumps(CHAT).encode(), JSON, 400),
        (json.dumps(CHAT).encode("utf-16"), JSON, 400),
        (b'{"model":"small","messages":' + b"[" * 5000 + b"]" * 5000 + b"}", JSON, 400),
        (b"[]", JSON, 400),
        (b"", JSON, 400),
        (json.dumps(CHAT).encode(), b"", 415),
        (json.dumps(CHAT).encode(), b"Content-Type: text/plain\r\n", 415),
        (json.dumps(CHAT).encode(), JSON + JSON, 415),
        (json.dumps(CHAT).encode(), JSON[:-2] + b"; charset=utf-16\r\n", 415),
        (json.dumps(CHAT).encode(), JSON + b"Content-Encoding: identity\r\n", 415),
        (
            gzip.compress(json.dumps(CHAT).encode(), mtime=0),
            JSON + b"Content-Encoding: gzip\r\n",
            415,
        ),
        (b"model=small", b"Content-Type: application/x-www-form-urlencoded\r\n", 415),
    ],
)
async def test_a_body_that_readers_may_differ_on_is_not_checkable(
    body: bytes, headers: bytes, status: int
) -> None:
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        found = problem(await post(swproxy, server, body, headers=headers))
        assert found[:2] == (status, "body-not-checkable")
        assert not server.connections


@pytest.mark.parametrize(
    "media_type",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json; charset=utf-8",
        b'application/json;charset="UTF-8"',
        b"application/vnd.api+json",
        b"application/json;",
    ],
)
async def test_json_has_several_names(media_type: bytes) -> None:
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        headers = b"Content-Type: %b\r\n" % media_type
        assert (await post(swproxy, server, CHAT, headers=headers)).status == 200


async def test_a_body_may_come_chunked_late_and_in_pieces() -> None:
    data = json.dumps(CHAT).encode()

    async def send(swproxy: Proxy, server: Upstream, body: bytes) -> Response:
        client = await swproxy.connect()
        head = swproxy.request(
            server.url,
            "POST",
            headers=JSON + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n",
            terms=TERMS,
        )
        await client.send(head)
        assert (await client.read_head()).startswith(b"HTTP/1.1 100 ")
        for place in range(0, len(body), 7):
            piece = body[place : place + 7]
            await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            await trio.lowlevel.checkpoint()
        await client.send(b"0\r\n\r\n")
        return await client.read_response()

    async with upstream(take_and_answer) as server, proxy() as swproxy:
        assert (await send(swproxy, server, data)).status == 200
        assert server.received.endswith(b"\r\n\r\n" + data)
        before = len(server.received)
        refused = await send(swproxy, server, data.replace(b"small", b"large"))
        assert problem(refused)[:2] == (403, "terms-not-met")
        assert len(server.received) == before


async def test_large_bodies_are_judged_too_up_to_a_limit() -> None:
    limits = {"checked_body_bytes": 300_000}
    long = [{"role": "user", "content": "x" * 200_000}]
    async with upstream(take_and_answer) as server, proxy(limits=limits) as swproxy:
        assert (await post(swproxy, server, CHAT | {"messages": long})).status == 200
        assert server.received.endswith(json.dumps(long).encode() + b"}")
        before = len(server.received)
        found = problem(await post(swproxy, server, {"model": "large", "messages": long}))
        assert found[:2] == (403, "terms-not-met")
        longer = json.dumps(CHAT | {"messages": long * 2}).encode()
        for terms, status in ((TERMS, 413), ({"user": "42"}, 200)):
            client = await swproxy.connect()
            await client.send(
                swproxy.request(
                    server.url,
                    "POST",
                    headers=JSON + b"Content-Length: %d\r\n" % len(longer),
                    terms=terms,
                )
            )
            if status == 200:
                assert len(server.received) == before
                await client.send(longer)
            response = await client.read_response()
            assert response.status == status
            if status == 413:
                assert problem(response)[1] == "body-too-large"


async def test_a_body_that_is_held_counts_in_the_budget_until_it_is_gone() -> None:
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        client = await swproxy.connect()
        data = json.dumps(CHAT).encode()
        await client.send(
            swproxy.request(
                server.url,
                "POST",
                headers=JSON + b"Content-Length: %d\r\n" % len(data),
                terms=TERMS,
            )
            + data[:-1]
        )
        await trio.sleep(0.05)
        assert not server.connections
        await client.send(data[-1:])
        assert (await client.read_response()).status == 200


async def test_a_signed_body_may_have_terms_as_well_and_both_hold() -> None:
    data = json.dumps(CHAT).encode()

    async def send(swproxy: Proxy, server: Upstream, signed: bytes, sent: bytes) -> Response:
        target = swproxy.target(server.url, "POST", body=signed, terms=TERMS)
        client = await swproxy.connect()
        await client.send(
            b"POST %b HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n%b"
            % (target, JSON, len(sent), sent)
        )
        return await client.read_response()

    large = data.replace(b"small", b"large")
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        assert (await send(swproxy, server, data, data)).status == 200
        before = len(server.received)
        assert problem(await send(swproxy, server, large, large))[:2] == (403, "terms-not-met")
        found = problem(await send(swproxy, server, large, data))
        assert found[:2] == (400, "signature-mismatch")
        assert len(server.received) == before


@pytest.mark.parametrize(
    ("terms", "body", "expected"),
    [
        ({"bytes": "2..4"}, b"12", (200, "")),
        ({"bytes": "2..4"}, b"1234", (200, "")),
        ({"bytes": "2..4"}, b"1", (400, "terms-not-met")),
        ({"bytes": "2..4"}, b"12345", (413, "terms-not-met")),
        ({"bytes": "2..4"}, b"", (400, "terms-not-met")),
        ({"bytes": "0..0"}, b"", (200, "")),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("signed", [False, True])
async def test_a_body_s_length_may_be_a_term(
    terms: dict[str, str], body: bytes, expected: tuple[int, str], chunked: bool, signed: bool
) -> None:
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        target = swproxy.target(
            server.url, "POST", terms=terms, **({"body": body} if signed else {})
        )
        client = await swproxy.connect()
        if chunked:
            framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            lines, sent = b"Transfer-Encoding: chunked", framed + b"0\r\n\r\n"
        else:
            lines, sent = b"Content-Length: %d" % len(body), body
        await client.send(b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n%b" % (target, lines, sent))
        response = await client.read_response()
        if expected[0] == 200:
            assert response.status == 200
        else:
            assert problem(response)[:2] == expected
            assert b"0\r\n\r\n" not in server.received


async def test_a_page_s_origin_may_be_a_term() -> None:
    terms = {"origin": ["https://app.example", "http://localhost:3000"]}
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        for lines, status in (
            (b"Origin: https://app.example\r\n", 200),
            (b"Origin: http://localhost:3000\r\n", 200),
            (b"", 403),
            (b"Origin: https://app.example.evil.example\r\n", 403),
            (b"Origin: null\r\n", 403),
            (b"Origin: https://app.example\r\nOrigin: https://app.example\r\n", 403),
        ):
            response = await swproxy.ask(server.url, headers=lines, terms=terms)
            assert response.status == status
            if status == 403:
                assert problem(response)[1] == "terms-not-met"


async def test_a_client_s_address_may_be_a_term() -> None:
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        for client, forwarded, status in (
            ("127.0.0.0/8", b"", 200),
            ("192.0.2.0/24", b"", 403),
            ("192.0.2.0/24,::1", b"X-Forwarded-For: 192.0.2.7\r\n", 200),
            ("127.0.0.1", b"X-Forwarded-For: 192.0.2.7\r\n", 403),
            ("192.0.2.0/24", b"X-Forwarded-For: 192.0.2.7, 198.51.100.1\r\n", 403),
        ):
            response = await swproxy.ask(server.url, headers=forwarded, terms={"client": client})
            assert response.status == status, client


async def test_a_url_may_be_for_websockets_only_or_never_for_one() -> None:
    async with upstream(switching()) as server, proxy() as swproxy:
        url = server.url.replace("http", "ws")
        for websocket, status in ((True, 101), (False, 403)):
            client = await swproxy.connect()
            await client.send(swproxy.request(url, headers=LINES, terms={"websocket": websocket}))
            head = Response.parse(await client.read_head())
            assert head.status == status
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        for websocket, status in ((False, 200), (True, 403)):
            response = await swproxy.ask(server.url, terms={"websocket": websocket})
            assert response.status == status


async def test_a_websocket_has_no_body_that_terms_could_be_about() -> None:
    async with upstream(switching()) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url, headers=LINES, terms={"body.a": 1}))
        assert problem(await client.read_response())[:2] == (415, "body-not-checkable")
        assert not server.connections


async def test_terms_of_a_body_ask_for_one_even_of_a_get() -> None:
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        response = await swproxy.ask(server.url, terms={"body.a?": 1})
        assert problem(response)[:2] == (415, "body-not-checkable")
        response = await swproxy.ask(server.url, headers=JSON, body=b'{"a":2}', terms={"body.a": 1})
        assert problem(response)[:2] == (403, "terms-not-met")
        response = await swproxy.ask(server.url, headers=JSON, body=b'{"a":1}', terms={"body.a": 1})
        assert response.status == 200


async def test_plan_and_application_hold_as_well() -> None:
    app = {
        "terms": configured("body.model=small,tiny"),
        "plans": {"trial": Plan(configured("body.max_tokens=1..10&bytes=..200"))},
        "require": ("user",),
    }
    async with upstream(take_and_answer) as server, proxy(app=app) as swproxy:

        async def outcome(terms: dict[str, Any], body: dict[str, Any]) -> tuple[int, str]:
            response = await post(swproxy, server, body, terms=terms)
            return response.status, "" if response.status == 200 else problem(response)[2]

        trial = {"user": "1", "plan": "trial"}
        assert await outcome({"user": "1"}, {"model": "tiny"}) == (200, "")
        assert await outcome(trial, {"model": "tiny", "max_tokens": 10}) == (200, "")
        for terms, body, status, detail in (
            ({}, {"model": "tiny"}, 403, "The term 'user' is not met: the application requires it"),
            ({"seconds": 9}, {"model": "tiny"}, 403, "The term 'user' is not met"),
            ({"user": "1"}, {"model": "large"}, 403, "The term 'body.model' is not met"),
            (trial, {"model": "tiny"}, 403, "The term 'body.max_tokens' is not met"),
            (trial, {"model": "large", "max_tokens": 1}, 403, "The term 'body.model' is not met"),
            (trial, {"model": "x" * 200}, 413, "The term 'bytes' is not met"),
            (trial | {"body.model": "large"}, {"model": "tiny", "max_tokens": 1}, 403, "The term"),
            ({"user": "1", "plan": "gold"}, {}, 400, "The term 'plan' is 'gold', and the"),
        ):
            found = await outcome(terms, body)
            assert found[0] == status
            assert found[1].startswith(detail)
        records = await swproxy.recorder.wait_for(10)
        assert {(record.user, record.plan) for record in records} >= {("1", "trial"), ("1", "gold")}


async def test_who_it_is_for_is_known_only_once_the_signature_holds() -> None:
    app = {"require": ("uses",), "plans": {}}
    async with upstream(take_and_answer) as server, proxy(app=app) as swproxy:
        forged = swproxy.request(server.url, terms={"user": "42", "plan": "gold"}, secret="another")
        client = await swproxy.connect()
        await client.send(forged)
        assert problem(await client.read_response())[:2] == (400, "signature-mismatch")
        [record] = await swproxy.recorder.wait_for(1)
        assert (record.app, record.user, record.plan) == ("", "", "")


async def test_terms_that_cannot_be_read_are_told() -> None:
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        response = await swproxy.ask(f"{server.url}/#sw1:user=42&usr=1")
        assert problem(response) == (
            400,
            "terms-invalid",
            "The term 'usr' is no term that there is.",
        )
        assert (await swproxy.ask(f"{server.url}/#SW1:usr=1")).status == 200
        assert (await swproxy.ask(f"{server.url}/#usr=1")).status == 200


@pytest.mark.parametrize("terms", [{"uses": 1}, {"tokens": 100}])
async def test_what_cannot_be_counted_is_not_ignored(terms: dict[str, int]) -> None:
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        found = problem(await swproxy.ask(server.url, terms=terms))
        assert found[:2] == (503, "limits-unavailable")
        assert not server.connections


async def endless(end: End) -> None:
    """Answer with a body that never ends."""
    await end.read_request()
    await end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await end.send(b"1\r\nx\r\n")
        await trio.sleep(0.02)


async def test_an_answer_is_cut_when_its_time_is_spent() -> None:
    seconds = 0.3
    async with upstream(endless) as server, proxy() as swproxy:
        client = await swproxy.connect()
        began = trio.current_time()
        await client.send(swproxy.request(server.url, terms={"seconds": seconds}))
        assert (await client.read_head()).startswith(b"HTTP/1.1 200 ")
        assert await client.wait_closed() == "reset"
        assert trio.current_time() - began >= seconds
        assert not client.received.endswith(b"0\r\n\r\n")
        await server.wait_all_closed()
        [record] = await swproxy.recorder.wait_for(1)
        assert (record.outcome, record.code) == ("aborted", "seconds-spent")


async def test_a_call_that_is_not_answered_in_its_time_is_told_so() -> None:
    async def silent(end: End) -> None:
        await end.read_request()
        await end.wait_closed()

    async with upstream(silent) as server, proxy() as swproxy:
        response = await swproxy.ask(server.url, terms={"seconds": 0.2})
        assert problem(response) == (
            504,
            "seconds-spent",
            "The terms allow a call of 0.2 seconds at most.",
        )
        [record] = await swproxy.recorder.wait_for(1)
        assert record.outcome == "aborted"


@pytest.mark.parametrize("terms", [{}, {"body.a": 1}, {"signed": True}])
async def test_an_upload_takes_no_longer_than_its_time(terms: dict[str, Any]) -> None:
    signed = {"body": b'{"a":1}'} if terms.pop("signed", False) else {}
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        client = await swproxy.connect()
        target = swproxy.target(server.url, "POST", terms={"seconds": 0.2, **terms}, **signed)
        await client.send(
            b"POST %b HTTP/1.1\r\nHost: a\r\n%bContent-Length: 7\r\n\r\n{" % (target, JSON)
        )
        assert problem(await client.read_response())[:2] == (504, "seconds-spent")


async def test_an_upload_that_its_api_does_not_read_ends_in_its_time() -> None:
    async def deaf(end: End) -> None:
        await end.read_head()
        await trio.sleep_forever()

    async with upstream(deaf) as server, proxy() as swproxy:
        client = await swproxy.connect()
        size = 20_000_000
        head = swproxy.request(
            server.url,
            "POST",
            headers=b"Content-Length: %d\r\n" % size,
            terms={"seconds": 0.5},
        )
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    await client.stream.send_all(head + bytes(size))

            nursery.start_soon(send)
            assert problem(await client.read_response())[:2] == (504, "seconds-spent")
            nursery.cancel_scope.cancel()


async def test_a_websocket_is_closed_when_its_time_is_spent() -> None:
    closes: list[tuple[int, bytes]] = []

    async def until_close(end: End) -> None:
        await end.send(frame(b"hello"))
        closes.append(unmasked(await end.read_exactly(8)))

    async with upstream(switching(until_close)) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url, headers=LINES, terms={"seconds": 0.3}))
        assert Response.parse(await client.read_head()).status == 101
        assert await client.read_exactly(7) == frame(b"hello")
        reason = b"The call has lasted as long as it may."
        assert await client.read_to_end() == frame(b"\x03\xf0" + reason, opcode=8)
        assert closes == [(8, b"\x03\xe9")]
        [record] = await swproxy.recorder.wait_for(1)
        assert (record.outcome, record.code) == ("aborted", "seconds-spent")


async def test_the_shortest_time_holds() -> None:
    app = {"terms": configured("seconds=0.2"), "plans": {"a": Plan(configured("seconds=60"))}}
    async with upstream(endless) as server, proxy(app=app) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url, terms={"plan": "a", "seconds": 60}))
        assert (await client.read_head()).startswith(b"HTTP/1.1 200 ")
        assert await client.wait_closed() == "reset"


async def test_tags_and_plan_are_recorded() -> None:
    app = {"plans": {"trial": Plan()}}
    async with upstream(take_and_answer) as server, proxy(app=app) as swproxy:
        terms = {"user": "é", "plan": "trial", "tag.team": "blue", "tag.page": 7}
        assert (await swproxy.ask(server.url, terms=terms)).status == 200
        [record] = await swproxy.recorder.wait_for(1)
        assert record.user == "é"
        assert record.plan == "trial"
        assert record.tags == (("team", "blue"), ("page", "7"))


async def test_a_websocket_s_terms_are_checked_before_it_is_opened() -> None:
    async with upstream(switching()) as server, proxy() as swproxy:
        response = await ask(await swproxy.connect(), swproxy, f"{server.url}/#sw1:client=::1")
        assert response.status == 403
        assert not server.connections
