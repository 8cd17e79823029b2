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

The path is hashed as it came; the Python client escapes it once more, `%` included.
"""

import re
from collections.abc import Mapping
from urllib.parse import quote, quote_plus, unquote_to_bytes

from swproxy.sw1.canonical import PARAMETERS, SIGNATURE, canonical_query
from swproxy.sw1.refusal import Refusal

__all__ = ["decode_value", "show", "spellings", "split_target"]

_NAMES = frozenset((*PARAMETERS, SIGNATURE))
_LOWER_NAMES = {name.lower(): name for name in _NAMES}

_TARGET = re.compile(rb"/[!-~]*")
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")

# Text that every spelling above writes alike: the common case, settled by one match.
_ONE_SPELLING = re.compile(
    "(?:[0-9A-Za-z._~-]|%(?:[0189A-F][0-9A-F]|2[2-6BCF]|3[A-F]|[46]0|5[B-E]|7[BCDF]))*"
)


def show(text: str, limit: int = 80) -> str:
    """Quote untrusted text for a sentence: escaped to printable ASCII and cut to `limit`."""
    cut = text[:limit]
    return ascii(cut) + ("..." if len(text) > limit else "")


def split_target(target: bytes) -> tuple[str, dict[str, str]]:
    """Split a request target into its path and its eight signing parameters, still encoded.

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
    for pair in query.split("&"):
        name, equals, value = pair.partition("=")
        if name not in _NAMES:
            _check_foreign(pair)
        elif name in found:
            raise Refusal("parameter-duplicate", f"{name} is given more than once.")
        elif not equals:
            raise Refusal("parameter-missing", f"{name} has no value.")
        else:
            found[name] = value
    if len(found) != len(_NAMES):
        raise _missing(found)
    return path, found


def _check_foreign(pair: str) -> None:
    """Refuse a pair that is not ours but that some other reader might take for ours."""
    for part in pair.split(";"):
        raw = part.partition("=")[0]
        name = unquote_to_bytes(raw.replace("+", " ")).decode("utf-8", "replace").strip()
        if not name.lower().startswith("x-sw-"):
            continue
        known = _LOWER_NAMES.get(name.lower())
        if known is None:
            raise Refusal("parameter-unknown", f"{show(name)} is no parameter of this scheme.")
        raise Refusal(
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


def spellings(path: str, raw: Mapping[str, str], decoded: Mapping[str, str]) -> tuple[bytes, ...]:
    """Return every path LF canonical query that a client may have hashed, likeliest first."""
    received = canonical_query([raw[name] for name in PARAMETERS])
    queries = [received]
    values = [decoded[name] for name in PARAMETERS]
    if not all(_ONE_SPELLING.fullmatch(raw[name]) for name in PARAMETERS):
        queries += [
            canonical_query(map(quote_plus, values)),
            canonical_query([quote(value, safe="!'()*") for value in values]),
            canonical_query([quote(value, safe="") for value in values]),
        ]
    texts = [f"{path}\n{query}" for query in queries]
    if path != "/":
        texts.append(f"{quote(path)}\n{queries[min(1, len(queries) - 1)]}")
    return tuple([text.encode("ascii") for text in dict.fromkeys(texts)])
