"""What a call used, told by its record: read off the answer, whatever becomes of the call."""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import trio

from swproxy.net import pump
from swproxy.policy.weights import Weight, Weights
from tests.support.proxy import Proxy, proxy
from tests.support.upstream import Handler, upstream
from tests.support.wire import End

METERED = {"weights": Weights()}
USAGE = {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}
MODEL = "gpt-5-mini"


def event(document: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(document).encode()


def token(text: str) -> bytes:
    return event({"model": MODEL, "choices": [{"delta": {"content": text}}], "usage": None})


TOKENS = [token(str(number)) for number in range(12)]
STREAM = [*TOKENS, event({"model": MODEL, "choices": [], "usage": USAGE}), b"data: [DONE]\n\n"]
WHOLE = json.dumps({"model": MODEL, "choices": [], "usage": USAGE}).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def answering(*parts: bytes, head: bytes = b"", status: bytes = b"200 OK") -> Handler:
    """Answer one request in chunks, and close."""

    async def handler(end: End) -> None:
        await end.read_request()
        await end.send(b"HTTP/1.1 " + status + b"\r\nTransfer-Encoding: chunked\r\n")
        await end.send(head + b"\r\n")
        for part in parts:
            await end.send(chunk(part))
        await end.send(b"0\r\n\r\n")

    return handler


EVENTS = b"Content-Type: text/event-stream\r\n"
JSON = b"Content-Type: application/json\r\n"


async def used(swproxy: Proxy) -> tuple[int | None, int | None, str]:
    (record,) = await swproxy.recorder.wait_for(1)
    assert record.metered
    return record.tokens_in, record.tokens_out, record.model


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("framing", ["chunked", "content-length", "until-close"])
async def test_every_framing_and_not_a_byte_less_for_the_page(framing: str, version: bytes) -> None:
    async def handler(end: End) -> None:
        await end.read_head()
        body = b"".join(STREAM)
        fields = {
            "chunked": b"Transfer-Encoding: chunked\r\n",
            "content-length": b"Content-Length: %d\r\n" % len(body),
            "until-close": b"",
        }[framing]
        await end.send(b"HTTP/1.1 200 OK\r\n" + EVENTS + fields + b"\r\n")
        for part in STREAM:
            await end.send(chunk(part) if framing == "chunked" else part)
        if framing == "chunked":
            await end.send(b"0\r\n\r\n")

    async with upstream(handler) as server, proxy(app=METERED) as swproxy:
        client = await swproxy.connect()
        request = swproxy.request(server.url + "/", headers=b"Accept-Encoding: br, gzip\r\n")
        await client.send(request.replace(b"HTTP/1.1", b"HTTP/" + version))
        assert (await client.read_response()).body == b"".join(STREAM)
        assert await used(swproxy) == (19, 10, MODEL)
        asked = server.received.lower()
        assert b"\r\naccept-encoding: identity\r\n" in asked
        assert asked.count(b"accept-encoding") == 1


async def test_who_is_not_metered_is_asked_nothing() -> None:
    async with upstream(answering(WHOLE, head=JSON)) as server, proxy() as swproxy:
        await swproxy.ask(server.url + "/", headers=b"Accept-Encoding: br\r\n")
        (record,) = await swproxy.recorder.wait_for(1)
        assert (record.metered, record.tokens_in) == (False, None)
        assert b"\r\naccept-encoding: br\r\n" in server.received.lower()


@pytest.mark.parametrize("field", ["signed", "configured"])
async def test_what_is_signed_or_configured_decides_about_compression(field: str) -> None:
    app: dict[str, Any] = dict(METERED)
    options: dict[str, Any] = {"headers": b"Accept-Encoding: gzip\r\n"}
    if field == "configured":
        app["headers"] = ((b"Accept-Encoding", b"gzip"),)
    else:
        options["sign_headers"] = {"Accept-Encoding": "gzip"}
    body = gzip.compress(WHOLE)
    handler = answering(body, head=JSON + b"Content-Encoding: gzip\r\n")
    async with upstream(handler) as server, proxy(app=app) as swproxy:
        assert (await swproxy.ask(server.url + "/", **options)).body == body
        assert await used(swproxy) == (19, 10, MODEL)
        assert server.received.lower().count(b"accept-encoding: gzip\r\n") == 1
        assert b"identity" not in server.received


@pytest.mark.parametrize(
    ("coding", "compress", "expected"),
    [
        ("gzip", gzip.compress, (19, 10, MODEL)),
        ("deflate", zlib.compress, (19, 10, MODEL)),
        ("br", bytes, (None, None, "")),
        ("zstd", bytes, (None, None, "")),
    ],
)
async def test_an_answer_that_is_compressed_all_the_same(
    coding: str, compress: Callable[[bytes], bytes], expected: tuple[object, ...]
) -> None:
    body = compress(b"".join(STREAM))
    head = EVENTS + b"Content-Encoding: %b\r\n" % coding.encode()
    async with (
        upstream(answering(body[:100], body[100:], head=head)) as server,
        proxy(app=METERED) as swproxy,
    ):
        assert (await swproxy.ask(server.url + "/")).body == body
        assert await used(swproxy) == expected


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (answering(*TOKENS, b"data: [DONE]\n\n", head=EVENTS), (None, None, MODEL)),
        (answering(b"hello", head=b"Content-Type: audio/mpeg\r\n"), (None, None, "")),
        (answering(b"{}", head=JSON, status=b"429 Too Many Requests"), (0, 0, "")),
        (answering(WHOLE, head=JSON, status=b"400 Bad Request"), (19, 10, MODEL)),
        (answering(b"", head=JSON, status=b"302 Found"), (0, 0, "")),
    ],
    ids=["no account", "audio", "an error", "an error with an account", "elsewhere"],
)
async def test_whole_answers(handler: Handler, expected: tuple[object, ...]) -> None:
    async with upstream(handler) as server, proxy(app=METERED) as swproxy:
        await swproxy.ask(server.url + "/", "POST", body=b"x" * 100)
        assert await used(swproxy) == expected


