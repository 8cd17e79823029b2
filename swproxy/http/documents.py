"""JSON documents that are not all there: what can be read of them without being led astray.

A tail of a document proves where something in it stands, if the whole is well-formed: when `{`
followed by all that comes from a key on is well-formed as well, down to its last byte, then exactly
one object was open before that key, so it stands at the top. A key further in leaves brackets over;
one inside of a string has a backslash before its quote.

Every way of reading is bounded, because a caller may have written what is between.
"""

import json
import re
from typing import NamedTuple

__all__ = ["Element", "decode", "find_elements", "parse", "prove"]

_MOST_PARSED = 524288
"""Characters that come behind all the keys together that are tried, from the last on. A caller can
have filled the end with such keys, each of which is followed to a bracket that closes too much."""

_LEAST_ELEMENT = 64
"""Bytes that an element of a list has on average, at least, or it is no list of answers."""

_ELEMENT_BEGIN = re.compile(r"[ \t\r\n]*+[\[,]?[ \t\r\n]*+(?=\{)")
_ACCOUNTS = ('"usage"', '"usageMetadata"', '"prompt_eval_count"', '"eval_count"')

_RESPONSE_EVENT = re.compile(r'\s*\{\s*"(?:type"\s*:\s*"(response\.[a-z_.]+)"|response"\s*:\s*\{)')
"""How an event with a whole response in it begins; some servers write the type behind that."""

_DECODER = json.JSONDecoder()


class Element(NamedTuple):
    """Where an element of a list begins and ends."""

    start: int
    end: int


def find_elements(text: str) -> list[Element]:
    """Return where the finished objects of a list are, or of the rest of one."""
    found: list[Element] = []
    at = 0
    most = len(text) // _LEAST_ELEMENT + 1
    while (begin := _ELEMENT_BEGIN.match(text, at)) and len(found) <= most:
        try:
            _, at = _DECODER.raw_decode(text, begin.end())
        except (ValueError, RecursionError):
            return found
        found.append(Element(begin.end(), at))
    return found if len(found) <= most else []


def prove(opening: str, rest: str) -> list[object]:
    """Return what of a document without its middle is beyond doubt, as documents of its kind."""
    frame = "[{" if opening.lstrip().startswith("[") else "{"
    response = _RESPONSE_EVENT.match(opening)
    if response:
        frame = f'{{"type":"{response[1]}","response":{{' if response[1] else '{"response":{'
    proven: list[object] = []
    budget = _MOST_PARSED
    for name in _ACCOUNTS:
        at = rest.rfind(name)
        while at >= 0:
            if rest[at - 1 : at] != "\\":  # not inside of a string
                budget -= len(rest) - at
                if budget < 0:
                    break
                document = parse(frame + rest[at:])
                if document is not None:
                    proven.extend(document if isinstance(document, list) else (document,))
                    break
            at = rest.rfind(name, 0, at)
    return proven


def parse(text: str) -> object:
    """Return a JSON document's value, or None if it is malformed, unfinished or too deep."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def decode(data: bytes) -> str:
    """Make text of bytes one for one: all that is read here is ASCII, whatever the rest may be."""
    return data.decode("latin-1")
