"""What is wrong with a configuration, told in our own words and without any value.

A value may be a secret, or hold one after its references were replaced. So a fault says where
it is, what is expected and what kind of thing was found instead, but never repeats what it was.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

__all__ = ["ConfigError", "Fault", "key_path", "kind", "translate", "unknown_key"]


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


def key_path(parts: Iterable[str | int]) -> str:
    """Spell a place in a TOML document: `apps.my-app.secrets[0]`."""
    spelled = ""
    for part in parts:
        if isinstance(part, int):
            spelled += f"[{part}]"
        else:
            spelled += f".{part}" if spelled else part
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
    error: ValidationError, known: Iterable[str] = (), elsewhere: Mapping[str, str] | None = None
) -> list[tuple[tuple[str | int, ...], str]]:
    """Turn pydantic's complaints into places and reasons of our own.

    `known` are the keys that are allowed where one is not; `elsewhere` maps the keys of other
    sections to the name of theirs.
    """
    details = error.errors(include_url=False)
    return [(_place(each["loc"]), _reason(each, tuple(known), elsewhere or {})) for each in details]


def _place(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    # A complaint about a table's key, not its value, ends with this mark.
    return loc[:-1] if loc[-1:] == ("[key]",) else loc


def _reason(detail: ErrorDetails, known: Iterable[str], elsewhere: Mapping[str, str]) -> str:
    type_, context = detail["type"], detail.get("ctx", {})
    if type_ == "value_error":
        return str(context["error"])
    if type_ in _EXPECTED:
        return f"expects {_EXPECTED[type_]}, got {kind(detail['input'])}"
    if type_ in _BOUNDS:
        return _BOUNDS[type_].format(**context)
    if type_ == "extra_forbidden":
        return unknown_key(str(detail["loc"][-1]), known, elsewhere)
    # Not reached by the models there are; pydantic's own sentence holds no value either.
    return detail["msg"].lower()


def unknown_key(name: str, known: Iterable[str], elsewhere: Mapping[str, str]) -> str:
    """Say that a key means nothing here, and which one may have been meant."""
    if name in elsewhere:
        return f"is not a key here: it belongs in {elsewhere[name]}"
    close = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
    return f'is not a key: did you mean "{close[0]}"?' if close else "is not a key"
