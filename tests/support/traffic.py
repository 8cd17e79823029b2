"""Mixed traffic, honest and hostile, of clients that leave when they please: for churn and soak.

A client picks a request and a moment to leave by its random numbers, which are seeded; what the
scheduler makes of that differs from run to run, so nothing is asserted of single requests but that
an honest one, left in peace, gets its whole answer.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import trio

from tests.support.hostile_requests import FRAMING, SYNTAX, TARGET
from tests.support.upstream import Upstream
from tests.support.wire import End, Response

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_LAST = _OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
_EVENT = b"10\r\ndata: 0123456789\r\n"
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_LARGE = b"x" * 300_000
_BODY = b"b" * 100_000

_HOSTILE = [*FRAMING.values(), *SYNTAX.values()]

ANSWERS = {
    "/garbage": b"nonsense\r\n\r\n",
    "/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
    "/cut-chunk": _CHUNKED + b"5\r\nhello\r\n",
    "/extra": _OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    "/until-close": b"HTTP/1.1 200 OK\r\n\r\nhello",
    "/interim": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3 + _LAST,
    "/silent": b"",
}
"""Answers after which the upstream closes; it says so where it is honest, or an upload that can't
be sent again might meet the closing connection."""


async def serve_mixed(end: End) -> None:
    """Answer as the path says: well and again and again, or in some broken way and no more."""
    while True:
        try:
            head = await end.read_head()
        except EOFError:
            return
        path = head.split(b" ")[1].decode()
        if path == "/early":
            await end.send(_LAST.replace(b"200 OK", b"413 Too Large"))
            return
        if b"\r\ntransfer-encoding: chunked\r\n" in head.lower():
            await end.read_until(b"0\r\n\r\n")
        elif b"\r\ncontent-length: " in head.lower():
            length = int(head.lower().partition(b"\r\ncontent-length: ")[2].split(b"\r\n")[0])
            await end.read_exactly(length)
        end.forget()
        if path in ANSWERS:
            await end.send(ANSWERS[path])
            return
        if path == "/reset":
            await end.send(_CHUNKED + _EVENT)
            await end.reset()
            return
        if path == "/hang":
            await end.wait_closed()
            return
        if path == "/stream":
            await end.send(_CHUNKED)
            for _ in range(20):
                await end.send(_EVENT)
                await trio.lowlevel.checkpoint()
            await end.send(b"0\r\n\r\n")
        elif path == "/large":
            await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(_LARGE) + _LARGE)
        else:
            await end.send(_OK)


HONEST = ["/ok", "/ok", "/stream", "/large", "/interim", "/until-close"]
BROKEN = ["/garbage", "/cut", "/cut-chunk", "/extra", "/silent", "/reset", "/early", "/hang"]

KINDS = ["honest"] * 4 + ["broken"] * 2 + ["leave"] * 4 + ["hostile"] * 2 + ["flood"]


class Signs(Protocol):
    """What signs requests."""

    def request(
        self, url: str, method: str = "GET", *, body: bytes = b"", body_signed: bool = False
    ) -> bytes: ...


@dataclass
class Traffic:
    """Clients of one proxy: `connect` opens a connection to it, `signer` writes requests."""

    connect: Callable[[], Awaitable[End]]
    signer: Signs
    upstreams: list[Upstream]
    seed: int = 5
    counts: Counter[str] = field(default_factory=Counter)

    async def run(self, clients: int, *, requests: int | None = None) -> None:
        """Let `clients` run at once, until cancelled or for `requests` of each."""
        async with trio.open_nursery() as nursery:
            for number in range(clients):
                nursery.start_soon(self._client, random.Random(self.seed * 1000 + number), requests)

    async def _client(self, chance: random.Random, requests: int | None) -> None:
        while requests is None or requests > 0:
            kind = chance.choice(KINDS)
            with trio.fail_after(60):
                await getattr(self, f"_{kind}")(chance)
            self.counts[kind] += 1
            requests = requests if requests is None else requests - 1
            await trio.lowlevel.checkpoint()

    def _request(self, chance: random.Random, path: str) -> bytes:
        url = chance.choice(self.upstreams).url + path
        kind = chance.choice(["get", "get", "post", "signed", "chunked"])
        if kind == "get":
            return self.signer.request(url)
        if kind == "post":
            return self.signer.request(url, "POST", body=_BODY)
        signed = self.signer.request(url, "POST", body=_BODY, body_signed=kind == "signed")
        if kind == "signed":
            return signed
        head = signed.partition(b"\r\n\r\n")[0].replace(
            b"Content-Length: %d" % len(_BODY), b"Transfer-Encoding: chunked"
        )
        half = len(_BODY) // 2
        chunks = b"%x\r\n%b\r\n" % (half, _BODY[:half]) * 2
        return head + b"\r\n\r\n" + chunks + b"0\r\n\r\n"

    async def _honest(self, chance: random.Random) -> None:
        """Ask a few times over one connection; every answer has to be whole."""
        client = await self.connect()
        try:
            for _ in range(chance.randint(1, 3)):
                path = chance.choice(HONEST)
                await client.send(self._request(chance, path))
                answer = await client.read_response()
                _check(path, answer)
                client.forget()
                if answer.headers.get("connection") == "close":
                    return
        finally:
            await client.aclose()

    async def _broken(self, chance: random.Random) -> None:
        """Ask for a broken answer; it may come in any broken way, but not as a whole one."""
        client = await self.connect()
        path = chance.choice([each for each in BROKEN if each != "/hang"])
        try:
            with suppress(EOFError, trio.BrokenResourceError):
                await client.send(self._request(chance, path))
                answer = await client.read_response()
                assert answer.status != 200 or path in ("/extra", "/silent"), (path, answer)
                assert b"evil" not in client.received
        finally:
            await client.aclose()

    async def _leave(self, chance: random.Random) -> None:
        """Send some of a request, read some of an answer, and go in one of three ways."""
        client = await self.connect()
        try:
            request = self._request(chance, chance.choice(HONEST + BROKEN))
            if chance.random() < 0.5:
                request = request[: chance.randint(0, len(request))]
            with trio.move_on_after(chance.random() * 0.02):
                with suppress(EOFError, trio.BrokenResourceError):
                    await client.stream.send_all(request)
                    for _ in range(chance.randint(0, 5)):
                        await client.stream.receive_some(chance.randint(1, 5000))
            way = chance.choice(["close", "reset", "half-close"])
            if way == "reset":
                await client.reset()
            elif way == "half-close":
                with suppress(OSError):
                    client.half_close()
                    with trio.move_on_after(0.05):
                        await client.wait_closed()
        finally:
            await client.aclose()

    async def _hostile(self, chance: random.Random) -> None:
        """Send what is never served; it is refused, whatever else is going on."""
        client = await self.connect()
        try:
            target = self.signer.request(self.upstreams[0].url + "/ok").split(b" ")[1]
            await client.send(chance.choice(_HOSTILE).replace(TARGET, target))
            assert (await client.read_response()).status == 400
        finally:
            await client.aclose()

    async def _flood(self, chance: random.Random) -> None:
        """Send much that costs work and is not verified, as fast as it is taken, and go."""
        client = await self.connect()
        signed = self.signer.request(self.upstreams[0].url + "/ok", "POST", body=b"b")
        forged = signed.partition(b" HTTP/1.1")[0][:-4] + b"0000 HTTP/1.1\r\nHost: a\r\n"
        chunked = forged + b"Transfer-Encoding: chunked\r\n\r\n"
        flood = {
            "refused requests": (forged + b"Content-Length: 0\r\n\r\n") * 200,
            "empty lines": b"\r\n" * 200_000,
            "one-byte chunks": chunked + b"1\r\nx\r\n" * 30_000,
            "half a head": forged,
            "no body": chunked,
        }
        try:
            with trio.move_on_after(0.3), suppress(trio.BrokenResourceError):
                await client.stream.send_all(flood[chance.choice(list(flood))])
                await client.wait_closed()
        finally:
            await client.aclose()


def _check(path: str, answer: Response) -> None:
    bodies = {
        "/stream": b"data: 0123456789" * 20,
        "/large": _LARGE,
        "/until-close": b"hello",
    }
    assert (answer.status, answer.body) == (200, bodies.get(path, b"ok")), (path, answer.raw)
