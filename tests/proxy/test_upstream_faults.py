"""Broken and hostile upstreams: before the head a 502 or 504, after it a visibly broken end."""

import datetime
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
import trustme

from swproxy.net.stream import SocketStream
from tests.support.parts import require
from tests.support.proxy import proxy
from tests.support.upstream import take_and_answer, upstream
from tests.support.wire import End, authority

OK = b"HTTP/1.1 200 OK\r\n"


def answering(data: bytes, *, then: str = "close") -> Callable[[End], Awaitable[None]]:
    """Return an upstream that answers with `data`, and then closes, resets or hangs."""

    async def answer(end: End) -> None:
        await end.read_request()
        if data:
            await end.send(data)
        if then == "reset":
            await end.reset()
        elif then == "hang":
            await end.wait_closed()

    return answer


NO_HEAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "upstream-closed"),
    "half a status line": (b"HTTP/1.1 20", "upstream-closed"),
    "half a head": (OK + b"Content-Le", "upstream-closed"),
    "an interim answer only": (b"HTTP/1.1 100 Continue\r\n\r\n", "upstream-closed"),
    "garbage": (b"\x00\x01\x02 garbage\r\n\r\n", "upstream-malformed"),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x46", "upstream-malformed"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", "upstream-closed"),
    "HTTP/0.9": (b"<html>hello</html>\r\n\r\n", "upstream-malformed"),
    "a request": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "upstream-malformed"),
    "HTTP/2": (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "upstream-malformed"),
    "a status of two digits": (b"HTTP/1.1 20 OK\r\n\r\n", "upstream-malformed"),
    "a status of four digits": (b"HTTP/1.1 2000 OK\r\n\r\n", "upstream-malformed"),
    "status 000": (b"HTTP/1.1 000 OK\r\n\r\n", "upstream-malformed"),
    "a negative status": (b"HTTP/1.1 -20 OK\r\n\r\n", "upstream-malformed"),
    "101 unasked": (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "upstream-malformed",
    ),
    "CL and TE": (
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "upstream-malformed",
    ),
    "two lengths": (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", "upstream-malformed"),
    "a list of lengths": (OK + b"Content-Length: 2, 3\r\n\r\nok", "upstream-malformed"),
    "a negative length": (OK + b"Content-Length: -2\r\n\r\nok", "upstream-malformed"),
    "a length of letters": (OK + b"Content-Length: two\r\n\r\nok", "upstream-malformed"),
    "an endless length": (OK + b"Content-Length: " + b"9" * 50 + b"\r\n\r\n", "upstream-malformed"),
    "an unknown coding": (OK + b"Transfer-Encoding: gzip\r\n\r\nok", "upstream-malformed"),
    "two codings": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\nok", "upstream-malformed"),
    "chunked twice": (
        OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
        "upstream-malformed",
    ),
    "chunked in HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "upstream-malformed",
    ),
    "a bad chunk with the head": (
        OK + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        "upstream-malformed",
    ),
    "NUL in a header": (OK + b"X-A: b\x00c\r\nContent-Length: 2\r\n\r\nok", "upstream-malformed"),
    "HTTP/2.0": (b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "upstream-malformed"),
    "HTTP/5.6": (b"HTTP/5.6 200 OK\r\nContent-Length: 2\r\n\r\nok", "upstream-malformed"),
    "HTTP/0.8": (b"HTTP/0.8 200 OK\r\nContent-Length: 2\r\n\r\nok", "upstream-malformed"),
    "HTTP/2.0 of an interim answer": (
        b"HTTP/2.0 103 Early Hints\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
        "upstream-malformed",
    ),
    "a bare CR in a header": (
        OK + b"X-A: b\rc: d\r\nContent-Length: 2\r\n\r\nok",
        "upstream-malformed",
    ),
    "an endless header": (OK + b"X-A: " + b"b" * 200_000, "upstream-malformed"),
    "endless headers": (OK + b"X-A: b\r\n" * 20_000, "upstream-malformed"),
    "endless interim answers": (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 500, "upstream-malformed"),
    "a few large interim answers": (
        (b"HTTP/1.1 103 Early Hints\r\nLink: " + b"a" * 30_000 + b"\r\n\r\n") * 9,
        "upstream-malformed",
    ),
}


