"""Terms: what a signed URL allows beyond its method and address.

They stand in the fragment of X-Sw-Proxy, behind the mark `sw1:`. That place is signed, is sent to
no API, and every client that signs keeps it byte for byte; so terms need no parameter of their own,
and a URL without the mark means what it always has. A verifier from before terms ignores them: the
nodes are upgraded first, then the signers.

    https://api.example/v1/chat#sw1:user=42&seconds=120&body.model=small,tiny&body=only

The grammar: pairs joined by `&`, name and value joined by the first `=`, only characters that a
fragment may have (RFC 3986, section 3.5), each of name and value then percent-decoded as UTF-8. A
`+` is a plus. The dots that structure a name stand bare, so a dot inside a part is `%2E`.

Whoever signs has the only say on what is meant, and is not at hand to be asked. So nothing is
guessed: a name that is unknown or given twice, a value that is empty or cannot be read, refuses the
request and is told. What a term means for a request is judged elsewhere; this is only how terms
are written down. The terms of a body are in `sw1.body_terms`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final, NoReturn, TypeVar

from swproxy.sw1.body_terms import BadTermError, BodyTerm, decode, read_body_term
from swproxy.sw1.refusal import Refusal

__all__ = [
    "LONGEST_BYTES",
    "MARK",
    "NAMES",
    "NO_TERMS",
    "PLAN_NAME",
    "BadTermError",
    "Bounds",
    "Terms",
    "collect",
    "known_name",
    "read_pairs",
    "read_terms",
    "split_fragment",
]

MARK: Final = "sw1:"

LONGEST_BYTES: Final = 4096
"""Of the fragment. Encoded once more in X-Sw-Proxy it still fits into a request's head."""

MOST_USES: Final = 1_000_000
MOST_USER_CHARACTERS: Final = 128
MOST_TAGS: Final = 8
MOST_TAG_CHARACTERS: Final = 64

PLAN_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

_FRAGMENT: Final = re.compile(r"(?>[A-Za-z0-9._~!$&'()*+,;=:@/?-]++|%[0-9A-Fa-f]{2})*+")
# Twelve digits are more tokens, or bytes, than anybody pays for.
_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,11}")
_SECONDS: Final = re.compile(r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,3})?")
_BOUNDS: Final = re.compile(r"(0|[1-9][0-9]{0,11})?\.\.(0|[1-9][0-9]{0,11})?")
_TAG_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
# As browsers spell it (RFC 6454, section 6.2); "null" is every sandboxed page's.
_ORIGIN: Final = re.compile(
    r"([a-z][a-z0-9+.-]*)://(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?"
)
_MAPPED_BITS: Final = 96
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Bounds:
    """A whole number's bounds, both included; None is no bound."""

    low: int | None
    high: int | None

    def __str__(self) -> str:
        low = "" if self.low is None else self.low
        high = "" if self.high is None else self.high
        return f"{low}..{high}"


@dataclass(frozen=True, slots=True)
class Terms:
    """One set of terms; what is None, or empty, is left open."""

    user: str | None = None
    """who the call is made for"""
    uses: int | None = None
    """how many calls the URL may begin"""
    seconds: float | None = None
    """the longest that a call may last"""
    tokens: int | None = None
    """the most that all calls of the URL may use together"""
    length: Bounds | None = None
    """`bytes`: how long the request body may be"""
    plan: str | None = None
    """a table of the application's configuration that holds as well"""
    origins: tuple[str, ...] = ()
    """of which the request's Origin must be one"""
    clients: tuple[Network, ...] = ()
    """of which the client's address must be in one"""
    websocket: bool | None = None
    """whether the URL is for a WebSocket: True only, False never"""
    tags: tuple[tuple[str, str], ...] = ()
    """names, without `tag.`, and values for the access log"""
    body: tuple[BodyTerm, ...] = ()
    """what must stand where in the JSON body"""
    body_only: bool = False
    """whether the body may have no top-level name that no term mentions"""

    def has(self, name: str) -> bool:
        """Whether a term is among these, by a name that `known_name` returned."""
        if name.startswith("body."):
            return any(term.name == name for term in self.body)
        if name.startswith("tag."):
            return name.removeprefix("tag.") in dict(self.tags)
        key = _READERS[name][0]
        return bool(getattr(self, key) != getattr(NO_TERMS, key))

    @property
    def checks_body(self) -> bool:
        """Whether the body has to be read as JSON before it may be sent on."""
        return self.body_only or bool(self.body)


