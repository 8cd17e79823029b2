"""Nothing that one client sends keeps the others waiting: the table of inputs that might.

Each runs against a worker in a process of its own (see `beats`). What is asserted is the processor
time that the worker's loop has used between two beats: how long it ran before others had a turn.
"""

import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from tests.support.beats import Worker, worker
from tests.support.proxy import sign
from tests.support.sockets import LINES, switching
from tests.support.upstream import Upstream, upstream
from tests.support.wire import End

MOST_SECONDS = 0.1
"""Five times what another client may have to wait for the loop, which is 20 ms on a quiet machine:
caches that others use, and a collection of garbage, count as the loop's time too. Inputs that are
not cut into turns took from 150 ms to seconds; the table that is printed tells the rest."""

PATIENCE = 60.0
QUIET_SECONDS = 0.3
"""Without a byte from the worker: it has done what there was to do."""

KB = 1024
MB = 1024 * KB

Send = Callable[["Site"], Awaitable[None]]


@dataclass
class Site:
    """A worker, and an upstream that answers as its path says."""

    worker: Worker
    upstream: Upstream

    def request(
        self,
        path: str = "/",
        method: str = "GET",
        *,
        lines: bytes = b"",
        forged: bool = False,
        version: bytes = b"1.1",
        **options: object,
    ) -> bytes:
        """Return the head of a request."""
        url = sign("http://edge", self.upstream.url + path, method, **options)
        target = url.removeprefix("http://edge").encode()
        if forged:
            target = target[:-4] + (b"0000" if not target.endswith(b"0000") else b"1111")
        first = b"%b %b HTTP/%b\r\nHost: edge\r\n" % (method.encode(), target, version)
        return first + lines + b"\r\n"

    async def pour(self, data: bytes, *, connections: int = 1, times: int = 1) -> None:
        """Send `data` over and over on each of some connections; read what comes meanwhile."""
        async with trio.open_nursery() as nursery:
            for _ in range(connections):
                nursery.start_soon(self._pour, data, times)

    async def _pour(self, data: bytes, times: int) -> None:
        client = await self.worker.connect()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_swallow, client)
                with suppress(trio.BrokenResourceError):
                    for _ in range(times):
                        await client.stream.send_all(data)
                seen = -1
                while seen != len(client.received):
                    seen = len(client.received)
                    await trio.sleep(QUIET_SECONDS)
                nursery.cancel_scope.cancel()
        finally:
            await client.aclose()


