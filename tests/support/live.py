"""Whoever looks at the live feed, on the admin listener."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.support.wire import PATIENCE, End

__all__ = ["Looker", "look"]


class Looker:
    """An open feed; `frames` are those that were read."""

    def __init__(self, end: End) -> None:
        self._end = end
        self.head = b""
        self.frames: list[dict[str, Any]] = []
        self._text = b""

    async def next(self) -> dict[str, Any]:
        """Return the next frame."""
        while b"\n\n" not in self._text:
            size = int((await self._end.read_until(b"\r\n")).strip(), 16)
            self._text += (await self._end.read_exactly(size + 2))[:-2]
        event, _, self._text = self._text.partition(b"\n\n")
        name, data = event.split(b"\n")
        assert name == b"event: frame"
        frame: dict[str, Any] = json.loads(data.removeprefix(b"data: "))
        self.frames.append(frame)
        return frame

    async def until(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Return the first frame, from the next one on, of which a condition holds."""
        with trio.fail_after(PATIENCE):
            while not condition(await self.next()):
                pass
        return self.frames[-1]


@asynccontextmanager
async def look(
    stream: trio.abc.Stream, *lines: bytes, host: str = "localhost"
) -> AsyncIterator[Looker]:
    """Look at the feed over a connection to the admin listener."""
    end = End(stream)
    try:
        head = b"".join(each + b"\r\n" for each in (b"Host: " + host.encode(), *lines))
        await end.send(b"GET /live HTTP/1.1\r\n" + head + b"\r\n")
        looker = Looker(end)
        looker.head = await end.read_head()
        yield looker
    finally:
        await end.aclose()
