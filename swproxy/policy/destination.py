"""Where a request goes: the URL it names, and the patterns that say whether it may.

The theory. An attack on a URL check is two readers that read one text differently: the check sees
one host, the connection goes to another. So there is one reader here, a WHATWG parser, and
everything later (Host header, SNI, dialled name, request target, pattern) is cut from its output.
That parser was made for people typing into an address bar, and repairs a great deal. Nobody types
here, so a text that would need repair is refused and the reason said: what is left is spelled the
same before and after, apart from

- letter case of scheme and host, a port that is the scheme's default, an absent path (`/`);
- an international host name, which becomes its ASCII form (UTS 46);
- characters that a target cannot carry, which are percent-encoded (`é` to `%C3%A9`, and a space
  inside of path or query to `%20`; one at the end is cut off by some and kept by others);
- an IPv6 literal, which gets its one canonical spelling;
- the fragment, which is never sent.

A host name with a trailing dot is refused: it names the same machine in DNS, but a different one to
virtual hosts, certificates and allow lists.

What must not be known here: addresses behind names. They are judged when they are dialled.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NoReturn, Self
from urllib.parse import unquote_to_bytes

from ada_url import URL, idna_to_unicode

from swproxy.sw1.refusal import Refusal

__all__ = ["Destination", "Pattern", "parse_destination"]

DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}

# RFC 1035 §2.3.4, counted without the root's dot.
HOST_CHARACTERS: Final = 253

# Pages name few destinations, again and again: parsing costs 13 microseconds, remembering 0.2. The
# length bounds the memory at a few megabytes; refusals are not remembered.
REMEMBERED_CHARACTERS: Final = 1024

_SHAPE: Final = re.compile(r"([^:/?#]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.DOTALL)
_BLANK_OR_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]|(?! )\s")
_AUTHORITY: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
# Letters, digits, hyphens, and the underscore that DNS carries although no host should be named so.
_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_DOT_SEGMENT: Final = re.compile(r"/(?:\.|%2e){1,2}(?:/|\Z)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Destination:
    """One upstream request's place, every part ready to be used as it stands."""

    scheme: str
    host: str
    """ASCII, lower case, as DNS and SNI want it; an IPv6 literal without its brackets."""
    port: int
    target: bytes
    """Path and query as they are sent."""
    authority: bytes
    """The Host header's value: without the port where that is the scheme's default."""
    origin: str
    """Scheme and authority; says nothing that a log must not hold."""
    address: IPv4Address | IPv6Address | None = None
    """The address, where the host is a literal one."""

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("https", "wss")

    @property
    def path(self) -> str:
        """The path as it is sent, without the query."""
        return self.target.partition(b"?")[0].decode("ascii")


def _refuse(reason: str) -> NoReturn:
    raise Refusal("destination-invalid", reason)


def parse_destination(url: str) -> Destination:
    """Return the destination that `url` names.

    Raises Refusal "destination-invalid", whose detail says which rule is broken.
    """
    return _remembered(url) if len(url) <= REMEMBERED_CHARACTERS else _parse(url)


def _parse(url: str) -> Destination:
    scheme, host, port, path, without_fragment = _split(url)
    if _DOT_SEGMENT.search(path):
        _refuse("The destination's path has a dot segment; write the path it stands for.")
    try:
        href = URL(without_fragment).href
    except UnicodeEncodeError:
        _refuse("The destination has half of a surrogate pair, which is not a character.")
    except ValueError:
        _refuse("The destination's host is not a valid name or address.")
    cut = href.index("/", len(scheme) + 3)
    origin = href[:cut]
    authority = origin[len(scheme) + 3 :]
    default = DEFAULT_PORTS[scheme]
    name = authority.removesuffix(f":{port}") if port and port != default else authority
    literal = _judge_host(host, name)
    return Destination(
        scheme=scheme,
        host=name.strip("[]"),
        port=port or default,
        target=href[cut:].encode("ascii"),
        authority=authority.encode("ascii"),
        origin=origin,
        address=literal,
    )


