"""systemd/requirements.txt: what a deployment installs is there, unchanged, for every Python."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support import ROOT
from tests.support.pages import block

LOCK = ROOT / "systemd" / "requirements.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked() -> dict[str, str]:
    """The versions in the file, by name."""
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", LOCK.read_text(), re.MULTILINE))


def test_it_holds_what_the_project_names_in_a_version_that_it_takes() -> None:
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    for text in wanted:
        requirement = Requirement(text)
        assert requirement.specifier.contains(locked()[requirement.name]), text


def test_every_line_has_its_hashes() -> None:
    entries = re.sub(r"\\\n", " ", LOCK.read_text()).splitlines()
    entries = [each for each in entries if not each.lstrip().startswith("#")]
    assert len(entries) == len(locked())
    for each in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", each), each


def run(*command: object) -> str:
    environ = os.environ | {"PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False, env=environ
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_guide_installs_it(tmp_path: Path) -> None:
    """The very commands, with another place and this Python."""
    script = block("deploy").partition("useradd")[0].replace("/opt/", f"{tmp_path}/")
    run("bash", "-euc", script.replace("/usr/bin/python3", sys.executable))
    run(tmp_path / "swproxy" / "bin" / "swproxy", "--version")
    listed = run(tmp_path / "swproxy" / "bin" / "pip", "list", "--format=freeze")
    listed = listed.lower().replace("_", "-")
    found = dict(line.split("==") for line in listed.splitlines())
    for name in found.keys() - {"pip", "setuptools", "swproxy"}:
        assert found[name] == locked()[name]


@pytest.mark.parametrize("python", {"3.11", "3.13"} - {f"3.{sys.version_info.minor}"})
def test_the_other_debian_has_wheels_of_it(python: str, tmp_path: Path) -> None:
    platforms = [f"--platform=manylinux_2_{glibc}_x86_64" for glibc in (17, 28, 34)]
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--require-hashes"),
        *("--no-deps", "--only-binary=:all:", f"--python-version={python}", *platforms),
        *("--platform=manylinux2014_x86_64", f"--target={tmp_path}", "-r", LOCK),
    )
