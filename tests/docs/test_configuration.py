"""docs/configuration.md: the configuration shown is one, and secrets are replaced as it says."""

import tomllib
from pathlib import Path

from tests.support.config import load
from tests.support.pages import block
from tests.support.shell import shell


def test_the_configuration_shown_is_one(tmp_path: Path) -> None:
    path = tmp_path / "swproxy.toml"
    path.write_text(block("swproxy.toml"))
    config = load(path, {"SW_SECRET": "s" * 32, "OPENAI_API_KEY": "sk-1"})
    assert config.server.base_url() == "https://edge.example.com/sw"
    assert config.apps["chat"].secrets == ("s" * 32,)
    assert config.apps["chat"].headers == ((b"Authorization", b"Bearer sk-1"),)


def test_a_secret_is_replaced_in_two_steps(tmp_path: Path) -> None:
    assert shell(tmp_path, "swproxy init --app chat").returncode == 0
    before = tomllib.loads((tmp_path / "apps/chat.toml").read_text())["secrets"]
    done = shell(tmp_path, block("rotate"))
    assert done.returncode == 0, done.stderr
    after = tomllib.loads((tmp_path / "apps/chat.toml").read_text())["secrets"]
    assert len(after) == 1
    assert after != before
    assert after[0] in done.stdout
