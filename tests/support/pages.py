"""The pages for people and their code blocks: what they tell people to run is what the tests run.

A block is named by the word after its language: ```` ```python backend.py ````. Its text is taken
as it stands there; what stands in for the internet is put in by whoever runs it.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support import ROOT

README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md")), ROOT / "systemd" / "README.md"]

_BLOCK = re.compile(r"^```(\w*)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its name ("" if it has none), its text, where it stands."""

    language: str
    name: str
    text: str
    page: Path


def blocks(page: Path) -> list[Block]:
    """Return every fenced block of a page, in order."""
    found = _BLOCK.findall(page.read_text())
    return [Block(language, name, text, page) for language, name, text in found]


@cache
def all_blocks() -> tuple[Block, ...]:
    """Return every fenced block of all pages."""
    return tuple(each for page in PAGES for each in blocks(page))


def block(name: str) -> str:
    """Return the text of the block of this name, on whatever page it stands."""
    [found] = [each for each in all_blocks() if each.name == name]
    return found.text
