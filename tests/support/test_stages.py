"""What a whole run prints, of a small suite of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

SUITE = """
import pytest, trio

def test_good(): pass
def test_skipped(): pytest.skip("there is no such thing here")

async def test_also_skipped():
    async with trio.open_nursery():
        pytest.skip("and that is elsewhere")

async def test_bad():
    async with trio.open_nursery() as outer, trio.open_nursery() as inner:
        async def fail():
            print("printed before")
            raise OSError("the cause")
        inner.start_soon(fail)

def test_many():
    raise ExceptionGroup("many", [ValueError(f"number {count}") for count in range(9)])

@pytest.fixture
def leaky():
    yield
    raise ValueError("too late")

def test_leaves_something(leaky): pass

def test_also_good(): pass
"""


@pytest.fixture(params=["0", "2"], ids=["one process", "two processes"])
def said(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Return the lines that a run of the suite printed."""
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    (tmp_path / "first/test_them.py").write_text(SUITE)
    (tmp_path / "second/test_more.py").write_text("def test_good(): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    options = ["-p", "tests.conftest", "--stages", "-q", "--tb=no", "-rs", "-n", request.param]
    style = ["--override-ini", "console_output_style=classic", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *style, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    return done.stdout.splitlines()


def test_a_folder_is_a_line_and_a_failure_a_few(said: list[str], tmp_path: Path) -> None:
    stages = [
        line.rpartition(" in ")[0] for line in said if line.startswith("  ") and " in " in line
    ]
    assert sorted(stages[:2]) == [
        "  first           3 passed, 2 skipped, 3 failed",
        "  second          1 passed",
    ]
    begin = said.index("FAILED first/test_them.py::test_bad")
    assert said[begin + 1 : begin + 3] == [
        "    first/test_them.py:15 in fail",
        "    OSError: the cause",
    ]
    assert "    ValueError: too late" in said
    assert "    ./tests/run 'first/test_them.py::test_bad'" in said
    for reason in ("there is no such thing here", "and that is elsewhere"):
        assert any("SKIPPED [1]" in line and reason in line for line in said), said
    assert said[-1].startswith("2 failed, 4 passed, 2 skipped, 1 error in ")
    assert "    ValueError: number 2" in said
    assert "    ValueError: number 3" not in said
    assert "    and 6 more" in said
    assert len(said) < 35
    details = (tmp_path / ".pytest_cache/failures").read_text()
    assert "printed before" in details
    assert details.count("test_bad, call") == 1
    assert "Traceback" in details
