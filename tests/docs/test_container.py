"""The container's files agree with each other and with the guide; .ci/container runs them."""

import configparser
import json
import re
import subprocess
from pathlib import Path

import pytest

from swproxy.config.loader import inspect
from tests.support import ROOT
from tests.support.pages import block

SYSTEMD = ROOT / "systemd"
CONTAINERFILE = (SYSTEMD / "Containerfile").read_text()
COMPOSE = (SYSTEMD / "compose.yaml").read_text()
QUADLET = Path("/usr/libexec/podman/quadlet")


def instructions() -> list[tuple[str, str]]:
    """What the Containerfile says, one instruction an entry, of all stages."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    words = [line.partition(" ") for line in text.splitlines()]
    return [(name, rest.strip()) for name, _, rest in words]


def last_stage() -> dict[str, str]:
    said = instructions()
    start = max(number for number, (name, _) in enumerate(said) if name == "FROM")
    return dict(said[start:])


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(SYSTEMD / "swproxy.container")
    return parser


def health() -> list[str]:
    command: list[str] = json.loads(last_stage()["HEALTHCHECK"].partition(" CMD ")[2])
    return command


def test_what_is_copied_is_there() -> None:
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from="):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
    assert [rest for name, rest in instructions() if name == "FROM"] == [
        "${DEBIAN} AS build",
        "${DEBIAN}",
    ]


def test_the_image_runs_without_root_and_without_a_shell() -> None:
    stage = last_stage()
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", stage["USER"])
    assert json.loads(stage["ENTRYPOINT"]) == ["/opt/swproxy/bin/swproxy"]
    assert json.loads(stage["CMD"])[0] == "serve"
    assert health()[0] == "/opt/swproxy/bin/python"


def test_the_health_check_asks_where_the_configuration_has_the_admin_listener() -> None:
    config = inspect(SYSTEMD / "swproxy.toml", {}).require()
    assert f"http://{config.server.admin_listen}/healthz" in health()[-1]
    compile(health()[-1], "the health check", "exec")


def test_the_unit_gives_no_right_away() -> None:
    container, service = unit()["Container"], unit()["Service"]
    assert container["ReadOnly"] == container["NoNewPrivileges"] == container["Notify"] == "true"
    assert container["DropCapability"] == "all"
    assert f"{container['User']}:{container['Group']}" == last_stage()["USER"]
    assert json.loads(container["HealthCmd"]) == health()
    for name in service["Sockets"].split():
        assert (SYSTEMD / name).exists()
    # As the unit without a container has it.
    shipped = configparser.ConfigParser(interpolation=None, strict=False)
    shipped.read(SYSTEMD / "swproxy.service")
    for key in ("Restart", "RestartSec", "Sockets"):
        assert service[key] == shipped["Service"][key]


def test_the_secret_is_the_one_that_the_guide_makes() -> None:
    name, *options = unit()["Container"]["Secret"].split(",")
    assert f"podman secret create {name} " in block("container")
    target = dict(option.split("=") for option in options)["target"]
    assert f"${{file:/run/secrets/{target}}}" in block("container")


def test_compose_s_services_have_no_more_rights() -> None:
    service = COMPOSE[COMPOSE.index("\n  swproxy:\n") : COMPOSE.index("\n  nginx:\n")]
    for line in ("read_only: true", "- ALL", "- no-new-privileges:true"):
        assert re.search(rf"^ +{re.escape(line)}$", service, re.MULTILINE)
    for path in re.findall(r"dockerfile: (\S+)", COMPOSE):
        assert (ROOT / path).exists()
    for path in re.findall(r":-\./([^}]+)\}", COMPOSE):
        assert (SYSTEMD / path).exists()


@pytest.mark.skipif(not QUADLET.exists(), reason="Podman here has no Quadlet")
def test_quadlet_takes_the_unit() -> None:
    done = subprocess.run(
        [QUADLET, "-dryrun"],
        env={"QUADLET_UNIT_DIRS": str(SYSTEMD)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--sdnotify=container" in done.stdout
    assert "--read-only" in done.stdout
    assert "nsupported" not in done.stderr, done.stderr