@pytest.mark.parametrize("name", NO_HEAD)
async def test_an_upstream_that_sends_no_good_head_is_a_502(name: str) -> None:
    data, code = NO_HEAD[name]
    async with upstream(answering(data)) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url))
        answer = await client.read_response()
        assert answer.status == 502
        assert f'"{code}"'.encode() in answer.body
        assert answer.headers["access-control-allow-origin"] == "*"
        await server.wait_all_closed()
        assert len(server.connections) == 1
        # It was no fault of the client's, whose connection goes on.
        await client.send(swproxy.request(server.url))
        assert (await client.read_response()).status == 502
        record, *_ = await swproxy.recorder.wait_for(1)
        assert (record.outcome, record.code, record.status) == ("upstream-failed", code, 502)


@pytest.mark.parametrize("data", [b"", OK + b"Content-Le"], ids=["nothing", "half a head"])
async def test_an_upstream_that_resets_before_its_head_is_a_502(data: bytes) -> None:
    async with upstream(answering(data, then="reset")) as server, proxy() as swproxy:
        answer = await swproxy.ask(server.url)
        assert answer.status == 502
        assert b'"upstream-closed"' in answer.body


@pytest.mark.parametrize("data", [b"", OK + b"Content-Le", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_an_upstream_that_hangs_before_its_head_is_a_504(data: bytes) -> None:
    late = {"first_byte_seconds": 0.05}
    async with upstream(answering(data, then="hang")) as server, proxy(upstreams=late) as swproxy:
        answer = await swproxy.ask(server.url)
        assert answer.status == 504
        assert b'"upstream-timeout"' in answer.body
        await server.wait_all_closed()


async def test_an_upstream_that_nobody_is_behind_is_a_502() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with proxy() as swproxy:
            answer = await swproxy.ask(f"http://127.0.0.1:{bound.getsockname()[1]}/")
            assert answer.status == 502
            assert b'"upstream-unreachable"' in answer.body


async def test_an_upstream_that_accepts_no_connection_is_a_504() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # Its queue takes one; from then on the kernel drops what comes.
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        async with proxy(upstreams={"connect_seconds": 0.05}) as swproxy:
            answer = await swproxy.ask(f"http://127.0.0.1:{full.getsockname()[1]}/")
            assert answer.status == 504
            assert b'"upstream-timeout"' in answer.body


def context_of(ca: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names, **options).configure_cert(context)
    return context


BAD_CERTIFICATES = {
    "of a stranger": lambda: context_of(trustme.CA(), "localhost"),
    "of another name": lambda: context_of(authority(), "elsewhere.test"),
    "of the name's parent": lambda: context_of(authority(), "host"),
    "expired": lambda: context_of(
        authority(), "localhost", not_after=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    ),
    "not yet valid": lambda: context_of(
        authority(), "localhost", not_before=datetime.datetime(2090, 1, 1, tzinfo=datetime.UTC)
    ),
}


@pytest.mark.parametrize("name", BAD_CERTIFICATES)
async def test_an_upstream_with_a_bad_certificate_gets_nothing(name: str) -> None:
    async def listen(end: End) -> None:
        await end.wait_closed()

    async with upstream(listen, context=BAD_CERTIFICATES[name]()) as server, proxy() as swproxy:
        answer = await swproxy.ask(server.url)
        assert answer.status == 502
        assert b'"upstream-tls"' in answer.body
        assert server.received == b""


@pytest.mark.parametrize("then", ["hang", "close", "reset", "speak HTTP"])
async def test_an_upstream_that_can_not_speak_tls(then: str) -> None:
    async def fail(end: End) -> None:
        await end.read_exactly(1)
        if then == "hang":
            await end.wait_closed()
        elif then == "reset":
            await end.reset()
        elif then == "speak HTTP":
            await end.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with upstream(fail) as server, proxy(upstreams={"connect_seconds": 0.2}) as swproxy:
        answer = await swproxy.ask(f"https://localhost:{server.port}/")
        assert answer.status == (504 if then == "hang" else 502)
        assert b"GET" not in server.received
        await server.wait_all_closed()


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

CUT_SHORT: dict[str, bytes] = {
    "content-length": b"Content-Length: 10\r\n\r\nhello",
    "content-length, nothing of it": b"Content-Length: 10\r\n\r\n",
    "chunked": CHUNKED + b"5\r\nhello\r\n",
    "chunked, nothing of it": CHUNKED,
    "chunked, within a chunk": CHUNKED + b"8\r\nhello",
    "chunked, before the data's end": CHUNKED + b"5\r\nhello",
    "chunked, within a size": CHUNKED + b"5\r\nhello\r\n1",
    "chunked, within the last chunk": CHUNKED + b"5\r\nhello\r\n0\r\n",
    "chunked, within the trailers": CHUNKED + b"5\r\nhello\r\n0\r\na: b\r\n",
}


async def see_the_end(
    server_url: str, swproxy: Any, version: bytes = b"1.1", method: str = "GET"
) -> tuple[bytes, str]:
    """Return what a client received of an answer, and how it ended."""
    client = await swproxy.connect()
    request = swproxy.request(server_url, method)
    await client.send(request.replace(b"HTTP/1.1", b"HTTP/" + version))
    ending = await client.wait_closed()
    return bytes(client.received), ending


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("then", ["close", "reset"])
async def test_an_answer_cut_short_is_a_reset(tls: bool, version: bytes, then: str) -> None:
    data = b""

    async def cut(end: End) -> None:
        await answering(OK + data, then=then)(end)

    async with upstream(cut, tls=tls) as server, proxy() as swproxy:
        for number, (name, rest) in enumerate(CUT_SHORT.items(), 1):
            data = rest
            received, ending = await see_the_end(server.url, swproxy, version)
            assert ending == "reset", name
            assert b"\r\n0\r\n\r\n" not in received, name
            record = (await swproxy.recorder.wait_for(number))[-1]
            assert (record.outcome, record.code) == ("upstream-failed", "upstream-closed") or (
                record.code == "upstream-malformed"
            ), name
        await server.wait_all_closed()


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_an_answer_until_close_that_ends_with_a_reset_is_a_reset(version: bytes) -> None:
    seen = trio.Event()

    async def cut(end: End) -> None:
        await end.read_request()
        await end.send(OK + b"\r\nhello")
        await seen.wait()
        await end.reset()

    async with upstream(cut) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url).replace(b"HTTP/1.1", b"HTTP/" + version))
        await client.read_until(b"hello")
        seen.set()
        assert await client.wait_closed() == "reset"