NO_TERMS: Final = Terms()


def split_fragment(url: str) -> tuple[str, str | None]:
    """Return a destination without its fragment, and its terms as they are written, if any.

    A fragment without the mark is dropped.
    """
    address, _, fragment = url.partition("#")
    return address, fragment.removeprefix(MARK) if fragment.startswith(MARK) else None


def read_terms(url: str) -> Terms | None:
    """Return the terms of a destination (X-Sw-Proxy, decoded); None if it carries none.

    Raises Refusal ("terms-invalid"), naming the term at fault.
    """
    text = split_fragment(url)[1]
    if text is None:
        return None
    try:
        return read_pairs(text)
    except BadTermError as fault:
        raise Refusal("terms-invalid", fault.sentence()) from None


def read_pairs(text: str) -> Terms:
    """Read what follows the mark; raises BadTermError."""
    if len(MARK) + len(text.encode("utf-8", "replace")) > LONGEST_BYTES:
        raise BadTermError(None, f"are longer than {LONGEST_BYTES} bytes")
    if not _FRAGMENT.fullmatch(text):
        _complain_of_character(text)
    return collect(map(_pair, text.split("&")))


def _pair(text: str) -> tuple[str, str]:
    name, equals, raw = text.partition("=")
    if not name:
        raise BadTermError(None, "have a pair without a name")
    if not equals or not raw:
        raise BadTermError(name, "has no value")
    return name, decode(name, raw)


def collect(pairs: Iterable[tuple[str, str]]) -> Terms:
    """Return the terms that names, as they are written, and decoded values make.

    Raises BadTermError.
    """
    values: dict[str, Any] = {}
    tags: dict[str, str] = {}
    body: dict[tuple[str, ...], BodyTerm] = {}
    for name, value in pairs:
        _take(name, value, values, tags, body)
    return Terms(**values, tags=tuple(tags.items()), body=tuple(body.values()))


def known_name(name: str) -> str:
    """Return the name of a term as `Terms.has` knows it; raises BadTermError."""
    start, dot, rest = name.partition(".")
    if dot and start == "body":
        return read_body_term(name, rest, "-").name
    if (dot and start == "tag" and _TAG_NAME.fullmatch(rest)) or name in _READERS:
        return name
    raise BadTermError(name, "is no term that there is")


def _complain_of_character(text: str) -> NoReturn:
    """Say where a character stands that no fragment has (RFC 3986, section 3.5)."""
    pair = next(pair for pair in text.split("&") if not _FRAGMENT.fullmatch(pair))
    name = pair.partition("=")[0]
    raise BadTermError(name, "holds a character, or a '%', that has to be percent-encoded")


def _take(
    name: str,
    value: str,
    values: dict[str, Any],
    tags: dict[str, str],
    body: dict[tuple[str, ...], BodyTerm],
) -> None:
    """Read one pair into the table that it belongs to."""
    start, dot, rest = name.partition(".")
    start = decode(name, start)
    if dot and start == "body":
        term = read_body_term(name, rest, value)
        _put(body, term.path, term, name)
    elif dot and start == "tag":
        tag = decode(name, rest)
        _put(tags, tag, _read_tag(name, tag, value), name)
        if len(tags) > MOST_TAGS:
            raise BadTermError(name, f"is one tag too many: there may be {MOST_TAGS}")
    elif not dot and start in _READERS:
        key, read = _READERS[start]
        _put(values, key, read(name, value), name)
    else:
        raise BadTermError(name, "is no term that there is")


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _put(table: dict[_Key, _Value], key: _Key, value: _Value, name: str) -> None:
    if key in table:
        raise BadTermError(name, "is given twice")
    table[key] = value


def _read_user(name: str, value: str) -> str:
    if len(value) > MOST_USER_CHARACTERS or not visible(value) or " " in value:
        raise BadTermError(name, f"has to be 1 to {MOST_USER_CHARACTERS} visible characters")
    return value


