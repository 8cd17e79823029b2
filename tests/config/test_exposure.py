"""Which listeners are told to be reached by strangers."""

from pathlib import Path

import pytest

from swproxy.config.config import Server
from swproxy.config.exposure import reached_by_others

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
    [("127.0.0.1:1", 0), ("10.1.1.1:1", 0), ("unix:/a", 0), ("0.0.0.0:1", 1), ("[2a00::1]:1", 1)],
)
def test_metrics_for_strangers(admin: str, told_of: int) -> None:
    assert told(admin_listen=admin) == ["server.admin_listen"] * told_of
