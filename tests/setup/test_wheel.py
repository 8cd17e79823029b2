"""What would be published: the same bytes whoever builds it, and all of the program in it."""

import os
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import swproxy
from tests.support.parts import require

ROOT = Path(__file__).parent.parent.parent
EPOCH = "1700000000"


def tracked() -> list[Path]:
    """Return what git has of this clone, as far as it is there."""
    git = require("git", "git")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    names = [Path(name) for name in listed.stdout.decode().split("\0") if name]
    return [name for name in names if (ROOT / name).is_file()]


def build(place: Path, *, zone: str, mask: int) -> dict[str, Path]:
    """Build wheel and source distribution from a copy of what git has; return them by name."""
    for name in tracked():
        copy = place / "clone" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
        copy.chmod((0o777 if (ROOT / name).stat().st_mode & 0o100 else 0o666) & ~mask)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(place / "built")],
        cwd=place / "clone",
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "TZ": zone},
        umask=mask,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return {path.name: path for path in (place / "built").iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("one"), zone="UTC", mask=0o022)


WHEEL = f"swproxy-{swproxy.__version__}-py3-none-any.whl"
SOURCE = f"swproxy-{swproxy.__version__}.tar.gz"


def test_another_builder_gets_the_same_bytes(built: dict[str, Path], tmp_path: Path) -> None:
    other = build(tmp_path / "another/place", zone="Asia/Kolkata", mask=0o077)
    assert sorted(built) == sorted(other) == sorted([WHEEL, SOURCE])
    for name, path in built.items():
        assert path.read_bytes() == other[name].read_bytes(), name


def test_the_wheel_holds_the_program_and_nothing_else(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built[WHEEL]) as wheel:
        names = set(wheel.namelist())
    info = f"swproxy-{swproxy.__version__}.dist-info/"
    scripts = {"swproxy/demo/start.sh", "swproxy/demo/certificate/make.sh"}
    package = {str(name) for name in tracked() if name.parts[0] == "swproxy"}
    assert {name for name in names if not name.startswith(info)} == package - scripts
    assert "swproxy/py.typed" in names
    assert f"{info}licenses/LICENSE" in names


def test_the_source_distribution_holds_all_that_git_has(built: dict[str, Path]) -> None:
    with tarfile.open(built[SOURCE]) as source:
        names = {str(Path(*Path(name).parts[1:])) for name in source.getnames()}
    assert names >= {str(name) for name in tracked()}


def test_the_index_is_told_what_it_shows(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built[WHEEL]) as wheel:
        metadata = message_from_bytes(
            wheel.read(f"swproxy-{swproxy.__version__}.dist-info/METADATA")
        )
    assert metadata["Name"] == "swproxy"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["Requires-Python"] == ">=3.11"
    readme = metadata.get_payload(decode=True)
    assert isinstance(readme, bytes)
    assert readme.strip() == (ROOT / "README.md").read_bytes().strip()
