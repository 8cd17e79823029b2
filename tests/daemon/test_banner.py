"""What is said first at a terminal, for configurations of every kind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from swproxy.config.config import App, Config, Server
from swproxy.config.listen_address import UnixAddress, parse_listen
from swproxy.daemon.banner import banner
from swproxy.daemon.listeners import Listener, close_listeners, open_listeners
from swproxy.policy.destination import Pattern

CHAT = App("chat", ("secret",), (Pattern.parse("https://api.openai.com/v1/*"),))
OTHER = App("other", ("secret",), (Pattern.parse("*"),))


@contextmanager
def listening(*addresses: str) -> Iterator[list[Listener]]:
    opened = open_listeners([parse_listen(each) for each in addresses])
    try:
        yield opened
    finally:
        close_listeners(opened)


def said(
    public: list[Listener],
    *apps: App,
    path: str = "swproxy.toml",
    admin: list[Listener] | None = None,
    **server: object,
) -> dict[str, str]:
    config = Config(
        server=Server.model_construct(**dict(Server()) | server), apps={app.id: app for app in apps}
    )
    first, *rows = banner(Path(path), config, public, admin or [], "1.2.3").rstrip("\n").split("\n")
    assert first == "swproxy 1.2.3 serves"
    return {row[2:17].rstrip(): row[17:] for row in rows}


def test_the_configuration_in_the_current_directory_needs_no_mention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with listening("127.0.0.1:0") as public:
        rows = said(public, CHAT, listen=(parse_listen("127.0.0.1:3000"),))
    assert rows["configuration"] == str(tmp_path / "swproxy.toml")
    assert rows["a first URL"] == 'curl -N "$(swproxy sign https://api.openai.com/v1/models)"'
    assert "admin" not in rows
    assert "Ctrl-C" in rows["end it"]


def test_what_has_to_be_said_is_in_the_command() -> None:
    with listening("127.0.0.1:0") as public, listening("[::1]:0") as admin:
        rows = said(
            public, CHAT, OTHER, path="/a b/c.toml", admin=admin,
            listen=(parse_listen("127.0.0.1:0"),),
        )  # fmt: skip
        address = public[0].address
        assert rows["admin"] == f"http://{admin[0].address}"
    assert rows["applications"] == "chat, other"
    assert rows["address"] == f"http://{address}"
    assert rows["a first URL"] == (
        f"curl -N \"$(swproxy sign --config '/a b/c.toml' --host http://{address}"
        ' --app chat https://api.openai.com/v1/models)"'
    )


def test_tls_and_a_public_url() -> None:
    with listening("127.0.0.1:0") as public:
        rows = said(
            public, CHAT, tls_certificate=Path("x.pem"), public_url="https://edge.example/sw"
        )
        assert rows["address"] == f"https://edge.example/sw, https://{public[0].address}"
    assert "--host" not in rows["a first URL"]


def test_what_is_not_known_to_work_is_not_recommended(tmp_path: Path) -> None:
    socket = f"unix:{tmp_path}/s"
    with listening(socket) as public:
        rows = said(public, CHAT, listen=(UnixAddress(f"{tmp_path}/s"),))
        assert rows["address"] == socket
        assert "a first URL" not in rows
        rows = said(public)
        assert "a first URL" not in rows
        assert "swproxy app add" in rows["applications"]
