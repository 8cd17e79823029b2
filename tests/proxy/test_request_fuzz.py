"""Requests mutated where framing is decided: what goes upstream is what a second reader read.

The second reader is h11, given the same bytes: a request that is served must be one that h11 reads
as well, with the same body; h11 is more lenient, so it may read more than is served. What goes
upstream is held to the grammar on its own: whole requests, each framed in one way.
"""

import random
import re
from dataclasses import dataclass

import h11
import pytest
import trio

from swproxy.proxy import body as body_module
from tests.support.proxy import Proxy, proxy
from tests.support.upstream import Upstream, upstream
from tests.support.wire import End

CASES = 250
AT_ONCE = 20

_INSERTED = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\x00", b"\x0b", b"\x0c", b"\x85", b"\xa0",
    b":", b",", b";", b"+", b"-", b"0", b"1", b"5", b"a", b"x", b"_", b'"', b"\\", b"#",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length:",
    b"content_length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding:\r\n",
    b"\r\n Transfer-Encoding: chunked", b"Connection: close\r\n", b"Expect: 100-continue\r\n",
    b"0\r\n\r\n", b"5\r\nhello\r\n", b"\r\n0", b"chunked", b"Host: b\r\n", b"HTTP/1.0", b"HTTP/1.1",
]  # fmt: skip

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

_HEAD = re.compile(
    rb"(GET|POST) / HTTP/1\.1\r\n"
    rb"Host: 127\.0\.0\.1:[0-9]+\r\n"
    rb"(?P<fields>(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t\x20-\x7e\x80-\xff]*\r\n)*)"
    rb"\r\n"
)


@dataclass
class Case:
    """What was sent, what came back, and what went upstream for it."""

    number: int
    sent: bytes
    answers: bytes = b""


def templates(swproxy: Proxy, url: str) -> list[bytes]:
    head = b"%b %b HTTP/1.1\r\nHost: a\r\nX-Case: {case}\r\n%b\r\n%b"
    get, post = swproxy.target(url), swproxy.target(url, "POST")
    return [
        head % (b"GET", get, b"", b"") + SMUGGLED,
        head % (b"POST", post, b"Content-Length: 5\r\n", b"hello") + SMUGGLED,
        head % (b"POST", post, b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n")
        + SMUGGLED,
        head
        % (
            b"POST",
            post,
            b"Transfer-Encoding: chunked\r\n",
            b"3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-T: u\r\n\r\n",
        )
        + SMUGGLED,
    ]


def mutate(chance: random.Random, data: bytes) -> bytes:
    """Change a few places of everything but the signed query."""
    query = data[data.index(b"X-Sw-Algorithm") :].partition(b" ")[0]
    before, _, after = data.partition(query)
    for _ in range(chance.randint(1, 3)):
        place = chance.randint(0, len(after))
        removed = chance.choice([0, 0, 1, 2])
        after = after[:place] + chance.choice(_INSERTED) + after[place + removed :]
    return before + query + after


_TRAILERS = re.compile(rb"\r\n(0+(?:;[^\r\n]*)?)\r\n.*?\r\n\r\n", re.DOTALL)


def second_reading(data: bytes) -> bytes | None:
    """Return the first request's body as h11 reads it, or None if h11 refuses or misses some.

    h11 holds trailers to the rules for headers; here they are dropped, so they are for it too.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    bare = head + _TRAILERS.sub(rb"\r\n\1\r\n\r\n", end + rest, count=1)
    reading = _read_with_h11(data)
    return reading if reading is not None else _read_with_h11(bare)


def _read_with_h11(data: bytes) -> bytes | None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
    connection.receive_data(data)
    body = b""
    try:
        assert isinstance(connection.next_event(), h11.Request)
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                return None
            body += event.data
    except (h11.RemoteProtocolError, AssertionError):
        return None
    return body


@pytest.mark.parametrize("seed", range(2))
async def test_what_is_served_was_read_alike_by_two_readers(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_module, "GRACE_SECONDS", 0.05)
    chance = random.Random(seed)
    bodies: dict[bytes, list[bytes]] = {}
    strange: list[bytes] = []

    async def answer(end: End) -> None:
        while True:
            try:
                head, body = await end.read_request()
            except EOFError as error:
                # Cut off with its client: without an end that anybody could take for one.
                if b"0\r\n\r\n" in error.args[0]:
                    strange.append(error.args[0])
                return
            match = _HEAD.fullmatch(head)
            framings = len(re.findall(rb"(?i)\r\n(?:content-length|transfer-encoding):", head))
            if match is None or framings > 1 or b"smuggled" in head:
                strange.append(head)
            for number in re.findall(rb"(?i)\r\nx-case: <([0-9]+)>\r\n", head):
                bodies.setdefault(number, []).append(body)
            await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    limits = {"head_seconds": 0.05, "keepalive_seconds": 0.05}
    brief = {"idle_connection_seconds": 0.5}
    async with upstream(answer) as server, proxy(limits=limits, upstreams=brief) as swproxy:
        originals = templates(swproxy, server.url)
        cases = [
            Case(
                number,
                mutate(chance, chance.choice(originals)).replace(b"{case}", b"<%d>" % number),
            )
            for number in range(CASES)
        ]
        waiting = list(cases)

        async def work() -> None:
            while waiting:
                case = waiting.pop()
                client = await swproxy.connect()
                await client.send(case.sent)
                await client.wait_closed()
                case.answers = bytes(client.received)
                await client.aclose()

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(work)
        assert strange == []
        served = 0
        for case in cases:
            went_up = bodies.get(b"%d" % case.number, [])
            if b"HTTP/1.1 200 " in case.answers:
                served += 1
                reading = second_reading(case.sent)
                assert reading is not None, case
                # (None of it, where the mutation took the case's number away.)
                assert went_up in ([reading], []), case
            assert case.answers.count(b"HTTP/1.1 200 ") <= 1, case
            assert b"HTTP/1.1 500" not in case.answers, case
        # Many mutations do no harm; a proxy that refused everything would prove nothing.
        assert CASES / 10 < served < CASES
        await _served_still(swproxy, server)


async def _served_still(swproxy: Proxy, server: Upstream) -> None:
    assert (await swproxy.ask(server.url)).body == b"ok"