async def test_a_head_uses_nothing() -> None:
    async def handler(end: End) -> None:
        await end.read_head()
        await end.send(b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: 99\r\n\r\n")

    async with upstream(handler) as server, proxy(app=METERED) as swproxy:
        await swproxy.ask(server.url + "/", "HEAD")
        assert await used(swproxy) == (0, 0, "")


async def test_nothing_is_used_where_nothing_was_sent() -> None:
    async with upstream() as server, proxy(app=METERED) as swproxy:
        await swproxy.ask(server.url.replace("127.0.0.1", "127.0.0.9") + "/")
        assert await used(swproxy) == (0, 0, "")


TOLD = {"model": "claude", "usage": {"input_tokens": 25, "output_tokens": 1}}
START = event({"type": "message_start", "message": TOLD})


@pytest.mark.parametrize("who", ["the client", "the upstream"])
@pytest.mark.parametrize(
    ("first", "expected"),
    [(START, (25, 13, "claude")), (b": begin\n\n", (100, 13, "gpt-5-mini"))],
    ids=["input told", "input not told"],
)
async def test_an_answer_that_is_cut_used_what_was_seen_of_it(
    who: str, first: bytes, expected: tuple[object, ...]
) -> None:
    left = trio.Event()

    async def handler(end: End) -> None:
        await end.read_request()
        await end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + EVENTS + b"\r\n")
        for part in (first, *TOKENS):
            await end.send(chunk(part))
        if who == "the client":
            await end.wait_closed()
        else:
            await left.wait()
            await end.reset()

    async with upstream(handler) as server, proxy(app=METERED) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url + "/", "POST", body=b"x" * 400))
        await client.read_until(TOKENS[-1])
        left.set()
        if who == "the client":
            await client.aclose()
        assert await used(swproxy) == expected