async def test_an_answer_over_tls_until_close_is_whole_only_with_close_notify() -> None:
    """Anybody on the way can close a TCP connection; TLS says whether the peer did."""
    polite = True

    async def answer(end: End) -> None:
        await end.read_request()
        await end.send(OK + b"\r\nhello")
        if not polite:
            await end.aclose()

    async with upstream(answer, tls=True) as server, proxy() as swproxy:
        received, ending = await see_the_end(server.url, swproxy)
        assert (received[-5:], ending) == (b"hello", "closed")
        polite = False
        received, ending = await see_the_end(server.url, swproxy)
        assert ending == "reset"


MALFORMED_LATER = {
    "no size": b"hello\r\n",
    "no CRLF behind the data": b"1\r\nab\r\n0\r\n\r\n",
    "a bare LF": b"1\na\n0\n\n",
    "a request for more": b"GET / HTTP/1.1\r\n",
    "an endless size": b"1" * 40 + b"\r\n",
    "an endless extension": b"1;" + b"a" * 5000,
    "an extension that is none": b'1;a="\r\na\r\n0\r\n\r\n',
    "endless trailers": b"0\r\n" + b"a: b\r\n" * 5000,
}


@pytest.mark.parametrize("name", MALFORMED_LATER)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_malformed_chunk_later_on_is_a_reset(name: str, version: bytes) -> None:
    seen = trio.Event()

    async def answer(end: End) -> None:
        await end.read_request()
        await end.send(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await seen.wait()
        await end.send(MALFORMED_LATER[name])
        await end.wait_closed()

    async with upstream(answer) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url).replace(b"HTTP/1.1", b"HTTP/" + version))
        await client.read_until(b"hello")
        seen.set()
        assert await client.wait_closed() == "reset"
        assert not client.received.endswith(b"0\r\n\r\n")
        await server.wait_all_closed()
        (record,) = await swproxy.recorder.wait_for(1)
        assert record.code == "upstream-malformed"


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 10\r\n", b"Transfer-Encoding: chunked\r\n", b""]
)
async def test_an_upstream_that_falls_silent_later_on_is_a_reset(framing: bytes) -> None:
    data = OK + framing + b"\r\n"
    data += b"5\r\nhello\r\n" if b"chunked" in framing else b"hello"
    async with (
        upstream(answering(data, then="hang")) as server,
        proxy(upstreams={"idle_seconds": 0.05}) as swproxy,
    ):
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url))
        await client.read_until(b"hello")
        assert await client.wait_closed() == "reset"
        await server.wait_all_closed()
        (record,) = await swproxy.recorder.wait_for(1)
        assert (record.outcome, record.code) == ("upstream-failed", "upstream-timeout")


