"""The code blocks of README.md, so that what it tells people to run is what the tests run.

A block is named by the word after its language: ```` ```python backend.py ````. Its text is taken
as it stands there; what stands in for the internet is put in by whoever runs it.
"""

import re
from dataclasses import dataclass
from functools import cache

from tests.support import ROOT

README = ROOT / "README.md"

_BLOCK = re.compile(r"^```(\w*)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its name ("" if it has none), its text."""

    language: str
    name: str
    text: str


@cache
def blocks() -> tuple[Block, ...]:
    """Return every fenced block, in order."""
    return tuple(Block(*found.groups("")) for found in _BLOCK.finditer(README.read_text()))


def block(name: str) -> str:
    """Return the text of the block of this name."""
    [found] = [each for each in blocks() if each.name == name]
    return found.text
