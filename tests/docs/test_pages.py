"""All pages for people: every block is run by a test, and every link leads somewhere."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support import ROOT
from tests.support.pages import DOCS, PAGES, README, all_blocks

LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
RUNNERS = [
    *(ROOT / "tests" / "docs").glob("*.py"),
    *(ROOT / "tests" / "system").glob("*.py"),
    ROOT / "tests" / "support" / "stage.py",
]


def without_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of headings."""
    titles = re.findall(r"^#+ (.*)$", without_blocks(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
    return {title.replace(" ", "-") for title in plain}


def links(page: Path) -> list[str]:
    return ["".join(found) for found in LINK.findall(without_blocks(page))]


def taken_by(path: Path) -> Iterator[str]:
    """Give the blocks that a test takes: by name, or as one of a list of names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node.func, ast.Name) else name
            parts = node.args[:1] if name in ("block", "guide", "run", "running", "save") else []
        elif isinstance(node, ast.List | ast.Tuple):
            parts = node.elts
        else:
            continue
        yield from (str(part.value) for part in parts if isinstance(part, ast.Constant))


def test_every_block_is_run_by_a_test() -> None:
    taken = {name for path in RUNNERS for name in taken_by(path)}
    for each in all_blocks():
        assert each.name, f"{each.page.name}: a block without a name: {each.text}"
        assert each.name in taken, f"{each.page.name}: no test takes the block {each.name}"


def test_no_block_is_hidden_in_a_list() -> None:
    for page in PAGES:
        assert not re.findall(r"^[ >].*```", page.read_text(), re.MULTILINE), page.name


def test_names_of_blocks_are_unique() -> None:
    names = [each.name for each in all_blocks()]
    assert sorted(set(names)) == sorted(names)


def test_code_fits_a_phone() -> None:
    for each in all_blocks():
        lines = re.sub(r"\$\{file:\S+", "", each.text).splitlines()
        assert max(map(len, lines)) <= 55, each.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_the_readme_leads_to_every_page() -> None:
    assert {f"docs/{page.name}" for page in DOCS.glob("*.md")} <= set(links(README))


def test_pictures_are_pictures_and_shown() -> None:
    shown = {Path(target).name for page in PAGES for target in links(page) if "images/" in target}
    pictures = list((DOCS / "images").iterdir())
    assert {path.name for path in pictures} == shown
    for path in pictures:
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
        else:
            assert path.read_bytes().startswith(b"\x89PNG")
