"""Budgets of tokens are charged with what calls used, however those end, and never overspent."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from swproxy.policy.allowances import Allowance, TokenBudget
from swproxy.policy.weights import Weight, Weights
from swproxy.proxy.body import Upload
from swproxy.proxy.charge import reserve
from swproxy.quota.accounts import Account, account_key
from swproxy.quota.checks import Budget
from swproxy.quota.livefile import Place
from swproxy.quota.sqlite import SqliteLedger
from swproxy.quota.windows import Period
from tests.support.proxy import proxy
from tests.support.sockets import LINES, frame, switching
from tests.support.upstream import upstream
from tests.support.wire import APP_ID, End

USER: dict[str, object] = {"user": "42"}
BUDGET = 1000
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = json.dumps(
    {
        "model": "gpt-5-mini",
        "usage": {
            "prompt_tokens": 40,
            "completion_tokens": 60,
            "prompt_tokens_details": {"cached_tokens": 10},
        },
    }
).encode()
TOKEN = b'data: {"model":"gpt-5-mini","choices":[{"delta":{"content":"x"}}]}\n\n'
BEGUN = (
    b'data: {"type":"message_start","message":{"model":"claude","usage":'
    b'{"input_tokens":25,"output_tokens":1}}}\n\n'
)
BODY = b'{"model":"gpt-5-mini","max_completion_tokens":200,"messages":[]}' + b" " * 136
"""200 bytes: 50 tokens as one estimates, and so 250 are held."""


def metered(**more: Any) -> dict[str, Any]:
    return {
        "weights": Weights(),
        "user_limits": Allowance(tokens=TokenBudget(BUDGET, "day")),
        **more,
    }


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def spent(directory: Path) -> tuple[int, int]:
    """Return what the user's budget has as used, and as held, once nothing changes any more."""
    ledger = SqliteLedger(Place(directory / "ledger.sqlite"))
    key = account_key("user", APP_ID, "42")
    async with trio.open_nursery() as nursery:
        await nursery.start(ledger.run)
        parts = (await ledger.parts([key])).get(key, {})
        nursery.cancel_scope.cancel()
    _, _, used, held = parts["tokens/day"]
    return used, sum(held.values())


async def answer(end: End, *, status: bytes = b"200 OK", body: bytes = WHOLE) -> None:
    await end.read_request()
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    await end.send(head % (status, len(body)) + body)


async def answer_without(end: End) -> None:
    await answer(end, body=b'{"choices":[]}')


async def refuse(end: End) -> None:
    await answer(end, status=b"429 Too Many Requests", body=b'{"error":{}}')


async def break_off(end: End) -> None:
    await end.read_request()
    await end.send(EVENTS + chunk(BEGUN) + chunk(TOKEN * 30))
    await trio.sleep(0.02)
    await end.reset()


async def stream_until_left(end: End) -> None:
    await end.read_request()
    await end.send(EVENTS + chunk(BEGUN) + chunk(TOKEN * 30))
    await end.wait_closed()


async def stream_much_until_left(end: End) -> None:
    await end.read_request()
    await end.send(EVENTS + chunk(BEGUN) + chunk(TOKEN * 400))
    await end.wait_closed()


async def close_at_once(end: End) -> None:
    await end.read_request()


Leave = Callable[[End], Awaitable[object]]


async def stay(client: End) -> None:
    await client.read_response()


async def stay_to_the_end(client: End) -> None:
    await client.wait_closed()


async def leave_midway(client: End) -> None:
    await client.read_until(TOKEN * 30)
    await client.aclose()


CASES: dict[str, tuple[Callable[[End], Awaitable[None]], Leave, int]] = {
    "the API said it": (answer, stay, 100),
    "the API said nothing": (answer_without, stay, 250),
    "the API refused": (refuse, stay, 0),
    "the API broke off": (break_off, stay_to_the_end, 25 + 31),
    "the API closed without an answer": (close_at_once, stay, 50),
    "the client left": (stream_until_left, leave_midway, 25 + 31),
    "the client left with more than was held": (stream_much_until_left, leave_midway, 250),
}


@pytest.mark.parametrize("case", CASES)
async def test_settled_by_how_it_ended(case: str, tmp_path: Path) -> None:
    handler, behave, used = CASES[case]
    async with upstream(handler) as server, proxy(app=metered(), store=tmp_path) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url + "/", "POST", body=BODY, terms=USER))
        await behave(client)
        await swproxy.recorder.wait_for(1)
        assert await spent(tmp_path) == (used, 0)


async def test_a_websocket_is_charged_what_was_held_since_nobody_counts(tmp_path: Path) -> None:
    async def talk(end: End) -> None:
        await end.send(frame(b"x" * 100))
        await end.wait_closed()

    async with upstream(switching(talk)) as server, proxy(app=metered(), store=tmp_path) as swproxy:
        client = await swproxy.connect()
        url = server.url.replace("http", "ws", 1) + "/"
        terms = USER | {"tokens": 70}
        await client.send(swproxy.request(url, headers=LINES, terms=terms))
        await client.read_until(b"x" * 100)
        await client.aclose()
        (record,) = await swproxy.recorder.wait_for(1)
        assert (record.metered, record.tokens_in, record.tokens_out) == (True, None, None)
        assert await spent(tmp_path) == (70, 0)


async def test_nothing_is_charged_where_nothing_was_sent(tmp_path: Path) -> None:
    async with proxy(app=metered(), store=tmp_path) as swproxy:
        url = "http://127.0.0.1:1/"
        assert (await swproxy.ask(url, "POST", body=BODY, terms=USER)).status == 502
        assert await spent(tmp_path) == (0, 0)


