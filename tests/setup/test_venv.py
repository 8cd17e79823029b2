"""The script behind both commands that fills .venv: when it installs, and what is left of a half.

The interpreter is a stand-in: it notes what it is asked for, and its pip can be made to hang.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

PYTHON = f"""#!/bin/sh
case "$1 $2 $3" in
"-c "*) exec {sys.executable} "$@" ;;
"-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
"-m pip --version") ;;
"-m pip install") touch .venv/half; [ ! -e hang ] || exec sleep 60; mv .venv/half .venv/whole ;;
esac
echo "$1 $2 $3 ${{6-}}" >>log
"""


class Clone:
    """What of a clone the script reads."""

    def __init__(self, directory: Path) -> None:
        (directory / ".ci").mkdir()
        self.directory = directory
        for name in (".ci/venv", "pyproject.toml"):
            shutil.copy(ROOT / name, directory / name)
        self.python = directory / "python"
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)

    def start(self, *extras: str) -> "subprocess.Popen[str]":
        # Whoever is started in the background ignores Ctrl-C, and so would all below it.
        return subprocess.Popen(
            ["env", "--default-signal=INT", self.directory / ".ci/venv", *extras],
            env={**os.environ, "PYTHON": str(self.python)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def set_up(self, *extras: str) -> list[str]:
        """Run the script; return what it had done."""
        (self.directory / "log").unlink(missing_ok=True)
        process = self.start(*extras)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        log = self.directory / "log"
        done = log.read_text().splitlines() if log.exists() else []
        assert bool(done) == said.startswith("Installing swproxy")
        return [line.removeprefix("-m ").strip() for line in done if "--version" not in line]

    def interrupt(self) -> None:
        """Run it, and press Ctrl-C in the midst of pip."""
        (self.directory / "hang").touch()
        process = self.start()
        until = time.monotonic() + 20
        while not (self.directory / ".venv/half").exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.communicate(timeout=120)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert process.returncode == 130
        (self.directory / "hang").unlink()


ANEW, AGAIN = ["venv .venv", "pip install ."], ["pip install ."]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    (tmp_path / "clone").mkdir()
    return Clone(tmp_path / "clone")


def test_it_installs_once(clone: Clone) -> None:
    assert clone.set_up() == ANEW
    assert clone.set_up() == []


def test_more_extras_are_installed_and_fewer_are_there_already(clone: Clone) -> None:
    clone.set_up()
    assert clone.set_up("test,bench") == ["pip install .[test,bench]"]
    assert clone.set_up("test,bench") == clone.set_up() == []


def test_other_requirements_are_installed(clone: Clone) -> None:
    clone.set_up()
    with (clone.directory / "pyproject.toml").open("a") as project:
        project.write("# another\n")
    assert clone.set_up() == AGAIN


def test_an_interrupted_installation_begins_from_nothing(clone: Clone) -> None:
    clone.interrupt()
    assert clone.set_up() == ANEW
    assert not (clone.directory / ".venv/half").exists()
    assert clone.set_up() == []


def test_a_clone_that_moved_begins_from_nothing(clone: Clone) -> None:
    clone.set_up()
    elsewhere = clone.directory.with_name("elsewhere")
    clone.directory.rename(elsewhere)
    clone.directory, clone.python = elsewhere, elsewhere / "python"
    assert clone.set_up() == ANEW


def test_an_environment_made_by_hand_is_kept(clone: Clone) -> None:
    subprocess.run([clone.python, "-m", "venv", ".venv"], cwd=clone.directory, check=True)
    (clone.directory / ".venv/mine").touch()
    assert clone.set_up() == AGAIN
    assert (clone.directory / ".venv/mine").exists()


def test_an_old_python_is_named(clone: Clone) -> None:
    clone.python.write_text("#!/bin/sh\necho '3.9.2 (default)'\nexit 1\n")
    process = clone.start()
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "3.11 or newer is needed" in said
    assert "3.9.2" in said
    assert not (clone.directory / ".venv").exists()