async def _swallow(end: End, until: bytes = b"\0") -> None:
    """Take what comes, to the end of the stream or of a body that ends so."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while data := await end.stream.receive_some(65536):
            end.received += b"."
            if data.endswith(until):
                return


_DENSE = b"1\r\nx\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"


async def serve(end: End) -> None:
    """Answer as the path says, until the proxy closes."""
    while head := await _next_head(end.stream):
        if b" /dense " in head:
            await end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(8):
                await end.send(_DENSE * (64 * KB // len(_DENSE)))
            await end.send(b"0\r\n\r\n")
        elif b" /frames " in head:
            await switching(_send_frames, request=head)(end)
            return
        elif head.startswith(b"POST"):
            await _swallow(end, until=b"0\r\n\r\n")
            await end.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
            return
        else:
            await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def _next_head(stream: trio.abc.Stream) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some(65536)
        if not data:
            return b""
        head += data
    return head


async def _send_frames(end: End) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_swallow, end)
        with suppress(trio.BrokenResourceError):
            for _ in range(4):
                await end.stream.send_all(b"\x82\x00" * (32 * KB))
        await trio.sleep(0.5)
        nursery.cancel_scope.cancel()


def requests(size: int, connections: int, *, path: str = "", forged: bool = True) -> Send:
    async def send(site: Site) -> None:
        one = site.request(forged=forged) if not path else b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        piece = one * max(1, min(size, 256 * KB) // len(one))
        await site.pour(piece, connections=connections, times=max(1, size // len(piece)))

    return send


def lines(size: int, connections: int) -> Send:
    async def send(site: Site) -> None:
        await site.pour(b"\r\n" * (32 * KB), connections=connections, times=size // (64 * KB))

    return send


def heads(connections: int) -> Send:
    async def send(site: Site) -> None:
        first = site.request(forged=True)[:-2]
        line = b"X-Field-Of-Some-Length: "
        each = (16000 - len(first)) // 98 - len(line) - 2
        head = first + (line + b"v" * each + b"\r\n") * 98 + b"\r\n"
        assert len(head) < 16384
        await site.pour(head, connections=connections, times=2)

    return send


def targets(connections: int) -> Send:
    async def send(site: Site) -> None:
        head = site.request("/?" + "a=%2F&" * 1250, forged=True)
        assert len(head) < 16384, len(head)
        await site.pour(head, connections=connections, times=2)

    return send


def dense_up(size: int, connections: int, *, forged: bool, signed: bool) -> Send:
    async def send(site: Site) -> None:
        options = {"body": b"x"} if signed else {}
        head = site.request("/", "POST", lines=_CHUNKED, forged=forged, **options)
        count = size // len(_DENSE)
        await site.pour(head + _DENSE * count + b"0\r\n\r\n", connections=connections)

    return send


def mixed_up(size: int, connections: int) -> Send:
    async def send(site: Site) -> None:
        head = site.request("/", "POST", lines=_CHUNKED, forged=True, body=b"x")
        mix = b"".join(b"%x\r\n%b\r\n" % (n, b"y" * n) for n in (1, 17, 2, 300, 1, 1, 15, 40))
        await site.pour(head + mix * (size // len(mix)) + b"0\r\n\r\n", connections=connections)

    return send


def dense_down(connections: int, *, version: bytes = b"1.1") -> Send:
    async def send(site: Site) -> None:
        await site.pour(site.request("/dense", version=version), connections=connections)

    return send


def frames(connections: int) -> Send:
    async def send(site: Site) -> None:
        head = site.request("/frames", lines=LINES)
        await site.pour(head + b"\x82\x80mask" * (20 * KB), connections=connections, times=1)

    return send


def large(size: int, connections: int, *, forged: bool, signed: bool) -> Send:
    async def send(site: Site) -> None:
        body = b"x" * (size - 5) + b"0\r\n\r\n"
        options = {"body": b"x"} if signed else {}
        head = site.request(
            "/", "POST", lines=b"Content-Length: %d\r\n" % size, forged=forged, **options
        )
        await site.pour(head + body, connections=connections)

    return send


INPUTS: dict[str, Send] = {
    "256 KiB of refused requests": requests(256 * KB, 1),
    "8 times 64 KiB of refused requests": requests(64 * KB, 8),
    "80 times 4 KiB of refused requests": requests(4 * KB, 80),
    "80 times 1 KiB of tiny requests": requests(KB, 80, path="/"),
    "80 times 4 KiB of good requests": requests(4 * KB, 80, forged=False),
    "4 MB of empty lines": lines(4 * MB, 1),
    "8 times 1 MB of empty lines": lines(MB, 8),
    "80 heads of the greatest size": heads(80),
    "80 targets of the greatest size": targets(80),
    "one-byte chunks, forged": dense_up(MB, 1, forged=True, signed=True),
    "one-byte chunks, passed on": dense_up(MB, 1, forged=False, signed=False),
    "8 times one-byte chunks, forged": dense_up(MB // 4, 8, forged=True, signed=True),
    "80 times mixed small chunks, forged": mixed_up(64 * KB, 80),
    "one-byte chunks down": dense_down(1),
    "40 times one-byte chunks down": dense_down(40),
    "8 times one-byte chunks down, HTTP/1.0": dense_down(8, version=b"1.0"),
    "frames without payload": frames(1),
    "50 tunnels of frames without payload": frames(50),
    "16 MB, forged": large(16 * MB, 1, forged=True, signed=True),
    "4 times 16 MB, forged": large(16 * MB, 4, forged=True, signed=True),
    "4 times 16 MB, passed on": large(16 * MB, 4, forged=False, signed=False),
}

GREAT_INPUTS: dict[str, Send] = {
    "5 MB of refused requests": requests(5 * MB, 1),
    "8 times 2 MB of refused requests": requests(2 * MB, 8),
    "80 times 1 MB of refused requests": requests(MB, 80),
    "80 times 64 KiB of good requests": requests(64 * KB, 80, forged=False),
    "52 MB of empty lines": lines(52 * MB, 1),
    "16 MB of one-byte chunks, forged": dense_up(16 * MB, 1, forged=True, signed=True),
    "80 times 5 MB, forged": large(5 * MB, 80, forged=True, signed=True),
    "80 times 5 MB, passed on": large(5 * MB, 80, forged=False, signed=False),
    "100 tunnels of frames without payload": frames(100),
}
"""The same at the sizes of an attack; minutes of work, so for `--thorough` runs."""


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_no_input_keeps_others_waiting(
    request: pytest.FixtureRequest, tmp_path: Path, tls_files: dict[str, Path], tls: bool
) -> None:
    thorough = request.config.getoption("thorough")
    found = {}
    async with (
        upstream(serve, tls=tls) as server,
        worker(tmp_path, tls_files=tls_files if tls else None) as running,
    ):
        site = Site(running, server)
        await site.pour(site.request())
        for name, send in (INPUTS | (GREAT_INPUTS if thorough else {})).items():
            await running.beats()
            with trio.fail_after(PATIENCE * 10 if thorough else PATIENCE):
                await send(site)
                beats = await running.beats()
            found[name] = beats
            sys.stdout.write(
                f"{name:42} {beats.gap * 1000:7.1f} ms {beats.used:6.2f} s {beats.requests:6}\n"
            )
    late = {name: beats.gap for name, beats in found.items() if beats.gap > MOST_SECONDS}
    assert not late