_remembered: Final = lru_cache(maxsize=1024)(_parse)


def _split(url: str) -> tuple[str, str, int | None, str, str]:
    """Return scheme, host, port, path, and the URL without its fragment, all as they were spelled.

    Only the scheme is folded to lower case.
    """
    parts = _SHAPE.fullmatch(url)
    before_path = url[: parts.start(3)] if parts else url
    if _BLANK_OR_CONTROL.search(url) or " " in before_path:
        _refuse("The destination has a blank or control character; percent-encode it.")
    if "\\" in url:
        _refuse("The destination has a backslash; percent-encode it, or write a slash.")
    if parts is None:
        _refuse("The destination is not an absolute URL: a scheme, then exactly two slashes.")
    scheme = parts[1].lower()
    if scheme not in DEFAULT_PORTS:
        _refuse("The destination's scheme is none of http, https, ws and wss.")
    if "@" in parts[2]:
        _refuse("The destination has a user name or password; credentials are configured here.")
    authority = _AUTHORITY.fullmatch(parts[2])
    if authority is None:
        _refuse("The destination's host and port cannot be told apart.")
    if not authority[1]:
        _refuse("The destination has no host; after the scheme come exactly two slashes.")
    if len(authority[1]) > HOST_CHARACTERS:
        _refuse("The destination's host is too long for a name.")
    port = _port(authority[2]) if authority[2] is not None else None
    end = parts.end(3) if parts[4] is None else parts.end(4)
    if url[:end].endswith(" "):
        _refuse("The destination ends in a blank; leave it out, or percent-encode it.")
    return scheme, authority[1], port, parts[3], url[:end]


def _port(text: str) -> int:
    if not text:
        _refuse("The destination's port is empty; leave the colon out.")
    if not _PORT.fullmatch(text) or (port := int(text)) > 65535:
        _refuse("The destination's port is not a plain number from 1 to 65535.")
    return port


def _judge_host(spelled: str, parsed: str) -> IPv4Address | IPv6Address | None:
    """Return the address of a literal host, None of a name; refuse all but the plain spelling.

    `spelled` is the host as it was given, `parsed` what the WHATWG parser made of it.
    """
    if spelled.startswith("["):
        return IPv6Address(parsed[1:-1])
    if "%" in spelled:
        _refuse("The destination's host is percent-encoded.")
    if spelled.endswith(".") or parsed.endswith("."):
        _refuse("The destination's host ends in a dot.")
    if spelled.isascii() and spelled.lower() != parsed:
        _refuse(f"The destination's host is an unusual spelling of the address {parsed}.")
    if not _NAME.fullmatch(parsed) or len(parsed) > HOST_CHARACTERS:
        _refuse("The destination's host is not a valid name: a part is empty, too long or odd.")
    if "xn--" in parsed:
        _judge_international(parsed)
    elif not spelled.isascii():
        # Full-width letters, invisible characters: nothing international about the result.
        _refuse(f"The destination's host is an unusual spelling of {parsed}.")
    return IPv4Address(parsed) if parsed.rpartition(".")[2].isdigit() else None


