"""Writing terms: from Python's own values, or TOML's, to the fragment that is signed.

What is written is read back before it is handed out, by the reader that the proxy has, so that a
mistake is the signer's to see and not the page's. Signing loads this only when there are terms.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

from swproxy.sw1.body_terms import BadTermError
from swproxy.sw1.terms import MARK, Terms, read_pairs

__all__ = [
    "BadTermError",
    "WrongTypeError",
    "stated",
    "written_pairs",
    "written_terms",
    "written_value",
]

# What stays bare in a value, to be read by people; a fragment may hold more (RFC 3986, 3.5).
_BARE: Final = "*,/:@"
# A name is given as it is written: with %2E for a dot in a part of it, with ? behind it.
_BARE_IN_NAMES: Final = "%?"

_LARGEST: Final = 1e308

_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_RANGE: Final = re.compile(r"[0-9eE+.-]*\.\.[0-9eE+.-]*")


class WrongTypeError(BadTermError):
    """A value of a type that no term has."""


def written_terms(terms: Mapping[str, object]) -> str:
    """Return the fragment, mark included, that says `terms`, which are as `sign_url` takes them.

    Raises BadTermError.
    """
    return written_pairs([(name, written_value(name, value)) for name, value in terms.items()])


def written_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the fragment, mark included, for names and values as they are to be read.

    Raises BadTermError.
    """
    text = "&".join(
        [
            f"{_encoded(name, name, _BARE_IN_NAMES)}={_encoded(name, value, _BARE)}"
            for name, value in pairs
        ]
    )
    read_pairs(text)
    return MARK + text


def stated(terms: Terms) -> list[tuple[str, str]]:
    """Return terms as names and values that would be read as these terms."""
    pairs: list[tuple[str, object]] = [
        ("user", terms.user),
        ("uses", terms.uses),
        (
            "seconds",
            None if terms.seconds is None else f"{terms.seconds:.3f}".rstrip("0").rstrip("."),
        ),
        ("tokens", terms.tokens),
        ("bytes", terms.length),
        ("plan", terms.plan),
        ("origin", ",".join(terms.origins) or None),
        ("client", ",".join(map(str, terms.clients)) or None),
        ("websocket", None if terms.websocket is None else _TRUTH[False][terms.websocket]),
        *((f"tag.{name}", value) for name, value in terms.tags),
        *((f"{term.name}{'?' * term.optional}", term.text) for term in terms.body),
        ("body", "only" if terms.body_only else None),
    ]
    return [(name, str(value)) for name, value in pairs if value is not None]


def written_value(name: str, value: object) -> str:
    """Return a value of a natural type as it is to be read; raises BadTermError."""
    if not isinstance(name, str):
        raise BadTermError(repr(name), "is not a str")
    if isinstance(value, list | tuple):
        if not value:
            raise BadTermError(name, "has an empty list")
        return ",".join([_single(name, item) for item in value])
    return _single(name, value)


def _encoded(name: str, text: str, bare: str) -> str:
    try:
        return quote(text, bare)
    except UnicodeEncodeError:
        raise BadTermError(name, "cannot be encoded as UTF-8") from None


def _single(name: str, value: object) -> str:
    of_body = name.startswith("body.")
    if isinstance(value, range):
        if value.step != 1 or not value:
            raise BadTermError(name, "has a range() that is empty, or has steps other than 1")
        return f"{value.start}..{value.stop - 1}"
    if value is None and of_body:
        return "null"
    if isinstance(value, bool):
        if of_body or name == "websocket":
            return _TRUTH[of_body][value]
    elif isinstance(value, int | float):
        # Neither is a number to any reader: infinities, and what takes hundreds of digits.
        if not -_LARGEST < value < _LARGEST:
            raise BadTermError(name, "has a number that not every reader can hold")
        return str(value)
    elif isinstance(value, str):
        return _body_text(name, value) if of_body else value
    raise WrongTypeError(name, f"cannot have a value of the type {type(value).__name__}")


_TRUTH: Final = {True: ("false", "true"), False: ("no", "yes")}


def _body_text(name: str, text: str) -> str:
    """Write a text so that it is read as one, unless it is a range, `a*`, `-`, or quoted."""
    if text.startswith('"') or _RANGE.fullmatch(text):
        return text
    if "," in text and text.endswith("*"):
        raise BadTermError(name, "has a text with a comma and a * at its end; quote it: json.dumps")
    if "," in text or text in ("", "true", "false", "null") or _NUMBER.fullmatch(text):
        return json.dumps(text, ensure_ascii=False)
    return text
