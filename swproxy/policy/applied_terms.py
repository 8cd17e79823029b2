"""The terms that hold for a request, and what they ask of it.

They come from its URL, from the URL's plan and from the application. Each set is asked for itself,
so the strictest wins without anybody having to work out which that is. What they ask of the head
comes before a byte of the body is read; `policy.body_judge` judges the body.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swproxy.policy.body_judge import judge_body, unmet
from swproxy.policy.clients import is_within
from swproxy.policy.field_names import Header
from swproxy.policy.json_body import read_object, uncheckable
from swproxy.policy.media_type import check_json_fields
from swproxy.sw1.body_terms import BodyTerm
from swproxy.sw1.terms import Terms

__all__ = ["AppliedTerms", "Asked"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What terms may ask of a request's head.

    `headers` have lower-case names; `length` is the body's, None if only its end will tell;
    `client` is the client's address, "" where there is none.
    """

    headers: Sequence[Header]
    length: int | None
    client: str
    websocket: bool


@dataclass(frozen=True, slots=True)
class AppliedTerms:
    """Sets of terms that hold together, and what follows from them."""

    sets: tuple[Terms, ...]
    seconds: float | None
    """the longest that the call may last"""
    least_bytes: int
    most_bytes: int | None
    """of the body"""
    body: tuple[BodyTerm, ...]
    body_only: bool
    uses: int | None
    """how many calls the URL may begin"""
    tokens: int | None
    """how many tokens all calls of the URL may use together"""

    @classmethod
    def of(cls, sets: Iterable[Terms]) -> AppliedTerms:
        """Return what holds if each of `sets` does."""
        sets = tuple(sets)
        lengths = [terms.length for terms in sets if terms.length is not None]
        return cls(
            sets,
            seconds=min((t.seconds for t in sets if t.seconds is not None), default=None),
            least_bytes=max((each.low or 0 for each in lengths), default=0),
            most_bytes=min((e.high for e in lengths if e.high is not None), default=None),
            body=tuple([term for terms in sets for term in terms.body]),
            body_only=any(terms.body_only for terms in sets),
            uses=min((terms.uses for terms in sets if terms.uses is not None), default=None),
            tokens=min((t.tokens for t in sets if t.tokens is not None), default=None),
        )

    @property
    def checks_body(self) -> bool:
        """Whether the body has to be read as JSON before it may be sent on."""
        return self.body_only or bool(self.body)

    def check_head(self, asked: Asked) -> None:
        """Refuse what can be refused before the body is read.

        Raises Refusal ("terms-not-met", "body-not-checkable").
        """
        for terms in self.sets:
            _check_head(terms, asked)
        if asked.length is not None:
            self.check_length(asked.length, ended=True)
        if self.checks_body:
            if asked.websocket:
                raise uncheckable("a WebSocket has none", status=415)
            check_json_fields(asked.headers)

    def check_length(self, count: int, *, ended: bool) -> None:
        """Refuse a body of `count` bytes, or of so many at least where it has not `ended`."""
        if self.most_bytes is not None and count > self.most_bytes:
            raise unmet("bytes", f"the body is longer than {self.most_bytes} bytes", status=413)
        if ended and count < self.least_bytes:
            raise unmet("bytes", f"the body is shorter than {self.least_bytes} bytes", status=400)

    def check_body(self, data: bytes) -> None:
        """Read a body that is to be checked, and judge it.

        Raises Refusal ("terms-not-met", "body-not-checkable").
        """
        judge_body(read_object(data), self.body, only=self.body_only)


def _check_head(terms: Terms, asked: Asked) -> None:
    if terms.websocket is not None and terms.websocket is not asked.websocket:
        kind = "a WebSocket only" if terms.websocket else "anything but a WebSocket"
        raise unmet("websocket", f"the URL is for {kind}")
    if terms.origins:
        origins = [value.strip(b" \t") for name, value in asked.headers if name == b"origin"]
        if len(origins) != 1 or origins[0].decode("latin-1") not in terms.origins:
            raise unmet("origin", "the URL is for pages of another origin")
    if terms.clients and not is_within(asked.client, terms.clients):
        raise unmet("client", "the URL is for clients of another address")
