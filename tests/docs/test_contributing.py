"""CONTRIBUTING.md: the single tests that it runs are there."""

import sys

from tests.support import ROOT
from tests.support.pages import block
from tests.support.shell import shell


def test_tests_can_be_run_one_by_one() -> None:
    for command in block("one").splitlines():
        assert command.startswith(".venv/bin/python -m pytest -q ")
        script = command.replace(".venv/bin/python", sys.executable, 1)
        done = shell(ROOT, f"{script} --collect-only -p no:cacheprovider")
        assert done.returncode == 0, done.stdout