@pytest.mark.parametrize("framing", ["content-length", "chunked", "until close"])
async def test_curl_sees_that_an_answer_was_cut(framing: str) -> None:
    """What the exit code of curl says is what scripts go by: 18 or 56, never 0."""
    curl = require("curl", "curl")
    lines = {
        "content-length": b"Content-Length: 10\r\n\r\nhello",
        "chunked": b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "until close": b"\r\nhello",
    }

    async with (
        upstream(answering(OK + lines[framing], then="reset")) as server,
        proxy() as swproxy,
    ):
        done = await trio.run_process(
            [curl, "--silent", "--output", "/dev/null", swproxy.sign(server.url)],
            check=False,
            capture_stdout=True,
            stderr=subprocess.DEVNULL,
        )
        assert done.returncode in (18, 56)


FOLDED = OK + b"X-A: b\r\n  c\r\nContent-Length: 2\r\n\r\nok"


async def test_a_folded_header_of_an_answer_is_unfolded() -> None:
    async with upstream(answering(FOLDED)) as server, proxy() as swproxy:
        answer = await swproxy.ask(server.url)
        assert answer.body == b"ok"
        assert answer.headers["x-a"] == "b c"
        assert b"\r\n " not in answer.raw


async def test_interim_answers_are_passed_over() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    data = interim + OK + b"Content-Length: 2\r\n\r\nok"
    async with upstream(answering(data)) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url))
        assert (await client.read_head()).startswith(b"HTTP/1.1 200 ")
        assert await client.read_exactly(2) == b"ok"


NO_BODY = {
    "HEAD with a length": ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "5"),
    "HEAD with chunked": ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
    "HEAD with neither": ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n", None),
    "204": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
    "204 with a length": ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", None),
    "204 with chunked": ("GET", b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", None),
    "304": ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n", None),
    "304 with a length": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", None),
}


@pytest.mark.parametrize("extra", [b"", b"hello", b"HTTP/1.1 200 OK\r\nX-Evil: 1\r\n\r\n"])
@pytest.mark.parametrize("name", NO_BODY)
async def test_answers_that_have_no_body_stay_without_one(name: str, extra: bytes) -> None:
    method, head, length = NO_BODY[name]

    async def answer(end: End) -> None:
        if len(server.connections) == 1:
            await end.read_request()
            await end.send(head + extra)
        await take_and_answer(end)

    async with upstream(answer) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url, method))
        first = await client.read_response(head_only=True)
        assert first.status == int(head.split()[1])
        assert first.headers.get("content-length") == length
        assert "transfer-encoding" not in first.headers
        # Whatever the upstream sent behind it is not taken for the next answer.
        await client.send(swproxy.request(server.url))
        second = await client.read_response()
        assert (second.status, second.body) == (200, b"ok")
        assert b"hello" not in client.received
        assert b"Evil" not in client.received


