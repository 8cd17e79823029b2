"""A request body as JSON, read so that nobody reads it differently.

The theory. A proxy that checks one reading of a body while the API acts on another checks nothing.
JSON has many readers, and they differ: on which of two equal names counts, on names that differ in
case alone, on bytes that are no UTF-8, on halves of surrogate pairs, on numbers that a double does
not hold. None of that is for us to settle, since we don't know who reads next. So a body is either
such that every reader finds the same in it, or it is not checkable, and refused. Nothing is
repaired and nothing is written anew: what is passed on are the very bytes that came.

What is refused here is refused wherever in the body it stands; what matters only where a term looks
(letter case, whole numbers beyond 2^53) is left to `policy.body_judge`.

The standard library's decoder does the reading. It is the one fast reader that hands out a name
that is given twice; the others silently take the last. It is recursive and gives up at a depth that
depends on who calls, so the depth is measured on what it has read, without recursion.

A large body is read in a thread, and a thread lets the others go on only between two steps of
Python. Reading a list, a text or the names of an object takes no such step, nor does letting go of
a list of numbers. So there are bounds on how many of them a body may have, far beyond what requests
to a model have: at them, 3 ms pass between two steps.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, Final, NoReturn

from swproxy.sw1.query import show
from swproxy.sw1.refusal import Refusal

__all__ = [
    "DEEPEST",
    "MOST_CONTAINERS",
    "MOST_TEXTS",
    "MOST_VALUES",
    "read_object",
    "uncheckable",
]

DEEPEST: Final = 64
"""Objects and lists within each other, the body itself included."""

MOST_CONTAINERS: Final = 16_384
"""Objects and lists."""

MOST_TEXTS: Final = 16_384
"""Texts, names included."""

MOST_VALUES: Final = 65_536
"""Members of objects and items of lists, of any kind."""

_LONGEST_NUMBER: Final = 400
"""Characters. A double is never printed with more than some 320."""

_STRUCTURE: Final = re.compile(r'"(?>[^"\\]++|\\.)*+"?|[\[{,]', re.DOTALL)
_STEP: Final = 65536
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def uncheckable(reason: str, *, status: int | None = None) -> Refusal:
    """Return the refusal of a body that readers may take for different things."""
    return Refusal("body-not-checkable", f"The body cannot be checked: {reason}.", status=status)


def read_object(data: bytes) -> dict[str, Any]:
    """Return the one JSON object that a body is.

    Whole numbers are int, all others Decimal; so is `-0`, a whole number to some readers only.
    Raises Refusal ("body-not-checkable"), saying why.
    """
    if data.startswith(b"\xef\xbb\xbf"):
        raise uncheckable("it begins with a byte order mark")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise uncheckable(f"it is not UTF-8 at byte {error.start}") from None
    if len(data) > MOST_CONTAINERS:
        _check_counts(text)
    try:
        body = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise uncheckable(f"it is not JSON at character {error.pos} ({error.msg})") from None
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(body, dict):
        raise uncheckable("it is not a JSON object")
    # Few bodies need to be walked, although brackets inside texts count here.
    if text.count("{") + text.count("[") > DEEPEST:
        _check_depth(body)
    if "\\" in text and _escapes_surrogates(text):
        _check_texts(body)
    return body


def _check_counts(text: str) -> None:
    """Bound how much there is in a body; what stands inside texts is not counted."""
    containers = text.count("{") + text.count("[")
    texts = text.count('"') // 2
    if containers <= MOST_CONTAINERS and texts <= MOST_TEXTS and text.count(",") < MOST_VALUES:
        return
    containers = texts = values = 0
    for match in _STRUCTURE.finditer(text):
        character = text[match.start()]
        if character == '"':
            texts += 1
        elif character == ",":
            values += 1
        else:
            containers += 1
            values += 1
        if containers > MOST_CONTAINERS or texts > MOST_TEXTS or values > MOST_VALUES:
            raise uncheckable(
                f"it has more than {MOST_CONTAINERS} objects and lists, {MOST_TEXTS} texts,"
                f" or {MOST_VALUES} values"
            )


def _escapes_surrogates(text: str) -> bool:
    """Tell whether there may be an escaped half of a surrogate pair; looks a step at a time."""
    return any(
        _SURROGATE.search(text, start, start + _STEP + 3) is not None
        for start in range(0, len(text), _STEP)
    )


def _check_depth(body: dict[str, Any]) -> None:
    depth = 0
    level: list[Any] = [body]
    while level:
        depth += 1
        if depth > DEEPEST:
            raise _too_deep()
        level = [
            item
            for each in level
            for item in (each.values() if isinstance(each, dict) else each)
            if isinstance(item, dict | list)
        ]


def _check_texts(body: dict[str, Any]) -> None:
    """Refuse halves of surrogate pairs, which only an escape can bring in."""
    waiting: list[Any] = [body]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += each
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
        elif isinstance(each, str) and not each.isascii():
            try:
                each.encode()
            except UnicodeEncodeError:
                raise uncheckable("it has half of a surrogate pair, no character") from None


def _too_deep() -> Refusal:
    return uncheckable(f"it is nested more than {DEEPEST} deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in made if names.count(name) > 1)
        raise uncheckable(f"it gives the name {show(twice)} twice in one object")
    return made


def _whole(text: str) -> int | Decimal:
    if len(text) > _LONGEST_NUMBER:
        raise _too_long()
    return int(text) if text != "-0" else Decimal(text)


def _fraction(text: str) -> Decimal:
    if len(text) > _LONGEST_NUMBER:
        raise _too_long()
    if abs(float(text)) == float("inf"):
        raise uncheckable("it has a number that is infinite to most readers")
    return Decimal(text)


def _too_long() -> Refusal:
    return uncheckable(f"it has a number of more than {_LONGEST_NUMBER} characters")


def _constant(text: str) -> NoReturn:
    raise uncheckable(f"it has {text}, which is no JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_whole, parse_float=_fraction, parse_constant=_constant
)
