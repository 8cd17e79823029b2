"""Requests that two servers could cut in two ways: refused before a byte goes upstream.

Every case of the table is sent whole, byte by byte, and with an honest signed request behind it,
which must not be served: whoever answered it would have let it be smuggled.
"""

import pytest
import trio

from tests.support.hostile_requests import FRAMING, METHODS, SYNTAX, TARGET
from tests.support.proxy import Proxy, proxy
from tests.support.upstream import Upstream, take_and_answer, upstream
from tests.support.wire import End

TABLES = {
    "framing": (FRAMING, 400, "POST"),
    "syntax": (SYNTAX, 400, "GET"),
    "methods": (METHODS, 405, "TRACE"),
}


async def send(client: End, data: bytes, how: str, behind: bytes) -> None:
    if how == "byte by byte":
        # All but the long signed query, for the time it takes.
        place = data.find(b"X-Sw-Algorithm")
        query = data[place:].partition(b" ")[0] if place >= 0 else b""
        before, _, after = data.partition(query) if query else (data, b"", b"")
        single = [bytes([value]) for value in before], [bytes([value]) for value in after]
        for piece in (*single[0], query, *single[1]):
            await client.send(piece)
    else:
        await client.send(data + (behind if how == "with a request behind" else b""))


async def fate(swproxy: Proxy, data: bytes, how: str, behind: bytes = b"") -> str:
    """Return status, code and ending of the answer to `data`, and whether more came behind it."""
    client = await swproxy.connect()
    await send(client, data, how, behind)
    answer = await client.read_response()
    code = answer.body.decode().partition('"code":')[2].strip(' "').partition('"')[0]
    length = len(client.received)
    ending = await client.wait_closed()
    more = ", more" if len(client.received) > length else ""
    await client.aclose()
    return f"{answer.status} {code} {ending}{more}"


@pytest.mark.parametrize("how", ["whole", "byte by byte", "with a request behind"])
@pytest.mark.parametrize("table", TABLES)
async def test_hostile_heads_are_refused_and_nothing_goes_upstream(table: str, how: str) -> None:
    cases, status, method = TABLES[table]
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        target = swproxy.target(server.url + "/", method)
        behind = swproxy.request(server.url + "/smuggled")
        code = "method-not-allowed" if status == 405 else "request-malformed"
        fates = {}
        for name, request in cases.items():
            data = request.replace(TARGET, target)
            # Sent slower than it is refused, the rest of a request meets a closed connection.
            fates[name] = await fate(swproxy, data, how, behind)
        wrong = {name: found for name, found in fates.items() if found != f"{status} {code} closed"}
        assert wrong == {}
        assert server.connections == []
        assert (await swproxy.ask(server.url + "/")).body == b"ok"


BODIES = {
    "a bare LF behind the size": b"5\nhello\r\n0\r\n\r\n",
    "nothing but LFs": b"5\nhello\n0\n\n",
    "a bare CR behind the size": b"5\rhello\r\n0\r\n\r\n",
    "an empty size": b"\r\nhello\r\n0\r\n\r\n",
    "a signed size": b"+5\r\nhello\r\n0\r\n\r\n",
    "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "a size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a size with an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "a blank before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "a blank behind the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "a tab behind the size": b"5\t\r\nhello\r\n0\r\n\r\n",
    "two sizes": b"5, 5\r\nhello\r\n0\r\n\r\n",
    "a size of 17 digits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "a size that wraps at 2**32": b"100000005\r\nhello\r\n0\r\n\r\n",
    "a size that wraps at 2**64": b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "a size beyond the limit": b"7fffffff\r\nhello\r\n0\r\n\r\n",
    "a bare LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a bare CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "an extension that ends in LF": b"5;a\nhello\r\n0\r\n\r\n",
    "NUL in an extension": b"5;\x00\r\nhello\r\n0\r\n\r\n",
    "an extension without a name": b"5;=b\r\nhello\r\n0\r\n\r\n",
    "an open quote": b'5;a="\r\nhello\r\n0\r\n\r\n',
    "an endless extension": b"5;a=" + b"b" * 2000 + b"\r\nhello\r\n0\r\n\r\n",
    "data longer than its size": b"4\r\nhello\r\n0\r\n\r\n",
    "data shorter than its size": b"6\r\nhello\r\n0\r\n\r\n",
    "a bare LF behind the data": b"5\r\nhello\n0\r\n\r\n",
    "a bare CR behind the data": b"5\r\nhello\r0\r\n\r\n",
    "nothing behind the data": b"5\r\nhello0\r\n\r\n",
    "a bare LF behind the last chunk": b"5\r\nhello\r\n0\n\r\n",
    "a bare LF at the end": b"5\r\nhello\r\n0\r\n\n",
    "a request in the trailers": b"5\r\nhello\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
    "a trailer without a colon": b"5\r\nhello\r\n0\r\nX\r\n\r\n",
    "a folded trailer": b"5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n",
    "a blank before a trailer's colon": b"5\r\nhello\r\n0\r\nX : a\r\n\r\n",
    "a bare LF in a trailer": b"5\r\nhello\r\n0\r\nX: a\nb: c\r\n\r\n",
    "NUL in a trailer": b"5\r\nhello\r\n0\r\nX: \x00\r\n\r\n",
    "endless trailers": b"5\r\nhello\r\n0\r\n" + b"a: b\r\n" * 2000 + b"\r\n",
}

