"""From a raw request target to its signing parameters, each once, each cleanly encoded.

Two readers of one query must never come to different answers, so whatever could be read in two
ways is refused rather than resolved: a name twice, in another case, with an escape in it, or
behind a `;` that some parsers take for a separator; an escape that is none; bytes that are not
UTF-8; control characters. Names outside `X-Sw-` are somebody else's (a cache buster, a campaign
tag): they are skipped, not signed, and not forwarded.

A value has several correct spellings. Clients hash the one they write themselves, and the URL may
be spelt anew on its way (a browser writes `'` as `%27`; a proxy may write a space its own way).
So the same decoded values are offered in every spelling that a client is known to hash:

    as it came          whatever wrote it, if nothing on the way changed it
    form                space as `+`, all but unreserved characters escaped (Python, Ruby)
    component           space as `%20`, but `! ' ( ) *` bare (JavaScript)
    strict              all but unreserved characters escaped (RFC 3986, section 2.3)

The path is hashed as it came; the Python client escapes what it was given, which is either the path
as it came (so `%` is escaped too) or, if its HTTP library did some escaping, the decoded path.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus, unquote_to_bytes

from swproxy.sw1.canonical import PARAMETERS, SIGNATURE, canonical_query
from swproxy.sw1.refusal import Refusal

__all__ = ["decode_value", "disguised_names", "show", "spellings", "split_target"]

_NAMES = frozenset((*PARAMETERS, SIGNATURE))
_LOWER_NAMES = {name.lower(): name for name in _NAMES}

_TARGET = re.compile(rb"/[!-~]*")
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")

# A name that starts with x-sw- in any case, escaped or not, behind white space or a `;`.
_DISGUISED = re.compile(
    "(?:^|(?<=[&;]))(?P<name>(?>[+]|%[01][0-9a-f]|%20)*+"
    "(?:x|%[57]8)(?:-|%2d)(?:s|%[57]3)(?:w|%[57]7)(?:-|%2d)[^=&;]*+)",
    re.IGNORECASE,
)

# Text that every spelling above writes alike: the common case, settled by one match. Possessive,
# so that a long near miss costs no backtracking.
_ONE_SPELLING = re.compile(
    "(?>[0-9A-Za-z._~-]++|%(?:[0189A-F][0-9A-F]|2[2-6BCF]|3[A-F]|[46]0|5[B-E]|7[BCDF]))*+"
)


def show(text: str, limit: int = 80) -> str:
    """Quote untrusted text for a sentence: escaped to printable ASCII and cut to `limit`."""
    cut = text[:limit]
    return ascii(cut) + ("..." if len(text) > limit else "")


def split_target(target: bytes) -> tuple[str, dict[str, str]]:
    """Split a request target into its path and its signing parameters, still encoded.

    Raise Refusal for a target that is not origin-form (RFC 9112, section 3.2.1), and for a
    signing parameter that is missing, repeated, unknown or not written plainly.
    """
    if not _TARGET.fullmatch(target) or b"#" in target:
        raise Refusal(
            "target-invalid",
            "The request target must be a path and a query in visible ASCII, without a fragment.",
        )
    path, _, query = target.decode("ascii").partition("?")
    found: dict[str, str] = {}
    foreign: list[str] = []
    for pair in query.split("&"):
        name, equals, value = pair.partition("=")
        if name not in _NAMES:
            foreign.append(pair)
        elif name in found:
            raise Refusal("parameter-duplicate", f"{name} is given more than once.")
        elif not equals:
            raise Refusal("parameter-missing", f"{name} has no value.")
        else:
            found[name] = value
    for fault in disguised_names("&".join(foreign)):
        raise fault
    if len(found) != len(_NAMES):
        raise _missing(found)
    return path, found


def disguised_names(query: str) -> Iterator[Refusal]:
    """Yield what is wrong with names that are not ours but that some reader might take for ours.

    One scan: a target may hold thousands of pairs, and decoding each would cost milliseconds.
    """
    for match in _DISGUISED.finditer(query):
        name = unquote_to_bytes(match["name"].replace("+", " ")).decode("utf-8", "replace").strip()
        known = _LOWER_NAMES.get(name.lower())
        if known is None:
            yield Refusal("parameter-unknown", f"{show(name)} is no parameter of this scheme.")
        else:
            yield Refusal(
                "parameter-misspelled",
                f"{known} must be written exactly so, and stand between '&' signs.",
            )


def _missing(found: Mapping[str, str]) -> Refusal:
    if not found:
        return Refusal(
            "parameter-missing",
            "This URL is not signed: it has none of the X-Sw- query parameters.",
        )
    absent = ", ".join(sorted(_NAMES.difference(found)))
    return Refusal("parameter-missing", f"The URL lacks {absent}.")


def decode_value(name: str, raw: str) -> str:
    """Decode one parameter's value: `+` is a space, escapes are UTF-8, controls are refused."""
    if "%" not in raw and "+" not in raw:
        return raw
    if _BAD_ESCAPE.search(raw):
        raise Refusal(
            "parameter-encoding",
            f"{name} has a '%' that two hexadecimal digits do not follow.",
        )
    try:
        value = unquote_to_bytes(raw.replace("+", " ")).decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal("parameter-encoding", f"{name} is not UTF-8 once decoded.") from None
    if _CONTROL.search(value):
        raise Refusal("parameter-control-character", f"{name} holds a control character.")
    return value


def spellings(
    path: str, raw: Mapping[str, str], decoded: Mapping[str, str]
) -> tuple[tuple[str, bytes], ...]:
    """Return every path LF canonical query that a client may have hashed, likeliest first.

    Each comes with a few words on how it is spelt; each differs from all others.
    """
    received = [raw[name] for name in PARAMETERS]
    query = canonical_query(received)
    texts = {f"{path}\n{query}": "as received"}
    # Joined without a separator: every escape is whole, so none can arise across a seam.
    if not _ONE_SPELLING.fullmatch("".join(received)):
        values = [decoded[name] for name in PARAMETERS]
        for words, write in _WRITERS:
            query = canonical_query(_respell(values, write))
            texts.setdefault(f"{path}\n{query}", words)
        query = canonical_query(_respell(values, quote_plus))
    if path != "/":
        texts.setdefault(f"{quote(path)}\n{query}", "path escaped once more")
        texts.setdefault(f"{quote(unquote_to_bytes(path))}\n{query}", "path escaped anew")
    return tuple([(words, text.encode("ascii")) for text, words in texts.items()])


def _component(value: str) -> str:
    return quote(value, "!'()*")


def _strict(value: str) -> str:
    return quote(value, "")


_WRITERS = (
    ("space as +, ! ' ( ) * escaped", quote_plus),
    ("space as %20, ! ' ( ) * bare", _component),
    ("space as %20, ! ' ( ) * escaped", _strict),
)


def _respell(values: Iterable[str], write: Callable[[str], str]) -> list[str]:
    # Dates, numbers and flags are written alike by all; skipping them halves the cost.
    return [v if v.isalnum() and v.isascii() else write(v) for v in values]
