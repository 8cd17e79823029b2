"""The request body: read off the client, and kept where it must be known before it is sent on.

`RequestBody` reads the payload off a connection, at least as fast as `MIN_RATE` bytes a second,
counting only the time it waits for the client: an upstream may take an upload slowly. A
signed body is not sent on before its signature holds, so it is kept in a `Spool`.
"""

import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

import trio

from swproxy.http.framing import ChunkedBody, ContentLengthBody, FramingError
from swproxy.http.request import RequestHead
from swproxy.net.failure import DownstreamGone, TimeSpent
from swproxy.policy.applied_terms import AppliedTerms
from swproxy.proxy.spool import MEMORY_BYTES, Spool
from swproxy.sw1.refusal import Refusal

__all__ = ["GRACE_SECONDS", "MIN_RATE", "ByteSource", "RequestBody", "Upload"]

GRACE_SECONDS = 30.0
MIN_RATE = 1024
"""The client may keep us waiting for GRACE_SECONDS, and what it has waited is forgiven at a second
for every MIN_RATE bytes, which a phone on a bad line manages and a client that sends a byte a
minute does not. Time is not saved up: whoever has sent megabytes may not pause for longer."""

_PIECE = 65536
_CHUNKED_PIECE = 16384
"""Bytes that are looked at in one step; in chunks, they may be three thousand of a byte each."""


class ByteSource(Protocol):
    """Where a body's bytes come from."""

    async def receive(self) -> bytes:
        """Return what came next, or b"" at the end of the stream."""

    def receive_now(self) -> bytes:
        """Return what has arrived already, which may be nothing."""

    async def invite(self) -> None:
        """Tell a client that waits for a 100 to go on (RFC 9110 section 10.1.1)."""

    def put_back(self, data: bytes) -> None:
        """Take back what belongs to the next request."""


class RequestBody:
    """The payload of one request's body, read as it arrives.

    `received` counts payload bytes. Nothing is read beyond the end of the body, nor after `ends_at`
    by trio's clock. `limit` and the length that `terms` allow bound it. `turn` is awaited before
    each step that takes a while.
    """

    def __init__(
        self,
        source: ByteSource,
        head: RequestHead,
        *,
        limit: int,
        terms: AppliedTerms | None = None,
        ends_at: float = math.inf,
        turn: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> None:
        self._source = source
        self._terms = terms
        self._ends_at = ends_at
        self._limit = limit
        self._turn = turn
        self._rest = b""
        self._patience = GRACE_SECONDS
        self._invite = head.expects_continue
        self.length = head.content_length
        self.received = 0
        self._body = (
            ChunkedBody(payload_only=True, strict=True)
            if self.length is None
            else ContentLengthBody(self.length)
        )
        self._step = _PIECE if self.length is not None else _CHUNKED_PIECE
        if self.length is not None and self.length > limit:
            raise _too_large(limit)

    @property
    def ended(self) -> bool:
        """Tell whether the whole body has been read."""
        return self._body.ended

    async def read(self) -> bytes:
        """Return some payload, at least a byte, or b"" at the end.

        Raises Refusal (request-malformed, body-too-large, request-timeout, terms-not-met),
        TimeSpent or DownstreamGone.
        """
        if self._invite:
            self._invite = False
            await self._source.invite()
        while not self._body.ended:
            data = self._rest or self._source.receive_now() or await self._wait()
            await self._turn()
            if payload := self.take(data):
                return payload
        return b""

    async def _wait(self) -> bytes:
        """Return what comes next, in the time that the client has left."""
        began = trio.current_time()
        with trio.move_on_at(min(began + self._patience, self._ends_at)) as scope:
            data = await self._source.receive()
        self._patience -= trio.current_time() - began
        if scope.cancelled_caught:
            if trio.current_time() >= self._ends_at:
                raise TimeSpent
            raise Refusal("request-timeout", "The request body came too slowly.")
        if not data:
            raise DownstreamGone
        return data

    def take(self, data: bytes) -> bytes:
        """Return payload in `data`, the bytes that came next; see `read` for what it raises.

        What is too much for one step is kept for `read`.
        """
        data, self._rest = data[: self._step], data[self._step :]
        try:
            payload = bytes(self._body.feed(data))
        except FramingError as error:
            detail = f"The request body is malformed: {error}."
            raise Refusal("request-malformed", detail) from error
        if self._body.ended and (behind := self._body.excess + self._rest):
            self._source.put_back(behind)
        self._invite = False
        self.received += len(payload)
        self._patience = min(GRACE_SECONDS, self._patience + len(payload) / MIN_RATE)
        # A chunk's size is known before its data: nobody uploads what is going to be refused.
        if self._body.announced > self._limit:
            raise _too_large(self._limit)
        if self._terms is not None:
            self._terms.check_length(self._body.announced, ended=self._body.ended)
        return payload


def _too_large(limit: int) -> Refusal:
    return Refusal("body-too-large", f"The request body is larger than {limit} bytes.")


class Upload:
    """A request body on its way up: whole in memory, kept in a spool, or read as it arrives.

    `length` is None for a body whose end only its last chunk tells. `whole` is the body where it is
    small and complete. One that is `replayable` can be sent a second time after `restart`.
    """

    def __init__(
        self,
        *,
        whole: bytes | None = None,
        spool: Spool | None = None,
        body: RequestBody | None = None,
        begun: bytes = b"",
    ) -> None:
        self.whole = whole
        self.replayable = body is None
        self._spool = spool
        self._body = body
        self._begun = begun
        self._pieces: Iterator[bytes] | None = None
        if whole is not None:
            self.length: int | None = len(whole)
        elif spool is not None:
            self.length = spool.length
        else:
            assert body is not None
            self.length = body.length

    @classmethod
    def of_spool(cls, spool: Spool) -> "Upload":
        """Return the upload of a complete spool."""
        if spool.length > MEMORY_BYTES:
            return cls(spool=spool)
        return cls(whole=b"".join(spool.pieces()))

    @property
    def ended(self) -> bool:
        """Tell whether nothing of the body is left on the client's connection."""
        return self._body is None or self._body.ended

    def forget(self) -> None:
        """Let go of what has been sent and need not be sent again."""
        if self.whole is not None:
            self.whole = b""

    def restart(self) -> None:
        """Begin again with the first byte."""
        assert self.replayable
        self._pieces = None

    async def next_piece(self) -> bytes:
        """Return the next bytes to send, or b"" at the end; raises what `RequestBody.read` does."""
        if self._begun:
            begun, self._begun = self._begun, b""
            return begun
        if self._body is not None:
            return await self._body.read()
        assert self._spool is not None
        if self._pieces is None:
            self._pieces = self._spool.pieces()
        # An upstream that is fast enough would take all of it in one stroke.
        await trio.lowlevel.checkpoint()
        return next(self._pieces, b"")