EXTRA = {
    "content-length": b"Content-Length: 2\r\n\r\nok",
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "no body": b"Content-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("when", ["with the answer", "later"])
@pytest.mark.parametrize("framing", EXTRA)
async def test_bytes_behind_an_answer_never_reach_the_next_request(
    framing: str, when: str, tls: bool
) -> None:
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    answered, sent_more = trio.Event(), trio.Event()

    async def answer(end: End) -> None:
        if len(server.connections) > 1:
            await take_and_answer(end)
            return
        await end.read_request()
        if when == "with the answer":
            await end.send(OK + EXTRA[framing] + evil)
        else:
            await end.send(OK + EXTRA[framing])
            await answered.wait()
            await end.send(evil)
        sent_more.set()
        await end.wait_closed()

    async with upstream(answer, tls=tls) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url))
        assert (await client.read_response()).status == 200
        answered.set()
        await sent_more.wait()
        await client.send(swproxy.request(server.url))
        assert (await client.read_response()).body == b"ok"
        assert len(server.connections) == 2
        assert b"evil" not in client.received


class Reused:
    """An upstream that answers one request well, and meets the next one on it with `fate`."""

    def __init__(self, fate: Callable[[End], Awaitable[None]], *, always: bool = False) -> None:
        self.fate = fate
        self.always = always
        self.connections = 0

    async def __call__(self, end: End) -> None:
        self.connections += 1
        if self.connections > 1:
            await (self.fate(end) if self.always else take_and_answer(end))
            return
        await end.read_request()
        await end.send(OK + b"Content-Length: 2\r\n\r\nok")
        await self.fate(end)


async def close_unanswered(end: End) -> None:
    await end.read_head()


async def reset_unanswered(end: End) -> None:
    await end.read_head()
    await end.reset()


async def read_and_reset(end: End) -> None:
    await end.read_request()
    await end.reset()


async def begin_to_answer(end: End) -> None:
    await end.read_head()
    await end.send(b"HTTP/1.1 2")


BODIES = {
    "none": (b"", {}),
    "small": (b"hello", {}),
    "signed": (b"hello", {"body": b"hello"}),
    "signed and large": (b"x" * 300_000, {"body": b"x" * 300_000}),
}


@pytest.mark.parametrize("fate", [close_unanswered, reset_unanswered, read_and_reset])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("name", BODIES)
async def test_a_request_that_met_a_closing_connection_is_sent_again_if_that_is_harmless(
    fate: Callable[[End], Awaitable[None]], tls: bool, name: str
) -> None:
    body, _ = BODIES[name]
    for method, harmless in [("PUT", True), ("DELETE", True), ("POST", False), ("PATCH", False)]:
        async with upstream(Reused(fate), tls=tls) as server, proxy() as swproxy:
            client = await swproxy.connect()
            await client.send(swproxy.request(server.url))
            assert (await client.read_response()).body == b"ok"
            signed = {"body": body} if name.startswith("signed") else {}
            target = swproxy.target(server.url, method, **signed)
            line = b"Content-Length: %d" % len(body)
            head = b"%b %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (method.encode(), target, line)
            await client.send(head + body)
            answer = await client.read_response()
            assert (answer.status, b"upstream-closed" in answer.body) == (
                (200, False) if harmless else (502, True)
            )
            assert len(server.connections) == 1 + harmless
            if harmless:
                assert bytes(server.connections[1].received).endswith(b"\r\n\r\n" + body)