TOO_LARGE = ("a size that wraps at 2**32", "a size that wraps at 2**64", "a size beyond the limit")


@pytest.mark.parametrize("signed", [False, True], ids=["body free", "body signed"])
@pytest.mark.parametrize("how", ["whole", "with a request behind", "byte by byte"])
async def test_hostile_chunks_are_refused_and_no_whole_request_goes_upstream(
    how: str, signed: bool
) -> None:
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        options = {"body": b"hello"} if signed else {}
        head = b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        head %= swproxy.target(server.url + "/", "POST", **options)
        behind = swproxy.request(server.url + "/smuggled")
        wrong = {}
        for name, body in BODIES.items():
            if name == "endless trailers" and how == "byte by byte":
                continue  # thousands of packets, and test_framing has it
            expected = "413 body-too-large" if name in TOO_LARGE else "400 request-malformed"
            found = await fate(swproxy, head + body, how, behind)
            if found != f"{expected} closed":
                wrong[name] = found
        assert wrong == {}
        await server.wait_all_closed()
        if signed or how != "byte by byte":
            assert server.connections == []
        # An upload that streams goes up as it comes; what is cut off never gets its last chunk.
        assert b"0\r\n\r\n" not in server.received
        assert b"smuggled" not in server.received


GOOD_BODIES = {
    "upper-case size": b"A\r\n0123456789\r\n0\r\n\r\n",
    "leading zeros": b"000A\r\n0123456789\r\n00\r\n\r\n",
    "extensions": b'5;a\r\n01234\r\n5 ; a = "b" ;c=d\r\n56789\r\n0;e\r\n\r\n',
    "single bytes": b"".join(b"1\r\n%d\r\n" % digit for digit in range(10)) + b"0\r\n\r\n",
    "trailers": b"A\r\n0123456789\r\n0\r\nAuthorization: evil\r\nContent-Length: 3\r\n\r\n",
}


@pytest.mark.parametrize("how", ["whole", "byte by byte"])
@pytest.mark.parametrize("name", GOOD_BODIES)
async def test_a_chunked_upload_is_framed_anew_without_extensions_and_trailers(
    name: str, how: str
) -> None:
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        client = await swproxy.connect()
        head = b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        head %= swproxy.target(server.url + "/", "POST")
        await send(client, head + GOOD_BODIES[name], how, b"")
        assert (await client.read_response()).body == b"ok"
        # The connection is in step: what comes behind the trailers is the next request.
        await client.send(swproxy.request(server.url + "/next"))
        assert (await client.read_response()).body == b"ok"
        first = server.received.partition(b"GET /next")[0]
        head, _, body = first.partition(b"\r\n\r\n")
        for foreign in (b"evil", b";", b"Content-Length: 3"):
            assert foreign not in first
        framed_by_length = b"Content-Length: 10" in head
        assert framed_by_length != (b"Transfer-Encoding: chunked" in head)
        if framed_by_length:
            assert body == b"0123456789"
        else:
            assert body.endswith(b"\r\n0\r\n\r\n")


async def test_what_follows_a_malformed_request_is_never_served() -> None:
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        client = await swproxy.connect()
        honest = swproxy.request(server.url + "/honest")
        broken = honest.replace(b"Host:", b"Host :").replace(b"honest", b"broken")
        await client.send(honest + broken + honest)
        assert (await client.read_response()).status == 200
        assert (await client.read_response()).status == 400
        assert await client.wait_closed() == "closed"
        assert server.received.count(b"GET /") == 1


async def test_a_refused_request_with_a_body_ends_the_connection() -> None:
    """Its body has not been read, so nobody knows where the next request would begin."""
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        client = await swproxy.connect()
        inner = swproxy.request(server.url + "/inner")
        outer = swproxy.request(server.url + "/", "POST", body=inner)
        await client.send(outer.replace(b"X-Sw-Signature=", b"X-Sw-Signature=0", 1))
        assert (await client.read_response()).status == 400
        assert await client.wait_closed() == "closed"
        assert server.connections == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "PROPFIND"])
@pytest.mark.parametrize("framing", ["Content-Length", "chunked"])
async def test_a_body_is_a_body_whatever_the_method(method: str, framing: str) -> None:
    """GET with a body is the oldest way to smuggle past a server that skips it."""
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        client = await swproxy.connect()
        inner = b"GET /inner HTTP/1.1\r\nHost: a\r\n\r\n"
        if framing == "chunked":
            head = b"%b %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            target = swproxy.target(server.url + "/outer", method)
            outer = head % (method.encode(), target)
            outer += b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)
        else:
            outer = swproxy.request(server.url + "/outer", method, body=inner)
        behind = swproxy.request(server.url + "/behind")
        await client.send(outer + behind)
        # take_and_answer sends two bytes even to a HEAD: see what the client gets of them.
        head_only = method == "HEAD"
        assert (await client.read_response(head_only=head_only)).status == 200
        assert (await client.read_response()).status == 200
        sent = [bytes(end.received) for end in server.connections]
        heads = [line for data in sent for line in data.split(b"\r\n") if b" HTTP/1.1" in line]
        assert heads == [
            method.encode() + b" /outer HTTP/1.1",
            inner.split(b"\r\n")[0],
            b"GET /behind HTTP/1.1",
        ]