async def test_a_client_that_leaves_before_the_answer_used_its_question() -> None:
    asked = trio.Event()

    async def handler(end: End) -> None:
        await end.read_request()
        asked.set()
        await end.wait_closed()

    async with upstream(handler) as server, proxy(app=METERED) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url + "/", "POST", body=b"x" * 400))
        await asked.wait()
        await client.aclose()
        assert await used(swproxy) == (100, 0, "")


async def test_a_request_that_is_sent_again_is_accounted_for_once() -> None:
    served = 0

    async def handler(end: End) -> None:
        nonlocal served
        for _ in range(2):
            await end.read_request()
            served += 1
            if served == 2:
                return  # a connection that has been idle closes as it is used
            await end.send(b"HTTP/1.1 200 OK\r\n" + JSON)
            await end.send(b"Content-Length: %d\r\n\r\n%b" % (len(WHOLE), WHOLE))

    async with upstream(handler) as server, proxy(app=METERED) as swproxy:
        for _ in range(2):
            assert (await swproxy.ask(server.url + "/")).body == WHOLE
        assert served == 3
        records = await swproxy.recorder.wait_for(2)
        assert [(each.tokens_in, each.tokens_out) for each in records] == [(19, 10)] * 2


DRAINS = {**METERED, "drains": True}


@pytest.mark.parametrize("moment", ["before the head", "during the answer"])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_an_answer_is_drained_although_its_client_has_left(moment: str, tls: bool) -> None:
    asked, left = trio.Event(), trio.Event()

    async def handler(end: End) -> None:
        await end.read_request()
        asked.set()
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + EVENTS + b"\r\n"
        if moment == "during the answer":
            await end.send(head + chunk(TOKENS[0]))
            head = b""
        await left.wait()
        await end.send(head)
        for part in STREAM:
            await end.send(chunk(part))
            await trio.sleep(0.005)
        await end.send(b"0\r\n\r\n")

    async with upstream(handler, tls=tls) as server, proxy(app=DRAINS) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url + "/", "POST", body=b"{}"))
        await asked.wait()
        if moment == "during the answer":
            await client.read_until(TOKENS[0])
        await client.reset()
        await trio.sleep(0.05)
        left.set()
        assert await used(swproxy) == (19, 10, MODEL)
        assert swproxy.recorder.records[0].outcome == "client-gone"


@pytest.mark.parametrize("moment", ["before the head", "during the answer"])
async def test_no_more_than_so_many_are_drained_at_once(moment: str) -> None:
    left = trio.Event()
    asked = 0

    async def handler(end: End) -> None:
        nonlocal asked
        await end.read_request()
        asked += 1
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + EVENTS + b"\r\n"
        if moment == "during the answer":
            await end.send(head + chunk(TOKENS[0]))
            head = b""
        await left.wait()
        await end.send(head + b"".join(chunk(part) for part in STREAM) + b"0\r\n\r\n")

    async with upstream(handler) as server, proxy(app=DRAINS) as swproxy:
        clients = []
        for _ in range(70):
            client = await swproxy.connect()
            await client.send(swproxy.request(server.url + "/", "POST", body=b"{}"))
            if moment == "during the answer":
                await client.read_until(TOKENS[0])
            clients.append(client)
        while asked < 70:
            await trio.sleep(0.005)
        for client in clients:
            await client.aclose()
        await swproxy.recorder.wait_for(6)
        left.set()
        records = await swproxy.recorder.wait_for(70)
        assert sum(record.tokens_in == 19 for record in records) == 64


async def test_weights_do_not_change_what_is_told() -> None:
    app = {"weights": Weights({"gpt-*": Weight(2.0, 8.0)})}
    async with upstream(answering(WHOLE, head=JSON)) as server, proxy(app=app) as swproxy:
        await swproxy.ask(server.url + "/")
        assert await used(swproxy) == (19, 10, MODEL)


