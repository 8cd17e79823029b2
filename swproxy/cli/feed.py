"""The live feed of a running daemon, read over its admin listener: `daemon.frame` says what comes.

What a frame holds was chosen by strangers in part, and comes as they wrote it. `printable` makes it
fit for a terminal, which would act on some characters.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import h11
import trio

from swproxy.config.listen_address import ListenAddress, UnixAddress
from swproxy.daemon.frame import VERSION, Frame

__all__ = ["Feed", "FeedEndedError", "FeedRefusedError", "open_feed", "printable"]

_SECONDS = 10.0
"""How long to wait for an answer, and then for each frame, of which one comes a second."""

_FRAME_BYTES = 16 << 20
_READ_BYTES = 65536

_REASONS = {
    401: "asks for server.admin_token: SWPROXY_ADMIN_TOKEN has it, or a configuration to read",
    404: "has no live feed: an older swproxy, or no swproxy",
    503: "says that as many look as may",
}


class FeedRefusedError(Exception):
    """It won't be had, now or later. `str` says why, with what to do."""


class FeedEndedError(Exception):
    """The daemon can't be reached, or went away; it may come back."""


@asynccontextmanager
async def open_feed(address: ListenAddress, token: str = "") -> AsyncIterator[Feed]:
    """Look at the daemon whose admin listener is at `address`.

    Raises FeedRefusedError, FeedEndedError.
    """
    stream = await _connect(address)
    async with stream:
        feed = Feed(stream)
        with _in_time():
            await feed.begin(token)
        yield feed


class Feed:
    """Frames, as they come."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._data = bytearray()

    async def begin(self, token: str) -> None:
        """Ask, and see what the answer is."""
        headers = [("Host", "localhost"), ("Accept", "text/event-stream")]
        if token:
            headers.append(("Authorization", f"Bearer {token}"))
        request = h11.Request(method="GET", target="/live", headers=headers)
        asked = (self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        try:
            await self._stream.send_all(asked)
        except trio.BrokenResourceError:
            raise FeedEndedError("hung up") from None
        answer = await self._next_event()
        if not isinstance(answer, h11.Response):
            raise FeedRefusedError("does not speak as swproxy's admin listener does")
        if answer.status_code != 200:
            said = _REASONS.get(answer.status_code, f"answers {answer.status_code}")
            raise FeedRefusedError(said)

    async def next(self) -> Frame:
        """Return the next frame. Raises FeedRefusedError, FeedEndedError."""
        with _in_time():
            while True:
                event, found, rest = self._data.partition(b"\n\n")
                if found:
                    self._data = rest
                    if (frame := _frame(bytes(event))) is not None:
                        return frame
                    continue
                more = await self._next_event()
                if not isinstance(more, h11.Data):
                    raise FeedEndedError("ended")
                self._data += more.data
                if len(self._data) > _FRAME_BYTES:
                    raise FeedRefusedError("sends what is no frame")

    async def _next_event(self) -> h11.Event | type[h11.PAUSED]:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(bytes(await self._stream.receive_some(_READ_BYTES)))
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            raise FeedEndedError("hung up") from None
        return cast("h11.Event", event)


def printable(value: Any) -> Any:
    """Return what JSON held, with no character in its texts that a terminal would act on.

    Those that turn the direction of writing, or have no width, are written out as well.
    """
    if isinstance(value, str):
        if value.isprintable():
            return value
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
    if isinstance(value, list):
        return [printable(each) for each in value]
    if isinstance(value, dict):
        return {printable(name): printable(each) for name, each in value.items()}
    return value


async def _connect(address: ListenAddress) -> trio.SocketStream:
    try:
        with _in_time():
            if isinstance(address, UnixAddress):
                return await trio.open_unix_socket(address.path)
            return await trio.open_tcp_stream(address.host, address.port)
    except OSError as error:
        # trio's own sentence is about several addresses that were tried, the reason is below it.
        cause = error.__cause__
        group = cause.exceptions if isinstance(cause, BaseExceptionGroup) else (cause or error,)
        reason = getattr(group[0], "strerror", None) or "cannot be reached"
        raise FeedEndedError(reason) from None


@contextmanager
def _in_time() -> Iterator[None]:
    """Raise FeedEndedError for what takes longer than a feed may be silent."""
    try:
        with trio.fail_after(_SECONDS):
            yield
    except trio.TooSlowError:
        raise FeedEndedError(f"said nothing for {_SECONDS:.0f} s") from None


def _frame(event: bytes) -> Frame | None:
    """Return the frame in an event, None for an event of another kind, or a comment."""
    lines = event.decode(errors="replace").split("\n")
    if "event: frame" not in lines:
        return None
    data = "".join(line.removeprefix("data: ") for line in lines if line.startswith("data: "))
    try:
        found = json.loads(data)
        version = found["v"]
    except (ValueError, KeyError, TypeError):
        raise FeedRefusedError("sends what is no frame") from None
    if version != VERSION:
        raise FeedRefusedError("is another version of swproxy: look with the one that runs")
    return cast("Frame", found)