def visible(text: str) -> bool:
    """Whether text can be logged and read: no control, no invisible character, no odd blank."""
    return text.isprintable()


def _read_tag(name: str, tag: str, value: str) -> str:
    if not _TAG_NAME.fullmatch(tag):
        raise BadTermError(
            name, f"has to be tag. and 1 to {MOST_TAG_CHARACTERS} letters, digits, - and _"
        )
    if len(value) > MOST_TAG_CHARACTERS or not visible(value):
        raise BadTermError(name, f"has to be 1 to {MOST_TAG_CHARACTERS} printable characters")
    return value


def _read_uses(name: str, value: str) -> int:
    if not _WHOLE.fullmatch(value) or not 1 <= int(value) <= MOST_USES:
        raise BadTermError(name, f"has to be a whole number from 1 to {MOST_USES}")
    return int(value)


def _read_tokens(name: str, value: str) -> int:
    if not _WHOLE.fullmatch(value) or value == "0":
        raise BadTermError(name, "has to be a whole number from 1 up, of twelve digits at most")
    return int(value)


def _read_seconds(name: str, value: str) -> float:
    if not _SECONDS.fullmatch(value) or not float(value):
        raise BadTermError(
            name,
            "has to be a number of seconds, more than 0 and at most 999999999, with up to three"
            " decimals, such as 120 or 0.5",
        )
    return float(value)


def _read_length(name: str, value: str) -> Bounds:
    match = _BOUNDS.fullmatch(value)
    if match is None or value == "..":
        raise BadTermError(name, "has to be a range of lengths, such as 1..2000 or ..2000")
    low, high = (None if bound is None else int(bound) for bound in match.groups())
    if low is not None and high is not None and low > high:
        raise BadTermError(name, "has a range that ends before it begins")
    return Bounds(low, high)


def _read_plan(name: str, value: str) -> str:
    if not PLAN_NAME.fullmatch(value):
        raise BadTermError(name, "has to be the name of a plan: letters, digits, - and _")
    return value


def _read_origins(name: str, value: str) -> tuple[str, ...]:
    origins = tuple(value.split(","))
    for origin in origins:
        match = _ORIGIN.fullmatch(origin)
        if match is None or (match[2] and match[2] == _DEFAULT_PORTS.get(match[1])):
            raise BadTermError(
                name,
                "has to be origins as browsers write them, joined by commas:"
                " https://app.example.com, in lower case, without path and default port",
            )
    return origins


def _read_clients(name: str, value: str) -> tuple[Network, ...]:
    try:
        return tuple([_network(text) for text in value.split(",")])
    except ValueError:
        raise BadTermError(
            name, "has to be networks or addresses, joined by commas: 192.0.2.0/24,2001:db8::1"
        ) from None


def _network(text: str) -> Network:
    """Read a network; one of IPv4-mapped addresses (RFC 4291, 2.5.5.2) is the IPv4 one.

    Clients are compared by those, and sockets for both families tell the others to who signs.
    """
    found = ip_network(text)
    mapped = found.network_address.ipv4_mapped if isinstance(found, IPv6Network) else None
    if mapped is None or found.prefixlen < _MAPPED_BITS:
        return found
    return IPv4Network((mapped, found.prefixlen - _MAPPED_BITS))


def _read_websocket(name: str, value: str) -> bool:
    if value not in ("yes", "no"):
        raise BadTermError(name, "has to be yes or no")
    return value == "yes"


def _read_body_only(name: str, value: str) -> bool:
    if value != "only":
        raise BadTermError(name, "has to be only, or stand with a path: body.model")
    return True


_READERS: Final[Mapping[str, tuple[str, Callable[[str, str], object]]]] = {
    "user": ("user", _read_user),
    "uses": ("uses", _read_uses),
    "seconds": ("seconds", _read_seconds),
    "tokens": ("tokens", _read_tokens),
    "bytes": ("length", _read_length),
    "plan": ("plan", _read_plan),
    "origin": ("origins", _read_origins),
    "client": ("clients", _read_clients),
    "websocket": ("websocket", _read_websocket),
    "body": ("body_only", _read_body_only),
}

NAMES: Final = (*_READERS, "tag.", "body.")
"""Every term's name; those that end in a dot go on."""
