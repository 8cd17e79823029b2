"""The README is short, and its commands do what it says, from an empty directory on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swproxy.demo.answers import compose
from tests.support import ROOT
from tests.support.pages import README, block, blocks
from tests.support.stage import stage


def test_it_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 250


def test_first_screen_has_the_two_commands_and_then_the_screenshot() -> None:
    text = README.read_text()
    screen = text[: text.index("## ")]
    assert [each.name for each in blocks(README)[:2]] == ["demo", "tests"]
    assert screen.index(block("demo")) < screen.index(block("tests")) < screen.index("![")
    for name in ("demo", "tests"):
        assert os.access(ROOT / block(name).strip(), os.X_OK)


async def test_a_key_a_proxy_and_a_streamed_answer(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        printed = await on.run("curl")
    events = [line for line in printed.splitlines() if line]
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert said == compose("A haiku, please", ())
    assert len(chunks) > 20


def test_what_is_installed_is_enough(tmp_path: Path) -> None:
    """Runs the block in an empty home; what the test environment has is not downloaded again."""
    shutil.copytree(ROOT / "swproxy", tmp_path / "swproxy" / "swproxy")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "swproxy")
    work = tmp_path / "work"
    site = work / ".venv/lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    here = Path(pytest.__file__).parent.parent
    lines = block("install").splitlines()
    assert lines[0] == "python3 -m venv .venv"
    work.mkdir()
    script = [lines[0], f'echo "{here}" > "{site}/here.pth"', *lines[1:], "swproxy --version"]
    script.append('python -c "import swproxy, fastapi, uvicorn; print(swproxy.__file__)"')
    done = subprocess.run(
        ["bash", "-euc", "\n".join(script)],
        cwd=work,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert str(site) in done.stdout.splitlines()[-1]
