"""docs/deployment.md: what its commands name is there. tests/system/ runs them under systemd."""

import re
from pathlib import Path

import pytest

from swproxy import __version__
from tests.support import ROOT
from tests.support.pages import block
from tests.support.shell import shell


def commands(text: str) -> list[str]:
    """The commands of a block, one a line, wherever they were broken."""
    return re.sub(r"\s*\\\n\s*", " ", text).splitlines()


@pytest.mark.parametrize(
    "name",
    [
        "deploy",
        "nginx",
        "operate",
        "key",
        "stop",
        "upgrade",
        "switch",
        "back",
        "uninstall",
        "container",
    ],
)
def test_what_it_names_is_there(name: str) -> None:
    text = block(name)
    for path in re.findall(r"systemd/[\w.*-]+", text.replace("/systemd/system/", "")):
        assert list(ROOT.glob(path)), path
    units = {path.name for path in (ROOT / "systemd").iterdir()} | {"nginx.service"}
    for unit in re.findall(r"(?:reload|status|-u) ([\w-]+)$", text, re.MULTILINE):
        assert f"{unit}.service" in units
    versions = set(re.findall(r"/swproxy-([0-9.]*[0-9])", text))
    assert versions <= {__version__, "0.2.0"}
    for port in re.findall(r"127\.0\.0\.1:(\d+)", text):
        admin = (ROOT / "systemd" / "swproxy-admin.socket").read_text()
        assert f"ListenStream=127.0.0.1:{port}\n" in admin


def test_a_key_is_replaced_as_it_was_installed() -> None:
    [install, reload] = commands(block("key"))
    assert install.replace("$NEW_KEY", "$OPENAI_API_KEY") in commands(block("deploy"))
    assert reload in block("operate")


def test_nginx_s_site_gets_the_name(tmp_path: Path) -> None:
    """The very commands, with another place for /etc and without nginx's part."""
    script = block("nginx").replace("/etc/nginx/conf.d", str(tmp_path))
    script = script.replace("nginx -t && systemctl reload nginx\n", "true\n")
    done = shell(ROOT, script)
    assert done.returncode == 0, done.stderr
    site = (tmp_path / "swproxy.conf").read_text()
    assert "edge.example.com" not in site
    assert "server_name your.host;" in site


@pytest.mark.parametrize(
    ("version", "directive"),
    [
        ("nginx/1.18.0 (Ubuntu)", False),
        ("nginx/1.22.1", False),
        ("nginx/1.9.5", False),
        ("nginx/1.25.0", False),
        ("nginx/1.25.1", True),
        ("nginx/1.26.3", True),
        ("nginx/1.28.0", True),
        ("nginx/1.30.1", True),
        ("nginx/2.4.1", True),
    ],
)
def test_nginx_s_site_speaks_http2_as_its_version_does(
    tmp_path: Path, version: str, *, directive: bool
) -> None:
    stand_in = tmp_path / "nginx"
    stand_in.write_text(f"#!/bin/sh\necho 'nginx version: {version}' >&2\n")
    stand_in.chmod(0o755)
    script = block("nginx").replace("/etc/nginx/conf.d", str(tmp_path))
    script = script.replace("nginx -t && systemctl reload nginx\n", "true\n")
    done = shell(ROOT, f"PATH={tmp_path}:$PATH\n{script}")
    assert done.returncode == 0, done.stderr
    site = (tmp_path / "swproxy.conf").read_text()
    assert ("\n    http2 on;\n" in site) == directive
    assert ("\n    listen 443 ssl http2;\n    listen [::]:443 ssl http2;\n" in site) != directive


def test_pages_and_completion_come_by_one_line(tmp_path: Path) -> None:
    done = shell(tmp_path, block("share"))
    assert done.returncode == 0, done.stderr
    share = tmp_path / ".local" / "share"
    assert (share / "man/man1/swproxy.1.gz").is_file()
    assert (share / "bash-completion/completions/swproxy").is_file()
