"""Limits over the wire: what is counted, what is refused and how, and what is given back."""

import json
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from swproxy.config.term_tables import Plan
from swproxy.policy.allowances import Allowance, Pace, TokenBudget
from swproxy.policy.weights import Weights
from swproxy.quota.livefile import Place
from swproxy.quota.revocations import Revocation
from swproxy.quota.sqlite import SqliteLedger
from swproxy.quota.windows import FOREVER
from swproxy.sw1.terms import read_pairs
from tests.support.proxy import Proxy, proxy
from tests.support.sockets import LINES, switching
from tests.support.upstream import Upstream, take_and_answer, upstream
from tests.support.wire import APP_ID, End, Response

USER = {"user": "42"}


def problem(response: Response) -> tuple[int, str]:
    """Return status and code of a problem, all of which a page can read."""
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers["access-control-expose-headers"] == "*"
    found = json.loads(response.body)
    assert found["status"] == response.status
    return response.status, found["code"]


def detail(response: Response) -> str:
    return str(json.loads(response.body)["detail"])


async def endless(end: End) -> None:
    """Answer with a body that never ends."""
    await end.read_request()
    await end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    await end.wait_closed()


@asynccontextmanager
async def streaming(
    swproxy: Proxy, server: Upstream, terms: Mapping[str, object]
) -> AsyncIterator[End]:
    """Have a call under way."""
    client = await swproxy.connect()
    await client.send(swproxy.request(server.url, terms=terms))
    assert (await client.read_head()).startswith(b"HTTP/1.1 200 ")
    yield client


async def test_a_rate_says_when_the_next_request_is_taken(tmp_path: Path) -> None:
    app = {"user_limits": Allowance(requests=Pace(2, 60, 2))}
    async with upstream(take_and_answer) as server, proxy(app=app, store=tmp_path) as swproxy:
        for _ in range(2):
            assert (await swproxy.ask(server.url, terms=USER)).status == 200
        refused = await swproxy.ask(server.url, terms=USER)
        assert problem(refused) == (429, "rate-limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert refused.headers["ratelimit-policy"] == '"user-requests";q=2;w=60'
        assert refused.headers["ratelimit"].startswith('"user-requests";r=0;t=')
        assert detail(refused).startswith(
            "The user '42' may make 2 requests a minute. Try again in"
        )
        assert server.received.count(b"GET ") == 2
        # Another user has a rate of their own, and who is none has none.
        assert (await swproxy.ask(server.url, terms={"user": "43"})).status == 200
        assert (await swproxy.ask(server.url)).status == 200
        records = await swproxy.recorder.wait_for(5)
        assert [each.limit for each in records] == ["", "", "user-requests", "", ""]


async def test_what_is_refused_before_and_preflights_count_nothing(tmp_path: Path) -> None:
    app = {"limits": Allowance(requests=Pace(1, 60, 1))}
    async with (
        upstream(take_and_answer) as server,
        proxy(allow=f"{server.url}/*", app=app, store=tmp_path) as swproxy,
    ):
        assert problem(await swproxy.ask("https://elsewhere.example/"))[0] == 403
        assert problem(await swproxy.ask(server.url, secret="another-secret"))[0] == 400
        client = await swproxy.connect()
        await client.send(
            b"OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\n"
            b"Access-Control-Request-Method: POST\r\n\r\n"
        )
        assert (await client.read_response()).status == 204
        assert (await swproxy.ask(f"{server.url}/")).status == 200
        assert problem(await swproxy.ask(f"{server.url}/"))[1] == "rate-limited"


async def test_a_url_is_used_once_and_what_never_left_is_given_back(tmp_path: Path) -> None:
    once = {"uses": 1}
    async with upstream(take_and_answer) as server, proxy(store=tmp_path) as swproxy:
        target = swproxy.target(server.url, terms=once)
        closed = swproxy.target("http://127.0.0.1:1/", terms=once)
        for path, expected in (
            (closed, 502),
            (closed, 502),
            (target, 200),
            (target, 403),
            (target, 403),
        ):
            client = await swproxy.connect()
            await client.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
            response = await client.read_response()
            assert response.status == expected
        assert problem(response) == (403, "already-used")
        assert "retry-after" not in response.headers
        assert len(server.connections) == 1
        with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
            keys = [key for (key,) in db.execute("SELECT key FROM accounts")]
        db.close()
        assert not [key for key in keys if any(each in key for each in swproxy.signatures)]


async def test_a_place_is_free_when_its_call_is_over(tmp_path: Path) -> None:
    app = {"user_limits": Allowance(concurrent=1)}
    async with upstream(endless) as server, proxy(app=app, store=tmp_path) as swproxy:
        async with streaming(swproxy, server, USER) as client:
            refused = await swproxy.ask(server.url, terms=USER)
            assert problem(refused) == (429, "too-many-at-once")
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["ratelimit-policy"] == (
                '"user-concurrent";q=1;qu="concurrent-requests"'
            )
            await client.stream.aclose()
            await swproxy.recorder.wait_for(2)
        async with streaming(swproxy, server, USER):
            pass


USAGE = b'{"usage":{"prompt_tokens":60,"completion_tokens":40,"total_tokens":100},"choices":[]}'


async def answer_with_usage(end: End) -> None:
    await end.read_request()
    await end.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (len(USAGE), USAGE)
    )


