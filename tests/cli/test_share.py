"""Manual pages and completions: whole, without a fault of roff, and gone if that is wanted."""

import gzip
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import trio
from click.testing import CliRunner

from swproxy.cli.main import main
from swproxy.cli.manual import pages
from swproxy.cli.share import share
from swproxy.config.template import app_keys, keys
from tests.support import ROOT
from tests.support.parts import require
from tests.support.shell import shell as shell_of
from tests.support.terminal import terminal
from tests.support.wire import PATIENCE

PAGES = dict(pages())


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from commands(each, (*path, name))


def shown(name: str) -> str:
    """Return a page as people read it; groff's warnings are faults."""
    groff = require("groff", "groff-base")
    command = [groff, "-man", "-Tascii", "-P-c", "-P-b", "-P-u", "-ww", "-rLL=3000n", "-rHY=0"]
    done = subprocess.run(command, input=PAGES[name], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return re.sub(r"\s+", " ", done.stdout)


def test_there_is_a_page_for_each_command_and_one_for_the_configuration() -> None:
    expected = {f"{'-'.join(path)}.1" for path in commands(main, ("swproxy",))}
    assert set(PAGES) == expected | {"swproxy.toml.5"}


@pytest.mark.parametrize("path", list(commands(main, ("swproxy",))), ids="-".join)
def test_a_page_says_all_that_help_says(path: tuple[str, ...]) -> None:
    page = shown(f"{'-'.join(path)}.1").lower()
    told = CliRunner().invoke(main, [*path[1:], "--help"], prog_name="swproxy").output
    for word in re.findall(r"[\w@.:/=$*{}-]+", told.replace("`", "")):
        assert word.lower().rstrip(":") in page or word == "Usage:", word


def test_the_configuration_s_page_has_every_key_and_default() -> None:
    page = shown("swproxy.toml.5")
    for key in (*keys(), *app_keys()):
        assert f" {key.name} = {key.default} " in page or not key.default, key.name
        assert f" {' '.join(key.description.replace('`', '').split())} " in f"{page} ", key.name


def test_a_page_names_others_that_are_there() -> None:
    for text in PAGES.values():
        for name, section in re.findall(r"^\.BR (\S+) \((\d)\)", text, re.MULTILINE):
            assert f"{name}.{section}".replace("\\-", "-") in PAGES


def test_units_point_to_pages_that_are_there() -> None:
    units = [*(ROOT / "systemd").glob("*.service"), *(ROOT / "systemd").glob("*.socket")]
    assert len(units) >= 3
    for unit in units:
        [line] = re.findall(r"^Documentation=(.*)$", unit.read_text(), re.MULTILINE)
        for name, section in re.findall(r"man:([\w.-]+)\((\d)\)", line):
            assert f"{name}.{section}" in PAGES


def test_what_is_written_is_the_same_each_time_and_can_be_removed(tmp_path: Path) -> None:
    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    CliRunner().invoke(share, [str(tmp_path)], catch_exceptions=False)
    before = files()
    page = before[tmp_path / "man/man1/swproxy-sign.1.gz"]
    assert gzip.decompress(page).decode() == PAGES["swproxy-sign.1"]
    CliRunner().invoke(share, [str(tmp_path)], catch_exceptions=False)
    assert files() == before
    (tmp_path / "man/man1/other.1").touch()
    (tmp_path / "man/man1/swproxy-former.1.gz").touch()
    CliRunner().invoke(share, ["--remove", str(tmp_path)], catch_exceptions=False)
    assert list(files()) == [tmp_path / "man/man1/other.1"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_scripts_of_their_shells(tmp_path: Path, shell: str) -> None:
    CliRunner().invoke(share, [str(tmp_path)], catch_exceptions=False)
    places = {"bash": "bash-completion/completions/swproxy", "zsh": "zsh/site-functions/_swproxy",
              "fish": "fish/vendor_completions.d/swproxy.fish"}  # fmt: skip
    script = tmp_path / places[shell]
    assert f"_SWPROXY_COMPLETE={shell}_complete" in script.read_text()
    if shell == "bash":
        typed = (
            f"source {script}; COMP_WORDS=(swproxy exp); COMP_CWORD=1;"
            " _swproxy_completion swproxy; echo ${COMPREPLY[@]}"
        )
        assert shell_of(tmp_path, typed).stdout == "explain\n"


@pytest.mark.parametrize("typed", ["odd", '"odd', "'odd", "odd\\ ", "'odd o", '"odd one'])
async def test_bash_completes_an_id_that_has_to_be_quoted(tmp_path: Path, typed: str) -> None:
    ids = ["odd one"]
    if typed == "odd":
        ids += ["odd$HOME", "odd;two's"]
    async with terminal(tmp_path, tmp_path) as shell:
        with trio.fail_after(2 * PATIENCE):
            await shell.run('eval "$(_SWPROXY_COMPLETE=bash_source swproxy)"')
            for other in ids:
                (tmp_path / "swproxy.toml").write_text(
                    f"[apps.{json.dumps(other)}]\n"
                    'secrets = ["canary-completion-secret"]\nallow = ["https://a.example/"]\n'
                )
                begun = len(shell.shown)
                await shell.type(f"swproxy app show {typed}\t")
                await shell.shows(re.compile(re.escape(other[-2:])), begun + 1)
                shown = await shell.run("")
                assert re.search(rf"^id +{re.escape(other)}$", shown, re.MULTILINE), shown
