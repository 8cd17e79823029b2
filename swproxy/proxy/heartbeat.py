"""What breaks the silence of an event stream whose model thinks for long.

A chunk of our own may stand between two of the upstream's, and a comment between two events; so
both have to have ended. In an answer of a length announced there is no room for either, and in a
compressed one a comment would be garbage.
"""

from swproxy.http.framing import ChunkedBody, ContentLengthBody
from swproxy.http.heartbeat import COMMENT, EventBoundary
from swproxy.net.flow import Heartbeat
from swproxy.proxy.upstream import ResponseHead

__all__ = ["make_heartbeat"]

_CHUNK = b"%x\r\n%b\r\n" % (len(COMMENT), COMMENT)


def make_heartbeat(response: ResponseHead, seconds: float) -> Heartbeat | None:
    """Return the heartbeat of an answer, or None if it can't have one; 0 seconds is never.

    It listens to the answer from then on, so nothing of the body may have been followed yet.
    """
    body = response.body
    fields = dict(response.headers)
    media_type = fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
    coding = fields.get(b"content-encoding", b"identity").strip().lower()
    if not seconds or media_type != b"text/event-stream" or coding != b"identity":
        return None
    if isinstance(body, ContentLengthBody):
        return None
    boundary = EventBoundary()
    before = body.tap

    def tap(payload: bytes) -> None:
        boundary.feed(payload)
        if before is not None:
            before(payload)

    body.tap = boundary.feed if before is None else tap
    if isinstance(body, ChunkedBody) and not body.payload_only:
        chunks = body
        return Heartbeat(seconds, _CHUNK, lambda: chunks.between_chunks and boundary.at_boundary)
    return Heartbeat(seconds, COMMENT, lambda: boundary.at_boundary)