async def test_a_budget_counts_what_the_answers_say(tmp_path: Path) -> None:
    app = {
        "limits": Allowance(tokens=TokenBudget(250, "month")),
        "user_limits": Allowance(tokens=TokenBudget(1000, "day")),
        "weights": Weights(),
    }
    async with upstream(answer_with_usage) as server, proxy(app=app, store=tmp_path) as swproxy:
        for _ in range(3):
            assert (await swproxy.ask(server.url, terms=USER)).status == 200
        refused = await swproxy.ask(server.url, terms=USER)
        assert problem(refused) == (429, "budget-spent")
        assert refused.headers["ratelimit"].startswith('"app-tokens";r=0;t=')
        assert refused.headers["ratelimit-policy"] == '"app-tokens";q=250;qu="tokens"'
        assert "tokens a month, of which 0 are left" in detail(refused)


async def test_ten_calls_at_once_against_a_budget_for_three(tmp_path: Path) -> None:
    app = {"user_limits": Allowance(tokens=TokenBudget(320, "day")), "weights": Weights()}
    release = trio.Event()

    async def slow(end: End) -> None:
        await end.read_request()
        await release.wait()
        await end.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(USAGE), USAGE)
        )

    body = b'{"max_completion_tokens": 95, "messages": []}'
    statuses: list[int] = []
    async with upstream(slow) as server, proxy(app=app, store=tmp_path) as swproxy:

        async def one() -> None:
            response = await swproxy.ask(server.url, "POST", body=body, terms=USER)
            statuses.append(response.status)
            if len(statuses) == 7:
                release.set()

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(one)
        assert sorted(statuses) == [200] * 3 + [429] * 7
        assert len(server.connections) == 3


async def test_a_url_s_own_tokens_last_for_several_calls(tmp_path: Path) -> None:
    app = {"weights": Weights()}
    async with upstream(answer_with_usage) as server, proxy(app=app, store=tmp_path) as swproxy:
        request = swproxy.request(server.url, terms={"tokens": 250})
        for status in (200, 200, 200, 429):
            client = await swproxy.connect()
            await client.send(request)
            response = await client.read_response()
            assert response.status == status
        assert problem(response) == (429, "budget-spent")
        assert "retry-after" not in response.headers


async def test_a_plan_holds_in_place_of_the_users_limits(tmp_path: Path) -> None:
    app = {
        "user_limits": Allowance(requests=Pace(100, 60, 100)),
        "plans": {
            "trial": Plan(limits=Allowance(requests=Pace(1, 3600, 1))),
            "once": Plan(terms=read_pairs("uses=1")),
        },
    }
    async with upstream(take_and_answer) as server, proxy(app=app, store=tmp_path) as swproxy:
        trial = {**USER, "plan": "trial"}
        assert (await swproxy.ask(server.url, terms=trial)).status == 200
        assert problem(await swproxy.ask(server.url, terms=trial)) == (429, "rate-limited")
        once = swproxy.request(server.url, terms={**USER, "plan": "once"})
        for status in (200, 403):
            client = await swproxy.connect()
            await client.send(once)
            assert (await client.read_response()).status == status


