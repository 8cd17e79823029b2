"""Terms of a JSON body: where to look, and what may stand there.

A path is names joined by `.`, each percent-decoded behind the split; a whole number is an item of a
list where there is a list. A `?` behind the path lets the value be absent.

What may stand there are alternatives, joined by commas:

    1..800  ..2  0.5..   a number, bounds included. Whole bounds take whole numbers only, written
                         as such: `1.0` and `1e2` are none, for readers differ on them
    true  false  null    that JSON value; so is a number
    gpt-5-*              a text that begins so
    "true"  "a,b*"       that text, written as a JSON string
    anything else        exactly that text
    -                    alone: must be absent

Values are compared as JSON means them, never as a language would: 1 is not true, and a number is
compared exactly, in decimal.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from swproxy.sw1.query import show

__all__ = [
    "SAFE_WHOLE",
    "BadTermError",
    "BodyTerm",
    "Range",
    "decode",
    "read_body_term",
    "written_path",
]

SAFE_WHOLE: Final = 2**53
"""Up to here every reader of JSON has the same whole number (RFC 8259, section 6)."""

DEEPEST: Final = 64

_BAD_ESCAPE: Final = re.compile("%(?![0-9A-Fa-f]{2})")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# What can only be meant as a range; whether it is one is told.
_RANGE_LIKE: Final = re.compile(r"([0-9eE+.-]*?)\.\.([0-9eE+.-]*)")
_ALTERNATIVE: Final = re.compile(r'("(?>[^"\\]|\\.)*+"|[^",][^,]*+)(,|\Z)', re.DOTALL)
# A double's exponent has three digits; Decimal takes a million, which nobody means.
_LONGEST_NUMBER: Final = 40

# The URLs of an application say the same of a body, for one user after the other. The length bounds
# the memory that this takes, whoever sends the URLs.
_REMEMBERED_CHARACTERS: Final = 256


class BadTermError(ValueError):
    """A term that cannot be meant; the reason is half a sentence whose subject is the term.

    `name` is the term as it was written, None where the fault is in all of them.
    """

    def __init__(self, name: str | None, reason: str) -> None:
        super().__init__(reason)
        self.name = name
        self.reason = reason

    def sentence(self) -> str:
        """Return the fault as a sentence for whoever signed."""
        subject = "The terms" if self.name is None else f"The term {show(self.name)}"
        return f"{subject} {self.reason}."


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included; None is no bound."""

    low: int | Decimal | None
    high: int | Decimal | None
    whole: bool
    """takes whole numbers only"""

    def permits(self, number: int | Decimal) -> bool:
        """Whether a number, an int if it is written as a whole one, is in the range."""
        if self.whole and type(number) is not int:
            return False
        if self.low is not None and number < self.low:
            return False
        return self.high is None or number <= self.high


@dataclass(frozen=True, slots=True)
class BodyTerm:
    """What may stand at one place of a body."""

    path: tuple[str, ...]
    text: str
    """the value as it was written, for people"""
    optional: bool = False
    absent: bool = False
    texts: frozenset[str] = field(default=frozenset(), repr=False)
    prefixes: tuple[str, ...] = field(default=(), repr=False)
    constants: tuple[bool | None, ...] = field(default=(), repr=False)
    ranges: tuple[Range, ...] = field(default=(), repr=False)
    configured: bool = False
    """by whoever runs the proxy: what it permits is not for the page to know"""

    def __hash__(self) -> int:
        # What the rest is read from; terms are looked up with every request that has any.
        return hash((self.path, self.text, self.optional))

    @property
    def name(self) -> str:
        """The term's name, as it would be written: `body.messages.0.role`."""
        return f"body.{written_path(self.path)}"

    def permits(self, value: object) -> bool:
        """Whether a value may stand there: str, bool, None, or a number as `Range` takes it."""
        if type(value) is str:
            return value in self.texts or value.startswith(self.prefixes)
        if value is None or value is True or value is False:
            return value in self.constants
        if isinstance(value, int | Decimal):
            for numbers in self.ranges:
                if numbers.permits(value):
                    return True
        return False


def written_path(path: tuple[str, ...]) -> str:
    """Write a path so that it is read again."""
    return ".".join(quote(part, "").replace(".", "%2E") for part in path)


