"""Several whole daemons that share a store."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.support.redis_server import RedisServer
from tests.support.running import Daemon, daemon

__all__ = ["ask", "nodes"]


@asynccontextmanager
async def nodes(
    work: Path, redis: RedisServer, *, limits: str, stores: tuple[str, str] = ("", "")
) -> AsyncIterator[list[Daemon]]:
    """Run two nodes of two workers whose application has `limits`, lines of its table.

    `stores` are lines for the section of each.
    """
    async with AsyncExitStack() as stack:
        running = []
        for name, store in zip(("one", "two"), stores, strict=True):
            live = work / name / "live.sqlite"
            table = f'[store]\nurl = "unix://{redis.path}"\npath = "{live}"\n{store}'
            node = daemon(work / name, server="workers = 2", store=table, app=limits)
            running.append(await stack.enter_async_context(node))
        yield running


async def ask(node: Daemon, url: str, method: str = "GET") -> tuple[int, str]:
    """Call a signed URL on a connection of its own; return status and problem code."""
    target = url.removeprefix("http://edge")
    client = await node.connect()
    await client.send(f"{method} {target} HTTP/1.1\r\nHost: edge\r\n\r\n".encode())
    answer = await client.read_response()
    await client.aclose()
    node.clients.remove(client)
    code = "" if answer.status == 200 else json.loads(answer.body)["code"]
    return answer.status, code
