"""CONTRIBUTING.md: its commands start, and what they name is there."""

import os
import re
import sys

from click.testing import CliRunner

from bench.__main__ import main as bench
from tests.support import ROOT
from tests.support.pages import block
from tests.support.shell import shell

PYTHON = ".venv/bin/python "


def test_tests_can_be_run_one_by_one() -> None:
    for command in block("one").splitlines():
        assert command.startswith(f"{PYTHON}-m pytest -q ")
        script = command.replace(PYTHON, f"{sys.executable} ", 1)
        done = shell(ROOT, f"{script} --collect-only -p no:cacheprovider")
        assert done.returncode == 0, done.stdout


def test_the_bench_has_the_scenarios_and_the_option_named() -> None:
    told = CliRunner().invoke(bench, ["--help"]).output
    for command in block("measure").splitlines():
        assert command.startswith("bench/run ")
        for word in command.split()[1:]:
            assert word in told.replace(",", " ").split(), word


def test_the_tables_are_written_already() -> None:
    command = block("tables").replace(PYTHON, f"{sys.executable} ")
    done = shell(ROOT, command.replace(" --write", ""))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_the_debians_made_are_of_a_kind_that_there_is() -> None:
    script = ROOT / ".ci" / "debian"
    assert os.access(script, os.X_OK)
    kinds = re.search(r"\[(\w+(?:\|\w+)+)\]", script.read_text().splitlines()[1])
    assert kinds is not None
    for command in block("debian").splitlines():
        program, suite, kind, *rest = command.split()
        assert program == ".ci/debian"
        assert suite in script.read_text()
        assert kind in kinds[1].split("|")
        assert all((ROOT / each).exists() for each in rest)


def test_a_release_is_built_by_a_script_that_is_there() -> None:
    script, address = block("build").split()
    assert os.access(ROOT / script, os.X_OK)
    assert address.startswith("https://")
