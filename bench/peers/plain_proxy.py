"""The plain proxy to beat: h11 to the client, httpcore's pool to the upstream, nothing clever.

It is what one writes in an evening with good libraries, and it does the same job: verifies the
signature with swproxy's own functions, adds the key, streams both ways. It has no access log, no
limits and no address checks, all of which cost something.
"""

from __future__ import annotations

import argparse
import resource
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial

import h11
import httpcore
import trio

from swproxy.sw1.claims import Claims, check_time, parse_target
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.verify import Verification

_READ_BYTES = 65536
HOP_BY_HOP = {
    b"connection",
    b"host",
    b"keep-alive",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
_TIMEOUTS = {"timeout": {"connect": 10.0, "read": 300.0, "write": 60.0, "pool": 60.0}}
_FAILURES = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)


@dataclass(frozen=True)
class Proxy:
    """One application, one pool, any number of clients."""

    pool: httpcore.AsyncConnectionPool
    app: str
    secret: str
    authorization: bytes

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one client connection to its end."""
        connection = h11.Connection(h11.SERVER)
        try:
            while True:
                request = await _next_event(connection, stream)
                if not isinstance(request, h11.Request):
                    return
                await self._serve_request(connection, stream, request)
                if connection.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                    return
                connection.start_next_cycle()
        except (trio.BrokenResourceError, h11.ProtocolError, *_FAILURES):
            return
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve_request(
        self, connection: h11.Connection, stream: trio.SocketStream, request: h11.Request
    ) -> None:
        headers = list(request.headers)
        try:
            claims, verification = begin_check(
                request.target, request.method, headers, self.app, self.secret
            )
            body: AsyncIterator[bytes] | bytes | None = None
            if claims.body_signed:
                body = b"".join([part async for part in _body(connection, stream)])
                verification.update(body)
            elif any(name in {b"content-length", b"transfer-encoding"} for name, _ in headers):
                body = _body(connection, stream)
            else:
                await _next_event(connection, stream)
            if not verification.accept():
                raise Refusal("signature-mismatch", "The signature does not match.")
        except Refusal as refusal:
            await _refuse(connection, stream, refusal)
            return
        kept = [pair for pair in headers if pair[0] not in HOP_BY_HOP]
        kept.append((b"Authorization", self.authorization))
        async with self.pool.stream(
            request.method, claims.proxy_url, headers=kept, content=body, extensions=_TIMEOUTS
        ) as response:
            passed = [pair for pair in response.headers if pair[0].lower() not in HOP_BY_HOP]
            head = h11.Response(status_code=response.status, headers=passed)
            await stream.send_all(connection.send(head) or b"")
            async for chunk in response.aiter_stream():
                await stream.send_all(connection.send(h11.Data(data=chunk)) or b"")
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")


def begin_check(
    target: bytes, method: bytes, headers: Sequence[tuple[bytes, bytes]], app: str, secret: str
) -> tuple[Claims, Verification]:
    """Read a signed target and begin to verify it; raise Refusal."""
    claims = parse_target(target)
    check_time(claims, now=time.time(), expiry_seconds=604800, clock_skew_seconds=60)
    secrets = [secret] if claims.app_id == app else None
    return claims, Verification(claims, method, headers, secrets)


async def _next_event(
    connection: h11.Connection, stream: trio.SocketStream
) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await stream.receive_some(_READ_BYTES))
    return event


async def _body(connection: h11.Connection, stream: trio.SocketStream) -> AsyncIterator[bytes]:
    while isinstance(event := await _next_event(connection, stream), h11.Data):
        yield bytes(event.data)


async def _refuse(connection: h11.Connection, stream: trio.SocketStream, refusal: Refusal) -> None:
    body = refusal.detail.encode()
    head = h11.Response(
        status_code=400, headers=[(b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
    )
    for event in (head, h11.Data(data=body), h11.EndOfMessage()):
        await stream.send_all(connection.send(event) or b"")


async def main(options: argparse.Namespace) -> None:
    """Serve until the process is ended."""
    async with httpcore.AsyncConnectionPool(
        ssl_context=ssl.create_default_context(cafile=options.ca_file),
        max_connections=None,
        max_keepalive_connections=options.idle_connections,
        keepalive_expiry=55.0,
    ) as pool:
        proxy = Proxy(pool, options.app, options.secret, options.authorization.encode())
        await trio.serve_tcp(proxy.serve, options.port, host="127.0.0.1", backlog=4096)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca-file", required=True)
    parser.add_argument("--app", required=True)
    parser.add_argument("--secret", required=True)
    parser.add_argument("--authorization", required=True)
    parser.add_argument("--idle-connections", type=int, default=256)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    trio.run(partial(main, parser.parse_args()))