async def test_with_the_store_out_of_reach_only_what_is_limited_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").mkdir()
    async with upstream(take_and_answer) as server, proxy(store=tmp_path) as swproxy:
        assert problem(await swproxy.ask(server.url, terms={"uses": 1})) == (
            503,
            "limits-unavailable",
        )
        assert (await swproxy.ask(server.url)).status == 200
        records = await swproxy.recorder.wait_for(2)
        assert records[0].for_operator


async def test_a_request_that_nothing_limits_never_touches_the_store(tmp_path: Path) -> None:
    app = {"plans": {"free": Plan()}}
    async with upstream(take_and_answer) as server, proxy(app=app, store=tmp_path) as swproxy:
        assert (await swproxy.ask(server.url, terms={**USER, "plan": "free"})).status == 200
        await trio.sleep(0.6)
        assert not (tmp_path / "ledger.sqlite.lock").exists()


@pytest.mark.parametrize("how", ["user", "url", "all"])
async def test_what_is_revoked_ends_and_begins_no_more(tmp_path: Path, how: str) -> None:
    async with (
        upstream(endless) as server,
        proxy(store=tmp_path) as swproxy,
        streaming(swproxy, server, {"user": "43"}) as other,
    ):
        request = swproxy.request(server.url, terms=USER)
        signature = request.decode().partition("X-Sw-Signature=")[2][:32]
        victim = await swproxy.connect()
        await victim.send(request)
        assert (await victim.read_head()).startswith(b"HTTP/1.1 200 ")
        revocation = {
            "user": Revocation(APP_ID, now(), FOREVER, user="42"),
            "url": Revocation(APP_ID, FOREVER, FOREVER, signature=signature),
            "all": Revocation(APP_ID, now(), FOREVER),
        }[how]
        await revoke(tmp_path, revocation)
        assert await victim.wait_closed() == "reset"
        if how == "all":
            assert await other.wait_closed() == "reset"
        record = (await swproxy.recorder.wait_for(1))[0]
        assert (record.outcome, record.code) == ("aborted", "revoked")
        again = await swproxy.connect()
        await again.send(request)
        assert problem(await again.read_response()) == (403, "revoked")
        if how != "url":
            # What is signed afterwards, in another second, is good.
            later = datetime.now(UTC) + timedelta(seconds=2)
            fresh = await swproxy.connect()
            await fresh.send(swproxy.request(server.url, terms=USER, datetime_override=later))
            assert (await fresh.read_head()).startswith(b"HTTP/1.1 200 ")
        if how != "all":
            assert len(swproxy.recorder.records) == 2


async def test_what_is_revoked_stays_so_where_nothing_is_limited(tmp_path: Path) -> None:
    async with upstream(take_and_answer) as server:
        async with proxy(store=tmp_path) as swproxy:
            target = swproxy.target(server.url)
            await revoke(tmp_path, Revocation(APP_ID, now(), FOREVER))
        async with proxy(store=tmp_path) as swproxy:
            client = await swproxy.connect()
            await client.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
            assert problem(await client.read_response()) == (403, "revoked")


async def test_a_websocket_of_a_revoked_url_is_closed_with_a_reason(tmp_path: Path) -> None:
    async def until_close(end: End) -> None:
        await end.wait_closed()

    async with upstream(switching(until_close)) as server, proxy(store=tmp_path) as swproxy:
        client = await swproxy.connect()
        url = server.url.replace("http", "ws", 1)
        await client.send(swproxy.request(url, headers=LINES, terms=USER))
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        await revoke(tmp_path, Revocation(APP_ID, now(), FOREVER))
        reason = b"The URL has been revoked."
        close = await client.read_exactly(4 + len(reason))
        assert close == b"\x88%c\x03\xf0%b" % (2 + len(reason), reason)
        [record] = await swproxy.recorder.wait_for(1)
        assert (record.outcome, record.code) == ("aborted", "revoked")


async def revoke(directory: Path, revocation: Revocation) -> None:
    """Revoke over a connection of its own, as a command does."""
    ledger = SqliteLedger(Place(directory / "ledger.sqlite"))
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        await ledger.revoke(revocation)
        nursery.cancel_scope.cancel()


def now() -> int:
    return time.time_ns() // 1000
