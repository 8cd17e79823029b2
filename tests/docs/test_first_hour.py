"""docs/first-hour.md: the table is of the script that is there, and nothing in it was left out."""

import os
import re

from tests.support import ROOT
from tests.support.pages import DOCS, block

INSIDE = ROOT / ".ci" / "first-hour-inside"


def test_the_table_has_the_steps_of_the_script_with_seconds_on_both() -> None:
    steps = re.findall(r"^step '(.*)'", INSIDE.read_text(), re.MULTILINE)
    page = (DOCS / "first-hour.md").read_text()
    table = re.findall(r"^\| (.+) \| (.*) \| (.*) \|$", page, re.MULTILINE)
    assert [name for name, _, _ in table[2:]] == steps
    for _, *seconds in table[2:]:
        assert all(re.fullmatch(r"\d+\.\d", each) for each in seconds)


def test_the_script_that_is_named_is_there_and_takes_blocks_that_are() -> None:
    command, *suites = block("first-hour").split()
    assert os.access(ROOT / command, os.X_OK)
    assert suites == ["bookworm", "trixie"]
    for name in re.findall(r"\$\(block ([\w.-]+)|run_block ([\w.-]+)", INSIDE.read_text()):
        assert block(next(filter(None, name)))
