"""The README holds together, and its commands do what it says, from an empty directory on."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
import signway_sdk
from click.testing import CliRunner

from swproxy import sign_url
from swproxy.cli.main import main
from swproxy.demo.answers import compose
from swproxy.policy.problems import problem_body
from swproxy.sw1.claims import parse_target
from tests.support import ROOT
from tests.support.config import load
from tests.support.readme import README, block, blocks
from tests.support.reference import REFERENCE
from tests.support.stage import stage

PAGES = [README, REFERENCE, ROOT / "CHANGELOG.md", ROOT / "systemd" / "README.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)


def without_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of headings."""
    titles = re.findall(r"^#+ (.*)$", without_blocks(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
    return {title.replace(" ", "-") for title in plain}


class TestPage:
    def test_every_block_is_run_by_a_test(self) -> None:
        tests = [*(ROOT / "tests" / "docs").glob("*.py"), ROOT / "tests" / "support" / "stage.py"]
        text = "".join(path.read_text() for path in tests)
        for each in blocks():
            assert each.name, f"a block without a name: {each.text}"
            assert f'"{each.name}"' in text, f"no test names the block {each.name}"

    def test_names_of_blocks_are_unique(self) -> None:
        names = [each.name for each in blocks()]
        assert len(set(names)) == len(names)

    def test_code_fits_a_phone(self) -> None:
        for each in blocks():
            lines = each.text.replace("'Authorization: Bearer ${file:/etc", "").splitlines()
            assert max(map(len, lines)) <= 55, each.name

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_links_lead_somewhere(self, page: Path) -> None:
        for found in LINK.findall(without_blocks(page)):
            target = "".join(found)
            if target.startswith("https://"):
                continue
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target

    def test_first_screen_has_the_two_commands_and_then_the_screenshot(self) -> None:
        text = README.read_text()
        screen = text[: text.index("## ")]
        assert [each.name for each in blocks()[:2]] == ["demo", "tests"]
        assert screen.index(block("demo")) < screen.index(block("tests")) < screen.index("![")
        for name in ("demo", "tests"):
            assert os.access(ROOT / block(name).strip(), os.X_OK)

    def test_pictures_are_pictures(self) -> None:
        drawings = sorted((ROOT / ".assets").glob("*.svg"))
        assert [each.stem for each in drawings] == ["architecture", "small"]
        for each in drawings:
            assert ElementTree.parse(each).getroot().tag.endswith("svg")
        assert (ROOT / ".assets" / "demo.png").read_bytes().startswith(b"\x89PNG")


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


def run(directory: Path, script: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        env={"PATH": path, "HOME": str(directory), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_explain_accepts_what_sign_printed(tmp_path: Path) -> None:
    assert run(tmp_path, "swproxy init").returncode == 0
    done = run(tmp_path, block("explain"), OPENAI_API_KEY="sk")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "X-Sw-Algorithm=SW1-HMAC-SHA256&X-Sw-Body=false" in done.stdout
    assert done.stdout.splitlines()[-1] == "Accepted."


def test_explain_says_what_is_wrong_with_a_url(tmp_path: Path) -> None:
    done = run(tmp_path, block("refused"))
    assert done.returncode == 1
    assert "Refused: parameter-missing" in done.stdout


def test_a_secret_is_replaced_in_two_steps(tmp_path: Path) -> None:
    assert run(tmp_path, "swproxy init --app chat").returncode == 0
    before = tomllib.loads((tmp_path / "apps/chat.toml").read_text())["secrets"]
    done = run(tmp_path, block("rotate"))
    assert done.returncode == 0, done.stderr
    after = tomllib.loads((tmp_path / "apps/chat.toml").read_text())["secrets"]
    assert len(after) == 1
    assert after != before
    assert after[0] in done.stdout


def test_the_configuration_shown_is_one(tmp_path: Path) -> None:
    path = tmp_path / "swproxy.toml"
    path.write_text(block("swproxy.toml"))
    config = load(path, {"SW_SECRET": "s" * 32, "OPENAI_API_KEY": "sk-1"})
    assert config.server.base_url() == "https://edge.example.com/sw"
    assert config.apps["chat"].secrets == ("s" * 32,)
    assert config.apps["chat"].headers == ((b"Authorization", b"Bearer sk-1"),)


def test_everything_can_be_signed() -> None:
    names: dict[str, str] = {}
    exec(block("signing.py"), names)
    claims = parse_target(names["url"].removeprefix("https://edge.example.com").encode())
    assert claims.proxy_url == "https://api.openai.com/v1/responses"
    assert claims.signed_headers == ("content-length", "content-type")
    assert claims.body_signed


def test_a_signway_application_goes_on_with_its_id_and_secret(tmp_path: Path) -> None:
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps/my-app.toml").write_text(block("my-app.toml"))
    (tmp_path / "swproxy.toml").touch()
    environ = {"SW_SECRET": "secret-of-signway", "OPENAI_TOKEN": "sk-1"}
    url = "https://api.openai.com/v1/models"
    arguments = ("my-app", environ["SW_SECRET"], "http://localhost:3000", url, 60, "GET")
    for signed in (signway_sdk.sign_url(*arguments), sign_url(*arguments)):
        command = ["explain", signed, "--config", str(tmp_path / "swproxy.toml")]
        done = CliRunner().invoke(main, command, env=environ)
        assert done.exit_code == 0, done.output


def commands(text: str) -> list[str]:
    """The commands of a block, one a line, wherever they were broken."""
    return re.sub(r"\s*\\\n\s*", " ", text).splitlines()


class TestDeployment:
    @pytest.mark.parametrize("name", ["deploy", "nginx", "operate", "key"])
    def test_what_it_names_is_there(self, name: str) -> None:
        text = block(name)
        for path in re.findall(r"systemd/[\w.*-]+", text.replace("/systemd/system/", "")):
            assert list(ROOT.glob(path)), path
        units = {path.name for path in (ROOT / "systemd").iterdir()} | {"nginx.service"}
        for unit in re.findall(r"(?:reload|status|-u) ([\w-]+)$", text, re.MULTILINE):
            assert f"{unit}.service" in units
        for port in re.findall(r"127\.0\.0\.1:(\d+)", text):
            admin = (ROOT / "systemd" / "swproxy-admin.socket").read_text()
            assert f"ListenStream=127.0.0.1:{port}\n" in admin

    def test_a_key_is_replaced_as_it_was_installed(self) -> None:
        [install, reload] = commands(block("key"))
        assert install.replace("$NEW_KEY", "$OPENAI_API_KEY") in commands(block("deploy"))
        assert reload in block("operate")

    def test_nginx_s_site_gets_the_name(self, tmp_path: Path) -> None:
        """The very commands, with another place for /etc and without nginx's part."""
        script = block("nginx").replace("/etc/nginx/conf.d", str(tmp_path))
        script = script.replace("nginx -t && systemctl reload nginx\n", "")
        done = run(ROOT, script)
        assert done.returncode == 0, done.stderr
        site = (tmp_path / "swproxy.conf").read_text()
        assert "edge.example.com" not in site
        assert "server_name your.host;" in site


def test_the_problem_shown_is_one() -> None:
    text = REFERENCE.read_text()
    shown = re.search(r"^```json problem\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert shown is not None
    problem = json.loads(shown[1])
    assert problem == json.loads(problem_body(problem["code"], problem["detail"]))


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