async def test_weights_are_what_budgets_count_in(tmp_path: Path) -> None:
    weights = Weights({"gpt-5-mini": Weight(2.0, 0.5, 1.0)})
    app = metered(weights=weights)
    async with upstream(answer) as server, proxy(app=app, store=tmp_path) as swproxy:
        await swproxy.ask(server.url + "/", "POST", body=BODY, terms=USER)
        (record,) = await swproxy.recorder.wait_for(1)
        assert (record.tokens_in, record.tokens_out) == (40, 60)
        assert await spent(tmp_path) == (30 * 2 + 10 * 1 + 60 // 2, 0)


async def test_what_is_held_is_weighed_too(tmp_path: Path) -> None:
    app = metered(weights=Weights({"gpt-5-mini": Weight(2.0, 4.0)}))
    async with upstream(stream_until_left) as server, proxy(app=app, store=tmp_path) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url + "/", "POST", body=BODY, terms=USER))
        await client.read_until(TOKEN * 30)
        assert await spent(tmp_path) == (0, 50 * 2 + 200 * 4)
        refused = await swproxy.ask(server.url + "/", "POST", body=BODY, terms=USER)
        assert refused.status == 429


@pytest.mark.parametrize(
    ("body", "path", "held"),
    [
        (b'{"model":"cheap","max_tokens":100}', "/", 8 + 100),
        (b'{"model":"dear","max_tokens":100}', "/", 10 * (8 + 100)),
        (b'{"x":{"model":"cheap"},"model":"dear","max_tokens":100}', "/", 10 * (13 + 100)),
        (b'{"model":"dear","x":{"model":"cheap"},"max_tokens":100}', "/", 10 * (13 + 100)),
        (b'{"model":"d\\u0065ar","max_tokens":100}', "/", 10 * (9 + 100)),
        (b'{"mod\\u0065l":"dear","messages":{"model":"cheap"},"max_tokens":100}', "/", 10 * 116),
        (b'{"max_tokens":100}', "/", 10 * (4 + 100)),
        (b'{"a":"\\u003c","model":"cheap","max_tokens":100}', "/", 11 + 100),
        (b'{"maxOutputTokens":100}', "/v1beta/models/cheap:generateContent", 5 + 100),
        (b'{"maxOutputTokens":100}', "/v1beta/models/dear:generateContent", 10 * (5 + 100)),
        (b'{"model":"dear"}', "/", 10 * 4096),
        (b'{"model":"cheap","max_token\\u0073":800,"x":{"max_tokens":1}}', "/", 10 * (15 + 800)),
        (b'{"model":"cheap","x":{"max_tokens":1}}', "/", 4096),
        (b"", "/", 10 * 4096),
    ],
)
def test_what_is_held_is_the_most_that_the_call_may_be(body: bytes, path: str, held: int) -> None:
    weights = Weights({"cheap": Weight(1.0, 1.0), "dear": Weight(10.0, 10.0)})
    accounts = (Account("user", "user/a/42", (Budget(1_000_000, Period.DAY),)),)
    assert reserve(accounts, None, Upload(whole=body), None, weights, path).wanted == held


@pytest.mark.parametrize("of", ["user", "app", "url"])
async def test_ten_calls_at_once_against_a_budget_for_three(of: str, tmp_path: Path) -> None:
    """Each holds 250 tokens, so three fit into 999; each uses 100, so six more do afterwards."""
    asked, go = 0, trio.Event()

    async def handler(end: End) -> None:
        nonlocal asked
        asked += 1
        await end.read_request()
        await go.wait()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        await end.send(head % len(WHOLE) + WHOLE)

    budget = Allowance(tokens=TokenBudget(999, "day"))
    limited: dict[str, dict[str, Any]] = {
        "user": metered(user_limits=budget),
        "app": metered(user_limits=Allowance(), limits=budget),
        "url": metered(user_limits=Allowance()),
    }
    async with upstream(handler) as server, proxy(app=limited[of], store=tmp_path) as swproxy:
        terms = USER | ({"tokens": 999} if of == "url" else {})
        target = swproxy.target(server.url + "/", "POST", terms=terms)
        head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (target, len(BODY))
        statuses: list[int] = []

        async def call() -> None:
            client = await swproxy.connect()
            await client.send(head + BODY)
            statuses.append((await client.read_response()).status)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(call)
            while len(statuses) < 7:
                await trio.sleep(0.005)
            assert statuses == [429] * 7
            go.set()
        assert sorted(statuses) == [200] * 3 + [429] * 7
        assert asked == 3
        # 300 are used now. One at a time, calls are taken while 250 are left: up to 700 used.
        for number in range(7):
            await call()
            assert statuses[-1] == (200 if number < 5 else 429), number


@pytest.mark.parametrize("limited", [True, False])
async def test_usage_is_told_by_day_application_and_user(limited: bool, tmp_path: Path) -> None:
    app = metered() if limited else metered(user_limits=Allowance())
    async with upstream(answer) as server, proxy(app=app, store=tmp_path) as swproxy:
        for user in ("42", "42", "43"):
            await swproxy.ask(server.url + "/", "POST", body=BODY, terms={"user": user})
        await swproxy.recorder.wait_for(3)
        ledger = SqliteLedger(Place(tmp_path / "ledger.sqlite"))
        async with trio.open_nursery() as nursery:
            await nursery.start(ledger.run)
            with trio.fail_after(5):
                while True:
                    rows = await ledger.usage(datetime.now(UTC).date(), APP_ID)
                    found = {
                        row.user: (row.used.requests, row.used.tokens_in, row.used.tokens_out)
                        for row in rows
                    }
                    if sum(requests for requests, *_ in found.values()) == 3:
                        break
                    await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
        assert found == {"42": (2, 80, 120), "43": (1, 40, 60)}
