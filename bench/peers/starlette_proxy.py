"""The relay in one's own backend: Starlette on uvicorn, httpx to the API, the same check.

It is configured by its environment, since uvicorn is what is started.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from bench.peers.plain_proxy import HOP_BY_HOP, begin_check
from swproxy.sw1.refusal import Refusal

__all__ = ["app"]


async def relay(request: Request) -> Response:
    """Check the signature, add the key, and pass on both bodies as they come."""
    environment = os.environ
    pairs = request.headers.raw
    target = request.scope["raw_path"] + b"?" + request.scope["query_string"]
    try:
        claims, verification = begin_check(
            target, request.method.encode(), pairs, environment["APP"], environment["SECRET"]
        )
        if not verification.accept():
            raise Refusal("signature-mismatch", "The signature does not match.")
    except Refusal as refusal:
        return PlainTextResponse(refusal.detail, 403)
    client: httpx.AsyncClient = request.app.state.client
    headers = [pair for pair in pairs if pair[0] not in HOP_BY_HOP]
    headers.append((b"authorization", environment["AUTHORIZATION"].encode()))
    has_body = any(name in {b"content-length", b"transfer-encoding"} for name, _ in pairs)
    outgoing = client.build_request(
        request.method,
        claims.proxy_url,
        headers=headers,
        content=request.stream() if has_body else None,
    )
    answer = await client.send(outgoing, stream=True)
    passed = {
        name: value
        for name, value in answer.headers.items()
        if name.lower().encode() not in HOP_BY_HOP
    }
    return StreamingResponse(_body(answer), answer.status_code, passed)


async def _body(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()


@asynccontextmanager
async def _lifespan(application: Starlette) -> AsyncIterator[None]:
    idle = int(os.environ["IDLE_CONNECTIONS"])
    async with httpx.AsyncClient(
        verify=ssl.create_default_context(cafile=os.environ["CA_FILE"]),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=idle),
        timeout=httpx.Timeout(60, read=300),
    ) as client:
        application.state.client = client
        yield


app = Starlette(routes=[Route("/{path:path}", relay, methods=["GET", "POST"])], lifespan=_lifespan)
