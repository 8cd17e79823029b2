"""docs/performance.md: the bench starts as it says, and tells what it is run by."""

import os
import re
import subprocess
import sys

from click.testing import CliRunner

from bench.__main__ import main as bench
from bench.interpreter import this_build
from tests.support import ROOT
from tests.support.pages import block
from tests.support.shell import shell


def test_the_bench_has_what_it_is_asked_for() -> None:
    assert os.access(ROOT / "bench" / "run", os.X_OK)
    told = CliRunner().invoke(bench, ["--help"]).output.replace(",", " ").split()
    for command in block("bench").splitlines():
        program, *words = command.split()
        assert program == "bench/run"
        for word in words:
            assert word in told or "=" in word, word


def test_an_interpreter_tells_how_it_was_built() -> None:
    command = block("interpreter").replace("python3", sys.executable)
    done = shell(ROOT, command)
    assert done.returncode == (0 if this_build().profiled else 1), done.stderr
    assert "PGO" in done.stdout


def test_what_is_published_is_made_of_parts_that_there_are() -> None:
    script = ROOT / block("session").strip()
    assert os.access(script, os.X_OK)
    text = script.read_text()
    parts = re.findall(r"^(\w+)\(\) \{(?! bench/run)", text, re.MULTILINE)
    usual = re.search(r"set -- ([\w\s\\]+?)\nmkdir", text)
    assert usual is not None
    assert sorted(usual[1].replace("\\", " ").split()) == sorted(parts)
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
