"""pydantic's complaints, in our own words: what is expected, what kind of thing was found.

Never the thing itself, which pydantic would gladly repeat.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from swproxy.config.faults import Place, kind

__all__ = ["translate", "unknown_key"]

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
