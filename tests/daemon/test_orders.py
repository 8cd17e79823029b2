"""Configurations on their way to a worker: whole, alike, and one at a time."""

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

from swproxy.config.config import App, AppTable, Config, Server, Upstream
from swproxy.config.listen_address import TcpAddress, UnixAddress
from swproxy.daemon.orders import Decoder, Orders, pack
from swproxy.policy.cors import CorsPolicy
from swproxy.policy.destination import Pattern, parse_destination

CONFIG = Config(
    server=Server.model_construct(
        **dict(Server())
        | {"listen": (TcpAddress("127.0.0.1", 0), UnixAddress("/run/s")), "workers": 2}
    ),
    upstream=Upstream.model_construct(
        **dict(Upstream())
        | {"ca_file": Path("/etc/ca.pem"), "private_networks": (ip_network("10.0.0.0/8"),)}
    ),
    apps={
        "a": App(
            id="a",
            secrets=("one", "two"),
            allow=(Pattern.parse("https://*.example.com/v1/*"),),
            headers=((b"Authorization", b"Bearer key"),),
            cors=CorsPolicy(("https://page.example",), 60),
        )
    },
)
ORDERS = Orders(CONFIG, "0", ((3, True), (4, False)), 9, (5, 2, 1))


def test_orders_arrive_as_they_were_sent() -> None:
    (found,) = Decoder().feed(pack(ORDERS))
    assert found == ORDERS
    assert found.config.apps["a"].secrets == ("one", "two")
    assert found.config.open_cors == CONFIG.open_cors
    pattern = found.config.apps["a"].allow[0]
    assert pattern.matches(parse_destination("https://api.example.com/v1/x"))


def test_an_application_as_it_is_read_from_a_file_can_be_sent() -> None:
    """Every key that a table has: whatever it is made into has to fit through the socket."""
    table = {
        "secrets": ["one"],
        "allow": ["https://api.example.com/v1/*"],
        "headers": {"Authorization": "Bearer key"},
        "cors": {"allow_origins": ["https://page.example"]},
        "headers_from_page": ["x-beta"],
        "websocket_urls_only": True,
        "meter": "tokens",
        "weights": {"one": 2, "two-*": {"input": 1, "output": 4}},
        "on_leave": "drain",
        "heartbeat_seconds": 15,
        "terms": {"seconds": 60, "body.model": ["one", "two"]},
        "limits": {"concurrent": 9, "user": {"requests": "5/minute", "tokens": "100/day"}},
        "plans": {"trial": {"seconds": 10, "requests": "1/second"}},
        "require": ["user"],
    }
    assert set(table) == set(AppTable.model_fields)
    app = AppTable.model_validate(table).app("a", CorsPolicy(("*",), 60))
    orders = replace(ORDERS, config=Config(apps={"a": app}))
    assert Decoder().feed(pack(orders)) == [orders]


def test_pieces_are_put_together_and_messages_kept_apart() -> None:
    second = replace(ORDERS, name="second")
    data = pack(ORDERS) + pack(second)
    decoder = Decoder()
    found = [
        orders
        for start in range(0, len(data), 7)
        for orders in decoder.feed(data[start : start + 7])
    ]
    assert found == [ORDERS, second]
    assert Decoder().feed(data) == [ORDERS, second]


def test_orders_show_no_secret() -> None:
    assert "Bearer key" not in repr(ORDERS)
    assert "'two'" not in repr(ORDERS)
