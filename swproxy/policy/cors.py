"""Which pages may read answers: the fetch standard's CORS protocol, without credentials.

A signed URL is the permission; the browser's cookies never are one. So credentials are not allowed,
`*` is a safe default, and a list of origins only keeps other sites' pages from reading answers to
URLs that they got hold of.

A header is built from constants, or from bytes that were checked against a grammar first.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from swproxy.policy.destination import parse_destination
from swproxy.policy.field_names import Header
from swproxy.sw1.refusal import Refusal

__all__ = ["MAX_AGE_SECONDS", "CorsPolicy", "parse_origin"]

MAX_AGE_SECONDS: Final = 7200
"""Two hours, unless configured otherwise: the most that Chrome honours."""

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://(\*\.)?([^/?#@*]+)", re.IGNORECASE | re.ASCII)
# What packaged applications and browser extensions are called: chrome-extension://..., app://...
_PACKAGED: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*(?::[1-9][0-9]{0,4})?")
_NAMES_BELOW: Final = re.compile(rb"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


def parse_origin(text: str) -> str:
    """Return an `allow_origins` entry as browsers spell it; raises ValueError with the reason.

    An entry is `*`, an origin such as `https://app.example.com`, or `https://*.example.com` for
    every name below that domain (not the domain itself).
    """
    if text == "*":
        return text
    if text.lower() == "null":
        raise ValueError("null is every sandboxed page's origin; only * permits it")
    parts = _ORIGIN.fullmatch(text)
    if parts is None:
        raise ValueError(
            "is not an origin: a scheme, ://, a host (its first label may be *) and no path"
        )
    scheme, below, rest = parts[1].lower(), parts[2] or "", parts[3]
    if scheme not in ("http", "https"):
        if not _PACKAGED.fullmatch(rest.lower()):
            raise ValueError("has a host that no browser would send")
        return f"{scheme}://{below}{rest.lower()}"
    try:
        place = parse_destination(f"{scheme}://{rest}")
    except Refusal as refusal:
        raise ValueError(refusal.detail.replace("destination", "origin")) from None
    if below and place.address:
        raise ValueError("has a * before an address; only names have names below them")
    return f"{scheme}://{below}{place.authority.decode('ascii')}"


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """Whose pages may read, and for how long (seconds) browsers remember that they may ask.

    Entries that `parse_origin` does not accept raise its ValueError here too.
    """

    allow_origins: tuple[str, ...] = ("*",)
    max_age_seconds: int = MAX_AGE_SECONDS
    _everyone: bool = field(init=False, repr=False, compare=False)
    _exact: frozenset[bytes] = field(init=False, repr=False, compare=False)
    _below: tuple[tuple[bytes, bytes], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        origins = tuple(dict.fromkeys(map(parse_origin, self.allow_origins)))
        exact = frozenset(origin.encode("ascii") for origin in origins if "*" not in origin)
        halves = (origin.encode("ascii").partition(b"*") for origin in origins if "://*" in origin)
        # The one way to set what is derived in a frozen dataclass.
        object.__setattr__(self, "allow_origins", origins)
        object.__setattr__(self, "_everyone", "*" in origins)
        object.__setattr__(self, "_exact", exact)
        object.__setattr__(self, "_below", tuple((start, end) for start, _, end in halves))

    def permits(self, origin: bytes) -> bool:
        """Whether a page of this origin (the Origin header's value) may read answers."""
        if self._everyone or origin in self._exact:
            return True
        return any(
            origin.startswith(start)
            and origin.endswith(end)
            and _NAMES_BELOW.fullmatch(origin, len(start), len(origin) - len(end)) is not None
            for start, end in self._below
        )

    def response_headers(self, origin: bytes | None) -> tuple[Header, ...]:
        """Return what an answer carries for a request with this Origin header, if it had one."""
        if self._everyone:
            return _OPEN
        # Answers to other origins differ, so caches must tell them apart, whoever asks first.
        if origin is None or not self.permits(origin):
            return (_VARY,)
        return ((b"Access-Control-Allow-Origin", origin), _EXPOSE, _VARY)

    def preflight_headers(
        self, request_headers: Sequence[tuple[bytes, bytes]]
    ) -> tuple[Header, ...]:
        """Return what the answer to an OPTIONS request carries; names are lower-case.

        The method and headers asked for are granted as asked: what may be sent is settled by the
        signature. They are echoed, because `*` would leave out Authorization.
        """
        asked = dict(request_headers)
        origin = asked.get(b"origin")
        answer = self.response_headers(origin)
        method = asked.get(b"access-control-request-method")
        if method is None or not (self._everyone or (origin and self.permits(origin))):
            return answer
        granted = [*answer, _VARY_PREFLIGHT]
        if _TOKEN.fullmatch(method):
            granted.append((b"Access-Control-Allow-Methods", method))
        names = _tokens(asked.get(b"access-control-request-headers", b""))
        if names:
            granted.append((b"Access-Control-Allow-Headers", b", ".join(names)))
        if asked.get(b"access-control-request-private-network") == b"true":
            granted.append((b"Access-Control-Allow-Private-Network", b"true"))
        granted.append((b"Access-Control-Max-Age", b"%d" % self.max_age_seconds))
        return tuple(granted)


_VARY: Final = (b"Vary", b"Origin")
_VARY_PREFLIGHT: Final = (
    b"Vary",
    b"Access-Control-Request-Method, Access-Control-Request-Headers",
)
_EXPOSE: Final = (b"Access-Control-Expose-Headers", b"*")
_OPEN: Final = ((b"Access-Control-Allow-Origin", b"*"), _EXPOSE)


def _tokens(value: bytes) -> list[bytes]:
    """Return the header names of a comma-separated list; none if one of them is malformed."""
    names = [name.strip(b" \t") for name in value.split(b",")]
    return names if all(map(_TOKEN.fullmatch, names)) else []
