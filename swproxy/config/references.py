r"""References in configured text: `${NAME}` and `${file:PATH}`, and `$${` for a plain `${`.

Text is expanded in one pass, so what a variable or file holds is never itself expanded. Faults
name the reference, which is no secret, and never what it stands for. A `${...}` that is not of
the form of a reference is not repeated either: somebody may have put the secret itself there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["BadReferenceError", "Reference", "expand", "split"]

_TOKEN = re.compile(r"\$\$\{|\$\{(?P<inside>[^{}]*)\}|\$\{")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)|file:(?P<path>[^\s\0](?:[^\0\n]*\S)?)")


class BadReferenceError(ValueError):
    """One or more references that cannot be replaced; its text names them."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference: an environment variable's name, or a file's path."""

    name: str = ""
    path: str = ""

    def __str__(self) -> str:
        return f"${{{self.name or 'file:' + self.path}}}"


def split(text: str) -> list[str | Reference]:
    """Take text apart into its plain parts and references; BadReferenceError if malformed."""
    parts: list[str | Reference] = []
    end = 0
    for token in _TOKEN.finditer(text):
        if token.start() > end:
            parts.append(text[end : token.start()])
        end = token.end()
        parts.append("${" if token[0] == "$${" else _reference(token["inside"]))
    if end < len(text):
        parts.append(text[end:])
    return parts


def _reference(inside: str | None) -> Reference:
    form = _INSIDE.fullmatch(inside or "")
    if form is None:
        raise BadReferenceError(
            "has a ${ that begins no reference: write ${NAME} for an environment variable,"
            " ${file:PATH} for a file's content, or $${ for the two characters themselves"
        )
    return Reference(form["name"] or "", form["path"] or "")


def expand(text: str, resolve: Callable[[Reference], str]) -> str:
    """Replace every reference in `text` by what `resolve` answers.

    `resolve` raises BadReferenceError for one that it cannot replace; all of them are told at once.
    """
    if "${" not in text:
        return text
    result: list[str] = []
    faults: list[str] = []
    for part in split(text):
        try:
            result.append(resolve(part) if isinstance(part, Reference) else part)
        except BadReferenceError as fault:
            faults.append(str(fault))
    if faults:
        raise BadReferenceError("; ".join(dict.fromkeys(faults)))
    return "".join(result)
