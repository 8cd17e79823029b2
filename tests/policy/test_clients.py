"""Who a request came from: as far as each who says so is trusted, and only ever an address."""

from ipaddress import ip_network

import pytest

from swproxy.policy.clients import client_address

TRUSTED = [ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"), ip_network("fe80::/10")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", b"198.51.100.1", "192.0.2.1"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", b"198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", b"203.0.113.9, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", b"203.0.113.9, 198.51.100.1, 10.1.1.1", "198.51.100.1"),
        ("127.0.0.1", b"203.0.113.9, nonsense", "127.0.0.1"),
        ("127.0.0.1", b"::ffff:198.51.100.1", "198.51.100.1"),
        ("", b"2001:DB8::1", "2001:db8::1"),
        ("", None, ""),
        ("127.0.0.1", b"2001:db8::1%eth0", "2001:db8::1"),
        ("127.0.0.1", b'2001:db8::1%", "status": 200, "x": "', "127.0.0.1"),
        ("127.0.0.1", b'2001:db8::1%"\\', "2001:db8::1"),
        ("127.0.0.1", b"198.51.100.1%x", "198.51.100.1"),
        ("fe80::1%eth0", b"198.51.100.1", "198.51.100.1"),
        ("fe80::1%eth0", None, "fe80::1"),
    ],
)
def test_client_address(peer: str, forwarded: bytes | None, client: str) -> None:
    assert client_address(peer, forwarded, TRUSTED) == client
