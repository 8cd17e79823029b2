"""Which listeners are told to be reached by strangers."""

from pathlib import Path

import pytest

from swproxy.config.config import Server
from swproxy.config.exposure import handed_over_to_others, open_to_others, reached_by_others
from swproxy.config.listen_address import TcpAddress

PATH = Path("swproxy.toml")


def told(**server: object) -> list[str]:
    found = Server.model_validate(server)
    return [fault.key for fault in reached_by_others(PATH, found)]


@pytest.mark.parametrize(
    ("listen", "keys"),
    [
        (["127.0.0.1:3000", "[::1]:3000", "unix:/run/s", "localhost:1"], []),
        (["10.0.0.5:3000", "[fd00::1]:3000"], []),
        (["0.0.0.0:3000"], ["server.listen[0]"]),
        (["127.0.0.1:3000", "[::]:3000"], ["server.listen[1]"]),
        (["93.184.216.34:80"], ["server.listen[0]"]),
    ],
)
def test_signed_urls_in_the_clear(listen: list[str], keys: list[str]) -> None:
    assert told(listen=listen) == keys
    assert told(listen=listen, tls_certificate="c", tls_key="k") == []


@pytest.mark.parametrize(
    ("admin", "told_of"),
    [
        ("127.0.0.1:1", 0),
        ("[::1]:1", 0),
        ("localhost:1", 0),
        ("unix:/a", 0),
        ("", 0),
        ("10.1.1.1:1", 1),
        ("metrics.internal:1", 1),
        ("0.0.0.0:1", 1),
        ("[2a00::1]:1", 1),
    ],
)
def test_metrics_for_strangers_and_a_page_that_is_not_there(admin: str, told_of: int) -> None:
    assert told(admin_listen=admin) == ["server.admin_listen"] * told_of


def test_a_token_lets_other_machines_look_but_not_in_the_clear_over_the_world() -> None:
    token = "canary-admin-token-5a6b"
    assert told(admin_listen="10.1.1.1:1", admin_token=token) == []
    assert told(admin_listen="0.0.0.0:1", admin_token=token) == ["server.admin_listen"]


def test_sockets_of_the_service_manager_s() -> None:
    everywhere, here = TcpAddress("0.0.0.0", 80), TcpAddress("127.0.0.1", 80)

    def told_of(server: Server, public: TcpAddress, admin: TcpAddress) -> list[str]:
        return [fault.key for fault in handed_over_to_others(PATH, server, [public], [admin])]

    tls = Server.model_validate({"tls_certificate": "c", "tls_key": "k"})
    assert told_of(Server(), here, here) == []
    assert told_of(Server(), everywhere, here) == ["socket 0.0.0.0:80"]
    assert told_of(tls, everywhere, everywhere) == ["admin socket 0.0.0.0:80"]
    # Told of as configured already.
    both = Server.model_validate({"listen": ["0.0.0.0:80"], "admin_listen": "0.0.0.0:81"})
    assert told_of(both, everywhere, TcpAddress("0.0.0.0", 81)) == []


@pytest.mark.parametrize(
    ("file", "mode", "warned"),
    [
        ("/etc/swproxy/keys/openai", 0o444, True),
        ("/run/secrets/openai", 0o444, False),
        ("/var/run/secrets/app/openai", 0o444, False),
        ("/run/secrets/openai", 0o446, True),
        ("/run/secrets-not/openai", 0o444, True),
    ],
)
def test_secrets_that_a_container_is_given_are_readable_by_all_in_it(
    file: str, mode: int, *, warned: bool
) -> None:
    modes = {Path(file): mode}
    told = open_to_others(PATH, [], [Path(file)], lambda path: modes.get(path, 0))
    assert [fault.file for fault in told] == [Path(file)] * warned
