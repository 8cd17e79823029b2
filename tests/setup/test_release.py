"""What makes a clone ready for an index: no link of the page that is shown there leads nowhere."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import swproxy

ROOT = Path(__file__).parent.parent.parent
REPOSITORY = "https://code.example/us/swproxy"
TAG = f"v{swproxy.__version__}"


def for_index(clone: Path, repository: str = REPOSITORY) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, ROOT / ".ci/for-index", repository, clone],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "swproxy").mkdir()
    for name in ("README.md", "pyproject.toml", "swproxy/__init__.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def links(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    return ["".join(each) for each in found]


def test_every_link_has_an_address(clone: Path) -> None:
    before = links(ROOT / "README.md")
    assert for_index(clone).returncode == 0
    after = links(clone / "README.md")
    assert len(after) == len(before) > 10
    for old, new in zip(before, after, strict=True):
        if old.startswith(("https:", "#")):
            assert new == old
            continue
        kind, tag, path = new.removeprefix(f"{REPOSITORY}/").split("/", 2)
        assert (tag, path) == (TAG, old)
        assert kind == ("raw" if path.endswith((".png", ".svg")) else "blob")
        assert (ROOT / path.partition("#")[0]).exists()


def test_nothing_else_of_the_page_changes(clone: Path) -> None:
    assert for_index(clone).returncode == 0
    text = (clone / "README.md").read_text()
    for kind in ("blob", "raw"):
        text = text.replace(f"{REPOSITORY}/{kind}/{TAG}/", "")
    assert text == (ROOT / "README.md").read_text()


def test_the_index_links_to_the_repository(clone: Path) -> None:
    before = tomllib.loads((clone / "pyproject.toml").read_text())
    assert for_index(clone).returncode == 0
    after = tomllib.loads((clone / "pyproject.toml").read_text())
    urls = after["project"].pop("urls")
    assert after == before
    assert urls["Repository"] == REPOSITORY
    assert all(url.startswith(REPOSITORY) for url in urls.values())
    assert "already" in for_index(clone).stderr


@pytest.mark.parametrize("address", ["code.example/us", f"{REPOSITORY}/", "http://code.example/us"])
def test_no_address_is_said_so(clone: Path, address: str) -> None:
    done = for_index(clone, address)
    assert done.returncode == 1
    assert "expects the repository's address" in done.stderr
    assert (clone / "README.md").read_text() == (ROOT / "README.md").read_text()
