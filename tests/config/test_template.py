"""The commented configuration: complete, true, and in line with what is read."""

import re
import tomllib
from pathlib import Path

from swproxy.config.assembly import SECTIONS, Assembly
from swproxy.config.config import AppTable, Config
from swproxy.config.template import app_keys, keys, render_config


def read(text: str) -> Config:
    assembly = Assembly(Path("swproxy.toml"), str)
    config = assembly.config(tomllib.loads(text), [])
    assert not assembly.faults
    return config


def test_as_written_it_changes_nothing() -> None:
    assert read(render_config()) == Config()


def test_with_every_mark_removed_it_still_changes_nothing() -> None:
    text = re.sub(r"(?m)^#(?=[a-z_]+ = )", "", render_config())
    tables = tomllib.loads(text)
    for section, model in SECTIONS.items():
        assert list(tables[section]) == list(model.model_fields)
    assert read(text) == Config()


def test_the_example_of_an_application_is_one() -> None:
    text = render_config()
    lines = re.findall(r"(?m)^#   (.*)$", text[text.index("#   [apps.my-app]") :])[:4]
    table = tomllib.loads("\n".join(lines))["apps"]["my-app"]
    assert AppTable.model_validate(table).secrets == ("${SW_SECRET}",)


def test_every_line_fits_a_narrow_editor() -> None:
    assert max(map(len, render_config().splitlines())) <= 100


def test_every_key_is_explained_where_it_stands() -> None:
    text = " ".join(render_config().replace("#", " ").split())
    for key in [*keys(), *app_keys()]:
        assert " ".join(key.description.split()) in text


def test_keys_give_defaults_as_toml() -> None:
    defaults = {(key.section, key.name): key.default for key in keys()}
    assert defaults["server", "listen"] == '["127.0.0.1:3000"]'
    assert defaults["server", "admin_listen"] == '""'
    assert defaults["server", "access_log"] == "true"
    assert defaults["limits", "head_seconds"] == "10.0"
    assert defaults["upstream", "private_networks"] == "[]"
    of_apps = {key.name: key.default for key in app_keys()}
    assert of_apps.pop("headers_from_page").startswith('["accept", "accept-encoding", ')
    assert of_apps == {
        "secrets": "",
        "allow": "",
        "headers": "{}",
        "websocket_urls_only": "false",
        "cors": "",
        "terms": "",
        "limits": "",
        "limits.requests": '""',
        "limits.concurrent": "0",
        "limits.tokens": '""',
        "plans": "",
        "require": "[]",
        "meter": '""',
        "weights": "{}",
        "on_leave": '"cancel"',
        "heartbeat_seconds": "0.0",
    }
