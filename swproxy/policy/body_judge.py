"""Whether a body is what its terms say.

The body has been read by `policy.json_body`, so all readers agree on it but for two things that
matter only where a term looks. Some take a name in other letters for the one they know (Go folds
case, and the Kelvin sign K to k; protobuf takes `maxTokens` and `max_tokens` for one name); so
beside a name that a term constrains, none may stand that folds to it. And a whole number beyond
2^53 is another number to readers that keep numbers as doubles.

Terms come from several places, the URL, the application and its plan, and all of them hold.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from swproxy.policy.json_body import uncheckable
from swproxy.sw1.body_terms import SAFE_WHOLE, BodyTerm
from swproxy.sw1.query import show
from swproxy.sw1.refusal import Refusal

__all__ = ["check_mentioned", "judge_body", "unmet"]

_ABSENT: Final = object()
_INDEX: Final = re.compile("0|[1-9][0-9]{0,8}")
# Java and Go take the dotted and the dotless i for an i, which case folding alone does not.
_ODD_LETTERS: Final = {0x130: "i", 0x131: "i", ord("_"): None}


def unmet(name: str, reason: str, *, status: int | None = None) -> Refusal:
    """Return the refusal of a request that breaks the term `name`."""
    return Refusal("terms-not-met", f"The term {show(name)} is not met: {reason}.", status=status)


@dataclass(slots=True)
class _Place:
    """A place in a body at which terms look, and the places below it.

    `name` is that of a term that looks there or below. `folded` is what the names below have in
    common with those that some readers take for them.
    """

    name: str
    terms: list[BodyTerm] = field(default_factory=list)
    below: dict[str, _Place] = field(default_factory=dict)
    folded: set[str] = field(default_factory=set)


# The URLs of an application carry the same terms of a body, for one user after the other.
@lru_cache(maxsize=256)
def _places(terms: tuple[BodyTerm, ...]) -> _Place:
    """Return the body itself as a place, with all that `terms` look at below it."""
    body = _Place("body")
    for term in terms:
        place = body
        for name in term.path:
            place.folded.add(_folded(name))
            place = place.below.setdefault(name, _Place(term.name))
        place.terms.append(term)
    return body


def judge_body(body: dict[str, Any], terms: tuple[BodyTerm, ...], *, only: bool) -> None:
    """Refuse a body that is not what `terms` say.

    With `only`, it may have no top-level name that no term mentions. Raises Refusal
    ("terms-not-met", "body-not-checkable").
    """
    top = _places(terms)
    _visit(top, body)
    if only:
        check_mentioned(body, top.below)


def check_mentioned(body: Mapping[str, Any], names: Container[str]) -> None:
    """Refuse a body that has a top-level name besides `names`; raises Refusal."""
    for name in body:
        if name not in names:
            raise unmet("body", f"the body has {show(name)}, which no term mentions")


def _visit(place: _Place, value: Any) -> None:
    for term in place.terms:
        _judge(term, value)
    if not place.below:
        return
    if isinstance(value, dict):
        for name in value:
            if name not in place.below and _folded(name) in place.folded:
                raise uncheckable(f"some readers take {show(name)} for another of its names")
        for name, below in place.below.items():
            _visit(below, value.get(name, _ABSENT))
    elif isinstance(value, list):
        for name, below in place.below.items():
            if not _INDEX.fullmatch(name):
                raise unmet(below.name, "there is a list where it should have an object")
            _visit(below, value[int(name)] if int(name) < len(value) else _ABSENT)
    elif value is None or value is _ABSENT:
        # Below nothing, and below a null, there is nothing for any reader.
        for below in place.below.values():
            _visit(below, _ABSENT)
    else:
        below = next(iter(place.below.values()))
        raise unmet(below.name, "there is no object where it should have one")


def _judge(term: BodyTerm, value: object) -> None:
    if value is _ABSENT:
        if not term.optional and not term.absent:
            raise unmet(term.name, "it is not there")
    elif term.absent:
        raise unmet(term.name, "it must not be there")
    elif isinstance(value, int) and abs(value) > SAFE_WHOLE:
        raise uncheckable(f"{show(term.name)} is a whole number beyond 2^53, where readers differ")
    elif not term.permits(value):
        allowed = "something else, as configured" if term.configured else show(term.text)
        raise unmet(term.name, f"it has to be {allowed}")


def _folded(name: str) -> str:
    """Return what all names have in common that some reader takes for `name`."""
    # In C, a text ends at its first NUL.
    name = name.partition("\0")[0]
    if name.isascii():
        return name.replace("_", "").lower()
    return name.translate(_ODD_LETTERS).casefold()
