"""One request sent to an upstream, and the head of its answer.

The head is parsed by h11, one fresh connection state an answer, and held to what a careful client
accepts (RFC 9112 section 6.3): whatever frames a body in two ways is no answer but an attack on
whoever reads it next. The body never passes through h11: `ResponseHead.body` knows where it ends,
`ResponseHead.rest` is the beginning of it that arrived with the head.
"""

import re
from collections.abc import Awaitable, Callable
from typing import TypeGuard

import h11
import httpcore
import trio

from swproxy.http.framing import ChunkedBody, ContentLengthBody, PayloadBody, UntilCloseBody
from swproxy.net.failure import UpstreamFailure
from swproxy.net.pool import UpstreamConnection

__all__ = ["ResponseHead", "UpstreamSilent", "read_response_head", "render_request"]

_MAX_HEAD = 65536
"""Bytes of an answer's head, interim answers included; browsers allow about four times that."""

_REQUEST = h11.Request(method=b"GET", target=b"/", headers=[(b"Host", b"upstream")])
_UPGRADE = h11.Request(
    method=b"GET",
    target=b"/",
    headers=[(b"Host", b"upstream"), (b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")],
)
_REQUEST_END = h11.EndOfMessage()
"""What h11 is told of the request where interim answers or a 101 may come, which it takes only if
it knows of one. The method would matter for the framing of the body, not h11's business here."""

_FINAL = re.compile(rb"HTTP/1\.[01] [2-5]")
"""How an answer begins, at once, that is no interim one; h11 takes that without a request as well,
since servers may answer before they are asked (RFC 9110 section 15.5.9), at half the cost."""

_MAX_INTERIM = 16
"""Answers of status 1xx before the real one; 100 and a few 103 are all that is seen in earnest."""


class UpstreamSilent(UpstreamFailure):
    """The upstream closed the connection before the first byte of an answer."""

    def __init__(self) -> None:
        super().__init__("upstream-closed", "The upstream closed the connection without answering.")


class ResponseHead:
    """Status, headers (lower-case names) and framing of an upstream's answer.

    Of a 101, `rest` is the beginning of what the two ends say in the other protocol.
    """

    __slots__ = ("body", "content_length", "headers", "keep_alive", "rest", "status")

    def __init__(
        self,
        response: h11.Response | h11.InformationalResponse,
        rest: bytes,
        method: bytes,
        *,
        payload_only: bool,
    ) -> None:
        self.status = response.status_code
        self.headers: list[tuple[bytes, bytes]] = list(response.headers)
        self.rest = rest
        self.keep_alive = response.http_version == b"1.1"
        self.content_length: int | None = None
        chunked = False
        for name, value in self.headers:
            if name == b"content-length":
                self.content_length = int(value)
            elif name == b"transfer-encoding":
                chunked = True
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive = False
        if chunked and (self.content_length is not None or response.http_version != b"1.1"):
            raise _malformed("frames its answer in two ways")
        self.body: PayloadBody
        if method == b"HEAD" or self.status in (204, 304):
            self.body = ContentLengthBody(0)
            # A length announced for a body that can't be there: whatever comes next is in doubt.
            self.keep_alive &= method == b"HEAD" or not (chunked or self.content_length)
        elif chunked:
            self.body = ChunkedBody(payload_only=payload_only)
        elif self.content_length is not None:
            self.body = ContentLengthBody(self.content_length)
        else:
            self.body = UntilCloseBody()
            self.keep_alive = False


def render_request(
    method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], framing: bytes
) -> bytes:
    """Return a request head. Every part was checked when it was made; `framing` is whole lines."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (method, target, lines, framing)


async def read_response_head(
    connection: UpstreamConnection,
    method: bytes,
    turn: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    *,
    payload_only: bool,
    upgrade: bool = False,
) -> ResponseHead:
    """Read the head of the answer to a request of `method`, past interim answers.

    `payload_only` asks for a chunked body to be followed without its chunks. `upgrade` says that
    another protocol was asked for, so that a 101 is an answer and not a fault. `turn` is awaited
    before what has come is looked at. Raises UpstreamFailure, UpstreamSilent if not a byte has
    come. The caller sets the deadline.
    """
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
    interim = total = 0
    while True:
        try:
            data = await connection.stream.read()
        except httpcore.ReadError as error:
            raise (_broken_off() if total else UpstreamSilent()) from error
        if not data:
            raise _broken_off() if total else UpstreamSilent()
        if not total and (upgrade or not _FINAL.match(data)):
            parser.send(_UPGRADE if upgrade else _REQUEST)
            parser.send(_REQUEST_END)
        total += len(data)
        await turn()
        try:
            parser.receive_data(data)
            while (event := parser.next_event()) is not h11.NEED_DATA:
                _check_version(event)
                if isinstance(event, h11.Response) or _is_switch(event):
                    rest = bytes(parser.trailing_data[0])
                    return ResponseHead(event, rest, method, payload_only=payload_only)
                interim += 1
                if interim > _MAX_INTERIM or not isinstance(event, h11.InformationalResponse):
                    raise _malformed("sent interim answers without end")
        except h11.RemoteProtocolError as error:
            raise _malformed("did not answer with HTTP") from error
        if total > _MAX_HEAD:
            raise _malformed("sent a head that is too large")


def _is_switch(event: object) -> TypeGuard[h11.InformationalResponse]:
    return isinstance(event, h11.InformationalResponse) and event.status_code == 101


def _check_version(event: object) -> None:
    """Refuse what h11 lets pass: any digit may stand for HTTP's major version there."""
    if isinstance(event, h11.Response | h11.InformationalResponse):
        major = event.http_version[:2]
        if major != b"1.":
            raise _malformed("speaks another version of HTTP")


def _broken_off() -> UpstreamFailure:
    return UpstreamFailure("upstream-closed", "The upstream broke off its answer.")


def _malformed(what: str) -> UpstreamFailure:
    return UpstreamFailure("upstream-malformed", f"The upstream {what}.")