def decode(name: str, text: str) -> str:
    """Percent-decode a part of the term `name`; raises BadTermError."""
    if "%" not in text:
        return text
    if _BAD_ESCAPE.search(text):
        raise BadTermError(name, "has a '%' that two hexadecimal digits do not follow")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise BadTermError(name, "is not UTF-8 once decoded") from None


def read_body_term(name: str, path: str, value: str) -> BodyTerm:
    """Read a path, still encoded, and its decoded value; raises BadTermError.

    `name` is the whole of the term's name, for complaints.
    """
    if len(name) + len(value) > _REMEMBERED_CHARACTERS:
        return _read(name, path, value)
    return _remembered(name, path, value)


def _read(name: str, path: str, value: str) -> BodyTerm:
    optional = path.endswith("?")
    parts = path.removesuffix("?").split(".")
    if "" in parts:
        raise BadTermError(name, "has a path with an empty name in it")
    if any("?" in part for part in parts):
        raise BadTermError(name, "has a '?' before the end of its path; %3F is one in a name")
    if len(parts) > DEEPEST:
        raise BadTermError(name, f"has a path of more than {DEEPEST} names")
    names = tuple([decode(name, part) for part in parts])
    if value == "-":
        return BodyTerm(names, value, optional, absent=True)
    alternatives = _Alternatives(name)
    for text in _split(name, value):
        alternatives.add(text)
    return BodyTerm(
        names,
        value,
        optional,
        texts=frozenset(alternatives.texts),
        prefixes=tuple(alternatives.prefixes),
        constants=tuple(alternatives.constants),
        ranges=tuple(alternatives.ranges),
    )


_remembered: Final = lru_cache(maxsize=1024)(_read)


def _split(name: str, value: str) -> list[str]:
    """Split a value at its commas, but for those between double quotes."""
    found = []
    position = 0
    while True:
        match = _ALTERNATIVE.match(value, position)
        if match is None:
            quoted = value.startswith('"', position)
            fault = "has a text in double quotes that is none" if quoted else "has an empty value"
            raise BadTermError(name, f"{fault} among its alternatives")
        found.append(match[1])
        position = match.end()
        if not match[2]:
            return found


class _Alternatives:
    """The alternatives of one term, by kind."""

    def __init__(self, name: str) -> None:
        self.texts: list[str] = []
        self.prefixes: list[str] = []
        self.constants: list[bool | None] = []
        self.ranges: list[Range] = []
        self._name = name

    def add(self, text: str) -> None:
        if text.startswith('"'):
            self.texts.append(self._quoted(text))
        elif text in _CONSTANTS:
            self.constants.append(_CONSTANTS[text])
        elif text == "-":
            raise BadTermError(self._name, 'has a - among others; the text is written "-"')
        elif _NUMBER.fullmatch(text):
            number, whole = self._number(text)
            self.ranges.append(Range(number, number, whole))
        elif match := _RANGE_LIKE.fullmatch(text):
            self.ranges.append(self._range(match[1], match[2]))
        elif text.endswith("*"):
            self.prefixes.append(text[:-1])
        else:
            self.texts.append(text)

    def _quoted(self, text: str) -> str:
        try:
            value: str = json.loads(text, strict=False)
            value.encode()
        except ValueError:
            raise BadTermError(
                self._name, "has a text in double quotes that is no JSON string"
            ) from None
        return value

    def _range(self, low: str, high: str) -> Range:
        if not low and not high:
            raise BadTermError(self._name, 'has a range without bounds; the text is written ".."')
        bounds = [self._number(text) if text else None for text in (low, high)]
        first, last = (None if bound is None else bound[0] for bound in bounds)
        if first is not None and last is not None and first > last:
            raise BadTermError(self._name, "has a range that ends before it begins")
        return Range(first, last, all(bound is None or bound[1] for bound in bounds))

    def _number(self, text: str) -> tuple[int | Decimal, bool]:
        match = _NUMBER.fullmatch(text)
        if match is None:
            raise BadTermError(self._name, "has a range with a bound that is not a JSON number")
        if len(text) > _LONGEST_NUMBER or abs(float(text)) == float("inf"):
            raise BadTermError(self._name, "has a number that not every reader can hold")
        if match[1] or match[2]:
            return Decimal(text), False
        if abs(int(text)) > SAFE_WHOLE:
            raise BadTermError(self._name, "has a whole number beyond 2^53, where readers differ")
        return int(text), True


_CONSTANTS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
