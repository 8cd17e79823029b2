"""What is wrong with a configuration, told in our own words and without any value.

A value may be a secret, or hold one after its references were replaced. So a fault says where
it is, what is expected and what kind of thing was found instead, but never repeats what it was.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

__all__ = ["ConfigError", "Fault", "Place", "key_path", "kind", "translate", "unknown_key"]


# Where in a TOML document something is: keys, and indexes into lists.
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong: in which file, at which key ("" for the whole file), and why."""

    file: Path
    key: str
    reason: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (str(self.file), self.key, self.reason)))


class ConfigError(Exception):
    """A configuration that cannot be used; `faults` lists everything wrong with it."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "true or false"),
    (int, "a whole number"),
    (float, "a number"),
    (str, "text"),
    (list, "a list"),
    (dict, "a table"),
    ((datetime, date, time), "a date or time"),
)


def kind(value: object) -> str:
    """Say what kind of thing a TOML value is: "text", "a whole number", "a table" ..."""
    return next((name for type_, name in _KINDS if isinstance(value, type_)), "nothing usable")


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def key_path(place: Place) -> str:
    """Spell a place in a TOML document as TOML would: `apps.my-app.secrets[0]`."""
    spelled = ""
    for part in place:
        if isinstance(part, int):
            spelled += f"[{part}]"
        else:
            key = part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            spelled += f".{key}" if spelled else key
    return spelled


_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}
_BOUNDS = {
    "greater_than": "has to be more than {gt:g}",
    "greater_than_equal": "has to be at least {ge:g}",
    "less_than": "has to be less than {lt:g}",
    "less_than_equal": "has to be at most {le:g}",
    "too_short": "needs at least {min_length} of them, has {actual_length}",
    "too_long": "takes at most {max_length} of them, has {actual_length}",
    "finite_number": "has to be a finite number",
    "missing": "is required",
}


def translate(
    error: ValidationError,
    known: Callable[[Place], Iterable[str]],
    homes: Mapping[str, str],
) -> list[tuple[Place, str]]:
    """Turn pydantic's complaints into places and reasons of our own.

    `known` tells which keys are allowed at the place of one that is not; `homes`, where each key
    of the whole configuration belongs.
    """
    details = error.errors(include_url=False)
    places = [_place(each["loc"]) for each in details]
    return [
        (place, _reason(detail, known, homes))
        for place, detail in zip(places, details, strict=True)
        # A list is also said to be too short when its only item is wrong: once is enough.
        if not any(other[:-1] == place for other in places if other)
    ]


def _place(loc: Place) -> Place:
    # A complaint about a table's key, not its value, ends with this mark.
    return loc[:-1] if loc[-1:] == ("[key]",) else loc


def _reason(
    detail: ErrorDetails, known: Callable[[Place], Iterable[str]], homes: Mapping[str, str]
) -> str:
    type_, context = detail["type"], detail.get("ctx", {})
    if type_ == "value_error":
        return str(context["error"])
    if type_ in _EXPECTED:
        return f"expects {_EXPECTED[type_]}, got {kind(detail['input'])}"
    if type_ in _BOUNDS:
        return _BOUNDS[type_].format(**context)
    if type_ == "extra_forbidden":
        return unknown_key(str(detail["loc"][-1]), known(detail["loc"]), homes)
    # Not reached by the models there are; pydantic's own sentence holds no value either.
    return detail["msg"].lower()


def unknown_key(name: str, known: Iterable[str], homes: Mapping[str, str]) -> str:
    """Say that a key means nothing here, and which one may have been meant."""
    if name in homes:
        return f"is not a key here: it belongs in {homes[name]}"
    close = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
    return f'is not a key: did you mean "{close[0]}"?' if close else "is not a key"
