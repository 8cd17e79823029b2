"""docs/architecture.md and the map in the package's docstring show the house as it is."""

import re
from xml.etree import ElementTree

import swproxy
from tests.support import PACKAGE
from tests.support.pages import DOCS
from tests.test_layering import ROOMS

PAGE = (DOCS / "architecture.md").read_text()
FROM_THE_TOP = list(reversed(ROOMS))


def test_every_file_named_is_there() -> None:
    named = re.findall(r"`(\w+/[\w./]*)`", PAGE)
    inside = [name for name in named if not name.startswith(("swproxy/", "tests/", "bench/"))]
    assert len(set(inside)) > 40
    assert [name for name in inside if not (PACKAGE / name).exists()] == []


def test_the_way_of_a_request_leads_through_every_file_of_its_rooms() -> None:
    for room in ("proxy", "http"):
        files = {f"{room}/{path.name}" for path in (PACKAGE / room).glob("[!_]*.py")}
        unnamed = files - set(re.findall(r"`(\w+/\w+\.py)`", PAGE))
        assert not unnamed, f"docs/architecture.md does not say what {unnamed} are for"


def test_the_table_has_the_rooms_in_their_order() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \| `(\w+)/\w+\.py` \|$", PAGE, re.MULTILINE)
    assert [room for room, _ in rows] == FROM_THE_TOP
    assert all(room == where for room, where in rows)


def test_the_picture_has_the_rooms_in_their_order() -> None:
    drawing = ElementTree.parse(DOCS / "images" / "tower.svg")
    texts = [text for text in drawing.iter("{http://www.w3.org/2000/svg}text") if text.get("y")]
    shown = [text for text in texts if text.text in ROOMS]
    assert [text.text for text in shown] == FROM_THE_TOP
    heights = [int(text.get("y", "")) for text in shown]
    assert heights == sorted(heights)


def test_the_map_in_the_source_has_the_rooms_in_their_order() -> None:
    lines = re.findall(r"^    (\w+)  +\w", swproxy.__doc__ or "", re.MULTILINE)
    assert lines == FROM_THE_TOP
