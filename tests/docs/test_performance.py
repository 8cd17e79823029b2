"""docs/performance.md: the bench starts as it says."""

import re
import subprocess
import sys
import tomllib

from tests.support import ROOT
from tests.support.pages import block


def test_the_bench_starts() -> None:
    commands = block("bench").splitlines()
    assert re.fullmatch(r"\.venv/bin/pip install --quiet '\.\[bench\]'", commands[0])
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "bench" in extras["optional-dependencies"]
    [program, *arguments] = commands[1].split()
    assert program == ".venv/bin/python"
    done = subprocess.run(
        [sys.executable, *arguments, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