async def test_a_post_that_has_not_left_is_sent_on_another_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection breaks between the look at it and the first byte."""
    gone = trio.Event()

    async def break_off(end: End) -> None:
        await end.reset()
        gone.set()

    async with upstream(Reused(break_off)) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url))
        assert (await client.read_response()).body == b"ok"
        await gone.wait()
        monkeypatch.setattr(SocketStream, "is_clean", lambda _: True)
        await client.send(swproxy.request(server.url, "POST", body=b"hello"))
        assert (await client.read_response()).body == b"ok"
        assert len(server.connections) == 2
        assert server.received.count(b"POST ") == 1


async def test_a_connection_that_answered_a_head_is_not_used_again() -> None:
    """Some answer it with a body, late."""

    async def answer(end: End) -> None:
        head = await end.read_head()
        late = head.startswith(b"HEAD")
        await end.send(OK + b"Content-Length: 2\r\n\r\n" + (b"" if late else b"ok"))
        await answer(end)

    async with upstream(answer) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url, "HEAD"))
        await client.read_response(head_only=True)
        await client.send(swproxy.request(server.url))
        assert (await client.read_response()).body == b"ok"
        assert len(server.connections) == 2


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    ("lines", "body"),
    [(b"", b"hello"), (b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n")],
    ids=["content-length", "chunked"],
)
async def test_a_connection_is_not_used_again_after_a_body_that_comes_as_a_surprise(
    method: str, lines: bytes, body: bytes
) -> None:
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        client = await swproxy.connect()
        for _ in range(2):
            await client.send(swproxy.request(server.url, method, headers=lines, body=body))
            assert (await client.read_response()).body == b"ok"
        assert len(server.connections) == 2


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
async def test_a_connection_that_is_not_in_doubt_is_used_again(method: str) -> None:
    body = b"hello" if method in ("POST", "PUT") else b""
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        client = await swproxy.connect()
        for _ in range(3):
            await client.send(swproxy.request(server.url, method, body=body))
            assert (await client.read_response()).body == b"ok"
        assert len(server.connections) == 1


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("size", [2, 6_000_000])
async def test_an_upstream_that_answers_before_it_has_the_body_gets_no_other_request(
    tls: bool, size: int
) -> None:
    """It takes the body for the next request, and would put the next client's key behind it."""

    async def ignore_body(end: End) -> None:
        while True:
            await end.read_head()
            await end.send(OK + b"Content-Length: 2\r\n\r\nok")

    async with upstream(ignore_body, tls=tls) as server, proxy() as swproxy:
        client = await swproxy.connect()
        line = b"Content-Length: %d\r\n" % size
        await client.send(swproxy.request(server.url, "POST", headers=line) + b"G" * (size - 1))
        assert (await client.read_response()).body == b"ok"
        with suppress(trio.BrokenResourceError):
            await client.send(b"E")
        assert (await swproxy.ask(server.url)).body == b"ok"
        assert len(server.connections) == 2


async def test_a_request_is_sent_again_once_only() -> None:
    async with upstream(Reused(close_unanswered, always=True)) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url))
        assert (await client.read_response()).body == b"ok"
        await client.send(swproxy.request(server.url))
        assert (await client.read_response()).status == 502
        assert len(server.connections) == 2


async def test_a_request_that_was_being_answered_is_not_sent_again() -> None:
    async with upstream(Reused(begin_to_answer)) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url))
        assert (await client.read_response()).body == b"ok"
        await client.send(swproxy.request(server.url))
        assert (await client.read_response()).status == 502
        assert len(server.connections) == 1


async def test_a_request_on_a_new_connection_is_not_sent_again() -> None:
    async with upstream(close_unanswered) as server, proxy() as swproxy:
        assert (await swproxy.ask(server.url)).status == 502
        assert len(server.connections) == 1


async def test_an_upload_that_streams_is_not_sent_again() -> None:
    async with upstream(Reused(close_unanswered)) as server, proxy() as swproxy:
        client = await swproxy.connect()
        await client.send(swproxy.request(server.url))
        assert (await client.read_response()).body == b"ok"
        await client.send(swproxy.request(server.url, "POST", headers=b"Content-Length: 9\r\n"))
        assert (await client.read_response()).status == 502
        assert len(server.connections) == 1