def _judge_international(name: str) -> None:
    """Refuse a name with a label that claims to be encoded Unicode and is not."""
    labels = idna_to_unicode(name).split(".")
    for label, shown in zip(name.split("."), labels, strict=True):
        # What cannot be decoded is left as it was; what decodes to ASCII was no need to encode.
        if label.startswith("xn--") and shown.isascii():
            _refuse("The destination's host has a label that is not valid Punycode.")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One entry of an application's `allow` list.

    `*` stands alone (everything), or in place of what comes before a domain
    (`https://*.example.com/`: every name below it, however deep, but not `example.com` itself), or
    in place of what follows a slash of the path (`/v1/*`: `/v1/` and all below it, but neither
    `/v1` nor `/v11`). Without a `*` the path is that one path; the query is always free. Scheme and
    port must be equal, where ws counts as http and wss as https. Paths are compared as they are
    sent: `%7E` and `~` differ.
    """

    text: str
    tls: bool = field(default=True, repr=False)
    host: str = field(default="", repr=False)
    """With a leading dot where the pattern is for the names below; empty for everything."""
    port: int = field(default=0, repr=False)
    path: str = field(default="/", repr=False)
    subtree: bool = field(default=True, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the pattern that `text` spells; raises ValueError with what is wrong with it."""
        if text == "*":
            return cls(text)
        scheme, slashes, rest = text.partition("://")
        if not slashes:
            raise ValueError("begins with no scheme such as https://")
        subtree = rest.endswith("/*")
        below = rest.startswith("*.")
        plain = rest[2 if below else 0 : -1 if subtree else None]
        if "*" in plain:
            raise ValueError("has a * that neither follows the last slash, nor leads the host")
        if "?" in plain or "#" in plain:
            raise ValueError("has a query or fragment; only scheme, host, port and path count")
        try:
            place = parse_destination(f"{scheme}://{plain}")
        except Refusal as refusal:
            raise ValueError(refusal.detail.replace("destination", "pattern")) from None
        if below and place.address:
            raise ValueError("has a * before an address; only names have names below them")
        if subtree and not _reads_alike(place.path):
            raise ValueError("has a path that servers read in different ways")
        host = f".{place.host}" if below else place.host
        return cls(text, place.tls, host, place.port, place.path, subtree)

    def matches(self, destination: Destination) -> bool:
        """Whether a request may go there."""
        if not self.host:
            return True
        if destination.tls is not self.tls or destination.port != self.port:
            return False
        host = destination.host
        if host != self.host and not (self.host[0] == "." and host.endswith(self.host)):
            return False
        path = destination.path
        if not self.subtree or self.path == "/":
            return self.subtree or path == self.path
        return path.startswith(self.path) and _reads_alike(path)


# What some server takes for a step upwards once it has decoded the path: a segment of dots, also
# with blanks around (Windows) or parameters after it (servlets); a backslash; a control character,
# at which C ends a string.
_STEP: Final = re.compile(r"[\x00-\x1f\x7f\\]|(?:\A|/)\s*\.[.\s]*(?:;[^/]*)?(?:/|\Z)")
# What becomes one of those where text is squeezed into an older character set.
_LOOK_ALIKES: Final = str.maketrans(
    {
        "\u2024": ".",
        "\u2025": "..",
        "\u2026": "...",
        "\ufe19": "...",
        "\ufe52": ".",
        "\uff0e": ".",
        "\u2044": "/",
        "\u2215": "/",
        "\uff0f": "/",
        "\u2216": "\\",
        "\ufe68": "\\",
        "\uff3c": "\\",
        "\ufe54": ";",
        "\uff1b": ";",
    }
)
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")

# Servers behind servers decode twice; nobody has three honest layers of encoding.
_DECODINGS: Final = 3


def _reads_alike(path: str) -> bool:
    """Whether every server finds this path below the prefix that we see it below.

    `/v1/..%2fadmin` begins with `/v1/`, and yet many servers decode it and step up. So a path that
    a pattern confines must show no step at any depth of decoding, be UTF-8 (overlong forms hide
    dots) and have whole escapes (`%u002e` is a dot to some). An encoded slash alone is fine.
    """
    if _BAD_ESCAPE.search(path):
        return False
    for _ in range(_DECODINGS):
        if _STEP.search(path if path.isascii() else path.translate(_LOOK_ALIKES)):
            return False
        if "%" not in path:
            return True
        try:
            decoded = unquote_to_bytes(path).decode()
        except UnicodeDecodeError:
            return False
        if decoded == path:
            return True
        path = decoded
    return False
