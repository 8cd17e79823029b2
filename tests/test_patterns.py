"""Regular expressions that Python 3.11.2, Debian 12's, reads otherwise than its documentation.

Until 3.11.5 a possessive repetition of a group ends where the last, failed repetition had come to,
not where it began (CPython issue 100061). With an atomic group inside it is right everywhere.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import swproxy

ROOT = Path(swproxy.__file__).parent
# What may stand before a possessive sign: an escape, a class, a group's end, another character.
_PIECES = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?>|\(|\)(?:[*+?]|\{[0-9,]*\})\+|\)|.", re.DOTALL
)


def possessive_groups(pattern: str) -> Iterator[str]:
    """Return how those groups begin that a possessive sign follows."""
    if re.match(r"[*+?]\+", pattern):
        yield ""  # it follows another piece of the pattern
    begun: list[str] = []
    for piece in _PIECES.findall(pattern):
        if piece.startswith("("):
            begun.append(piece)
        elif piece.startswith(")") and begun:
            opening = begun.pop()
            if len(piece) > 1:
                yield opening


def literals(path: Path) -> Iterator[str]:
    """Return the texts in a module, bytes too; a pattern that is put together, piece by piece."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            value = node.value
            yield value if isinstance(value, str) else value.decode("latin-1")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (r"(?:ab?c)++", ["("]),
        (r"(?>ab?c)++x(a)+", ["(?>"]),
        (r"(a|(?:b)*+){2,3}+", ["(", "("]),
        (r"++", [""]),
        (r"[(?:)*+]\)*+[^]()]++(?>a)*+", ["(?>"]),
    ],
)
def test_they_are_found(pattern: str, found: list[str]) -> None:
    assert list(possessive_groups(pattern)) == found


def test_possessive_groups_are_atomic() -> None:
    wrong = {
        f"{path.relative_to(ROOT)}: {text}"
        for path in ROOT.rglob("*.py")
        for text in literals(path)
        if any(opening != "(?>" for opening in possessive_groups(text))
    }
    assert wrong == set()
