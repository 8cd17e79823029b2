"""One request to the admin listener, and its answer: whole, or a stream of events."""

from typing import NamedTuple

import h11
import trio

__all__ = ["Answer", "Asked"]

_MOST_HEAD = 16384
_MOST_BODY = 4096
_PLAIN = "text/plain; charset=utf-8"
_OWN_FILES = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", _OWN_FILES),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Connection", "close"),
]


class Answer(NamedTuple):
    """A whole answer; `more` are headers besides those that all have."""

    status: int
    body: bytes = b""
    content_type: str = _PLAIN
    more: tuple[tuple[str, str], ...] = ()


class Asked:
    """A connection on which one request is read and answered."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.socket = stream.socket
        self._stream = stream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEAD)
        self._begun = False

    async def head(self) -> h11.Request | None:
        """Read the request's head; None if there is none. Raises h11.RemoteProtocolError."""
        event = await self._next()
        return event if isinstance(event, h11.Request) else None

    async def body(self) -> bytes | None:
        """Read the request's body; None if it is too long, or cut."""
        body = b""
        while isinstance(event := await self._next(), h11.Data):
            body += event.data
            if len(body) > _MOST_BODY:
                return None
        return body if isinstance(event, h11.EndOfMessage) else None

    async def answer(self, answer: Answer, *, with_body: bool) -> None:
        """Send a whole answer, its body unless it was asked for by HEAD."""
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            *answer.more,
            *_HEADERS,
        ]
        head = self._http.send(h11.Response(status_code=answer.status, headers=headers)) or b""
        await self._stream.send_all(head + answer.body if with_body else head)
        await self._stream.send_eof()

    async def send_events(self, data: bytes) -> None:
        """Send a piece of an event stream, with the head in front of the first."""
        head = b""
        if not self._begun:
            self._begun = True
            # nginx would gather what it may buffer.
            headers = [
                ("Content-Type", "text/event-stream"),
                ("X-Accel-Buffering", "no"),
                *_HEADERS,
            ]
            head = self._http.send(h11.Response(status_code=200, headers=headers)) or b""
        await self._stream.send_all(head + (self._http.send(h11.Data(data=data)) or b""))

    async def _next(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(bytes(await self._stream.receive_some(_MOST_HEAD)))
        return event