BEATS: dict[str, Any] = {"heartbeat_seconds": 0.05}
SILENCE = 0.3


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for silent flows far more often than once a second."""
    monkeypatch.setattr(pump, "SWEEP_SECONDS", 0.02)


COMMENT = b":\n\n"


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("metered", [False, True])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_silent_event_stream_has_a_heartbeat_between_events_only(
    metered: bool, version: bytes
) -> None:
    """Each step of the upstream follows on what the client has seen, or has not."""
    go = trio.Semaphore(0)
    event_, rest = TOKENS[0][:-5], TOKENS[0][-5:]

    async def handler(end: End) -> None:
        await end.read_request()
        await end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + EVENTS + b"\r\n")
        for part in (chunk(TOKENS[0]), chunk(event_), chunk(rest)[:4], chunk(rest)[4:]):
            await go.acquire()
            await end.send(part)
        await go.acquire()
        await end.send(b"".join(map(chunk, STREAM[12:])) + b"0\r\n\r\n")

    app = BEATS | METERED if metered else BEATS
    beat = chunk(COMMENT) if version == b"1.1" else COMMENT
    framed: Callable[[bytes], bytes] = chunk if version == b"1.1" else bytes
    async with upstream(handler) as server, proxy(app=app) as swproxy:
        client = await swproxy.connect()
        request = swproxy.request(server.url + "/")
        await client.send(request.replace(b"HTTP/1.1", b"HTTP/" + version))
        await client.read_head()
        assert await client.read_exactly(len(beat)) == beat
        go.release()
        await client.read_until(framed(TOKENS[0]))
        assert await client.read_exactly(len(beat)) == beat
        go.release()
        await client.read_until(framed(event_))
        # Inside of an event, then inside of a chunk: nothing may come for many sweeps.
        with trio.move_on_after(SILENCE):
            assert not await client.read_exactly(1)
        go.release()
        with trio.move_on_after(SILENCE):
            await client.read_until(beat)
            pytest.fail("a comment inside of a chunk")
        go.release()
        await client.read_until(beat)
        go.release()
        await client.read_until(b"[DONE]\n\n")
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.outcome == "complete"
        assert (record.tokens_in, record.tokens_out) == ((19, 10) if metered else (None, None))


@pytest.mark.usefixtures("often")
async def test_half_an_event_that_comes_with_the_head_is_not_torn() -> None:
    done = trio.Event()
    half = TOKENS[0][:-3]

    async def handler(end: End) -> None:
        await end.read_request()
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + EVENTS + b"\r\n"
        await end.send(head + chunk(half))
        await done.wait()

    async with upstream(handler) as server, proxy(app=BEATS) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url + "/"))
        await client.read_until(chunk(half))
        with trio.move_on_after(SILENCE):
            assert not await client.read_exactly(1)
        done.set()


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Type: text/event-stream\r\nContent-Length: 20\r\n",
        EVENTS + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
    ],
    ids=["no event stream", "of a length announced", "compressed"],
)
async def test_where_there_is_no_room_there_is_no_heartbeat(fields: bytes) -> None:
    done = trio.Event()

    async def handler(end: End) -> None:
        await end.read_request()
        await end.send(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")
        await done.wait()

    async with upstream(handler) as server, proxy(app=BEATS) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url + "/"))
        await client.read_head()
        with trio.move_on_after(SILENCE):
            assert not await client.read_exactly(1)
        done.set()


@pytest.mark.usefixtures("often")
async def test_before_the_head_there_is_no_heartbeat_and_an_error_stays_one() -> None:
    done = trio.Event()

    async def handler(end: End) -> None:
        await end.read_request()
        await done.wait()
        await end.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

    async with upstream(handler) as server, proxy(app=BEATS) as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url + "/"))
        with trio.move_on_after(SILENCE):
            assert not await client.read_exactly(1)
        done.set()
        assert (await client.read_response()).status == 503
