"""The configuration's values: defaults, what goes together, and what never shows in a repr."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from swproxy.config.config import App, AppTable, Config, Cors, Limits, Server, Upstream
from swproxy.config.listen_address import TcpAddress, UnixAddress
from swproxy.policy.cors import CorsPolicy
from swproxy.policy.destination import Pattern

TABLE: dict[str, Any] = {
    "secrets": ["canary-secret"],
    "allow": ["https://api.openai.com/v1/*"],
    "headers": {"Authorization": "Bearer canary-key", "X-Org": "é"},
}


def test_defaults_are_those_of_the_interface() -> None:
    assert dict(Server()) == {
        "listen": (TcpAddress("127.0.0.1", 3000),),
        "workers": 1,
        "admin_listen": None,
        "admin_hosts": (),
        "admin_token": "",
        "admin_actions": False,
        "public_url": "",
        "tls_certificate": None,
        "tls_key": None,
        "drain_seconds": 600.0,
        "access_log": True,
        "log_format": "auto",
        "trusted_proxies": (ip_network("127.0.0.0/8"), ip_network("::1/128")),
    }
    assert dict(Limits()) == {
        "connections": 8192,
        "client_share": 0.25,
        "head_bytes": 16384,
        "header_count": 100,
        "head_seconds": 10.0,
        "keepalive_seconds": 75.0,
        "body_bytes": 33554432,
        "signed_body_bytes": 16777216,
        "checked_body_bytes": 1048576,
        "write_seconds": 60.0,
        "expiry_seconds": 604800,
        "clock_skew_seconds": 60,
    }
    assert dict(Upstream()) == {
        "connect_seconds": 10.0,
        "first_byte_seconds": 300.0,
        "idle_seconds": 300.0,
        "idle_connections": 256,
        "idle_connection_seconds": 55.0,
        "ca_file": None,
        "private_networks": (),
    }
    assert dict(Cors()) == {"allow_origins": ("*",), "max_age_seconds": 7200}


@pytest.mark.parametrize(
    ("section", "given"),
    [
        (Server, {"listen": ["127.0.0.1:1", "127.0.0.1:1"]}),
        (Server, {"listen": ["127.0.0.1:1"], "admin_listen": "127.0.0.1:1"}),
        (Server, {"tls_certificate": "a.pem"}),
        (Server, {"tls_key": "a.pem"}),
        (Server, {"tls_certificate": "a\0b", "tls_key": "a"}),
        (Server, {"drain_seconds": -1}),
        (Limits, {"body_bytes": 10, "signed_body_bytes": 11}),
        (Limits, {"signed_body_bytes": 33554433}),
        (Limits, {"connections": 0}),
        (Limits, {"head_bytes": 100}),
        (Limits, {"head_seconds": 0}),
        (Limits, {"expiry_seconds": 0}),
        (Upstream, {"connect_seconds": 0}),
        (Upstream, {"idle_connections": -1}),
        (Cors, {"max_age_seconds": -1}),
        (Cors, {"allow_origins": ["null"]}),
        (AppTable, TABLE | {"secrets": []}),
        (AppTable, TABLE | {"weights": {"*": 2}}),
        (AppTable, TABLE | {"meter": "", "weights": {"*": 2}}),
        (AppTable, TABLE | {"heartbeat_seconds": -1.0}),
        (AppTable, TABLE | {"secrets": ["a", "b", "c"]}),
        (AppTable, TABLE | {"allow": []}),
        (AppTable, TABLE | {"headers": {"X-Key": "a", "x_key": "b"}}),
        (AppTable, TABLE | {"cors": {"origins": []}}),
    ],
)
def test_refused(section: Any, given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        section.model_validate(given)


def test_ports_that_are_not_fixed_may_repeat() -> None:
    server = Server.model_validate(
        {"listen": ["127.0.0.1:0", "127.0.0.1:0"], "admin_listen": "127.0.0.1:0"}
    )
    assert server.admin_listen == TcpAddress("127.0.0.1", 0)


def test_a_smaller_body_limit_needs_no_other_key_changed() -> None:
    assert Limits.model_validate({"body_bytes": 1000}).body_bytes == 1000


def test_paths_are_relative_to_the_directory_in_the_context() -> None:
    given = {"tls_certificate": "tls/a.pem", "tls_key": "/etc/key.pem"}
    server = Server.model_validate(given, context={"directory": Path("/srv")})
    assert server.tls_certificate == Path("/srv/tls/a.pem")
    assert server.tls_key == Path("/etc/key.pem")
    assert Upstream.model_validate({"ca_file": "ca.pem"}).ca_file == Path("ca.pem")


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "http://127.0.0.1:3000"),
        ({"public_url": "https://edge.example/sw"}, "https://edge.example/sw"),
        ({"listen": ["unix:/run/s", "0.0.0.0:80"]}, "http://127.0.0.1:80"),
        ({"listen": ["[::]:443"], "tls_certificate": "c", "tls_key": "k"}, "https://[::1]:443"),
        ({"listen": ["unix:/run/s"]}, ""),
        ({"listen": ["127.0.0.1:0"]}, ""),
    ],
)
def test_base_url(given: dict[str, Any], url: str) -> None:
    assert Server.model_validate(given).base_url() == url


def test_listen_entries_become_values() -> None:
    server = Server.model_validate({"listen": ["unix:/run/s", "[::1]:1"]})
    assert server.listen == (UnixAddress("/run/s"), TcpAddress("::1", 1))


def test_an_application_keeps_the_spelling_of_its_headers() -> None:
    app = AppTable.model_validate(TABLE).app("my-app", CorsPolicy())
    assert app.headers == (
        (b"Authorization", b"Bearer canary-key"),
        (b"X-Org", "é".encode()),
    )
    assert app.secrets == ("canary-secret",)


def test_an_application_amends_the_cors_policy() -> None:
    server_wide = CorsPolicy(("https://a.example",), 60)
    plain = AppTable.model_validate(TABLE).app("a", server_wide)
    assert plain.cors == server_wide
    table = TABLE | {"cors": {"allow_origins": ["https://b.example"]}}
    assert AppTable.model_validate(table).app("b", server_wide).cors == CorsPolicy(
        ("https://b.example",), 60
    )


def app(app_id: str, *origins: str, max_age: int = 60) -> App:
    return App(app_id, ("s",), (Pattern.parse("*"),), cors=CorsPolicy(origins, max_age))


def test_open_cors_is_everybody_together() -> None:
    config = Config(
        cors=CorsPolicy(("https://a.example",), 600),
        apps={
            "b": app("b", "https://b.example"),
            "c": app("c", "https://a.example", "https://c.example", max_age=30),
        },
    )
    assert config.open_cors.allow_origins == (
        "https://a.example",
        "https://b.example",
        "https://c.example",
    )
    assert config.open_cors.max_age_seconds == 30
    assert Config().open_cors == CorsPolicy(("*",), 7200)


def test_nothing_secret_shows() -> None:
    table = AppTable.model_validate(TABLE)
    config = Config(apps={"my-app": table.app("my-app", CorsPolicy())})
    for shown in (repr(table), str(table), repr(config), str(config), repr(config.apps["my-app"])):
        assert "my-app" in shown or "allow" in shown
        assert "canary" not in shown


def test_values_do_not_change() -> None:
    config = Config(apps={"a": app("a")})
    with pytest.raises(ValidationError):
        config.limits.connections = 3  # type: ignore[misc]
    with pytest.raises(AttributeError):
        config.apps = {}  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.apps["b"] = app("b")  # type: ignore[index]


@pytest.mark.parametrize("section", [Server, Limits, Upstream, Cors, AppTable])
def test_every_key_is_described(section: Any) -> None:
    for name, info in section.model_fields.items():
        assert len(info.description or "") > 40, name
        assert info.description.endswith((".", "?")), name


def test_an_application_is_metered_if_it_says_so() -> None:
    app = AppTable.model_validate(TABLE).app("a", Cors().policy())
    assert (app.weights, app.drains, app.heartbeat_seconds) == (None, False, 0.0)
    table = TABLE | {"meter": "tokens", "weights": {"gpt-*": 2}, "on_leave": "drain"}
    app = AppTable.model_validate(table).app("a", Cors().policy())
    assert app.weights is not None
    assert app.weights.units("gpt-5", 1, 2) == 6
    assert app.drains