async def reach(swproxy: Proxy, server: Upstream, lines: bytes, body: bytes = b"") -> str:
    client = await swproxy.connect()
    target = swproxy.target(server.url + "/", "POST")
    await client.send(b"POST %b HTTP/1.1\r\n%b\r\n%b" % (target, lines, body))
    return str((await client.read_response()).status)


async def test_what_is_merely_unusual_is_served() -> None:
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        length = b"Content-Length: 5\r\n"
        for lines in (
            b"Host: a\r\ncontent-LENGTH:\t5 \t\r\n",
            b"Host: a\r\nTransfer_Encoding: chunked\r\n" + length,
            b"Host: a\r\nX-Transfer-Encoding: chunked\r\n" + length,
            b"HOST:a:80\r\n" + length,
            b"Host: [::1]:80\r\n" + length,
        ):
            assert await reach(swproxy, server, lines, b"hello") == "200"
        assert b"\r\ntransfer" not in server.received.lower()
        assert server.received.count(b"Content-Length: 5\r\n") == 5


@pytest.mark.parametrize("lines", [b"Host: a\r\n", b""], ids=["with Host", "without Host"])
async def test_http_1_0_is_served_and_closed(lines: bytes) -> None:
    async with upstream() as server, proxy() as swproxy:
        client = await swproxy.connect()
        target = swproxy.target(server.url + "/")
        await client.send(b"GET %b HTTP/1.0\r\n%b\r\n" % (target, lines))
        answer = await client.read_response()
        assert (answer.status, answer.body) == (200, b"ok")
        assert answer.headers["connection"] == "close"
        assert await client.wait_closed() == "closed"


@pytest.mark.parametrize("lines", [b"\r\n", b"\r\n\r\n\r\n"])
async def test_empty_lines_before_a_request_are_skipped(lines: bytes) -> None:
    async with upstream() as server, proxy() as swproxy:
        client = await swproxy.connect()
        for _ in range(2):
            await client.send(lines)
            await client.send(lines + swproxy.request(server.url + "/"))
            assert (await client.read_response()).body == b"ok"


@pytest.mark.parametrize(
    ("version", "expect", "status"),
    [
        (b"1.1", b"100-continue", 200),
        (b"1.1", b"100-CONTINUE", 200),
        (b"1.1", b"200-ok", 417),
        (b"1.1", b"100-continue, 200-ok", 417),
        (b"1.1", b"", 417),
        (b"1.0", b"100-continue", 200),
        (b"1.0", b"200-ok", 200),
    ],
)
@pytest.mark.parametrize("signed", [False, True], ids=["body free", "body signed"])
async def test_expectations(version: bytes, expect: bytes, status: int, signed: bool) -> None:
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        client = await swproxy.connect()
        options = {"body": b"hello"} if signed else {}
        target = swproxy.target(server.url + "/", "POST", **options)
        head = b"POST %b HTTP/%b\r\nHost: a\r\nExpect: %b\r\nContent-Length: 5\r\n\r\n"
        await client.send(head % (target, version, expect))
        if version == b"1.1" and status == 200:
            assert await client.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        if status == 200:
            await client.send(b"hello")
        answer = await client.read_response()
        assert answer.status == status
        if status != 200:
            assert await client.wait_closed() == "closed"
            assert server.connections == []
        else:
            assert b"expect" not in server.received.lower()
            assert server.received.endswith(b"hello")


async def test_no_invitation_to_a_body_that_has_come_or_that_will_be_refused() -> None:
    async with upstream(take_and_answer) as server, proxy(limits={"body_bytes": 9}) as swproxy:
        client = await swproxy.connect()
        await client.send(
            swproxy.request(server.url, "POST", headers=b"Expect: 100-continue\r\n", body=b"hello")
        )
        assert (await client.read_response()).status == 200
        client = await swproxy.connect()
        lines = b"Expect: 100-continue\r\nContent-Length: 10\r\n"
        await client.send(swproxy.request(server.url, "POST", headers=lines))
        assert (await client.read_response()).status == 413


async def test_a_client_that_goes_as_it_is_invited_is_no_fault_of_ours() -> None:
    async with upstream(take_and_answer) as server, proxy() as swproxy:
        for _ in range(20):
            client = await swproxy.connect()
            lines = b"Expect: 100-continue\r\nContent-Length: 10\r\n"
            with trio.CancelScope(shield=True):
                await client.send(swproxy.request(server.url, "POST", headers=lines))
                await client.reset()
        records = await swproxy.recorder.wait_for(20)
        assert {record.outcome for record in records} == {"client-gone"}
        await server.wait_all_closed()
