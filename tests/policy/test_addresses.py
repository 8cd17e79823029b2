"""Addresses: everything special is closed, the rest is open, and only configuration opens more."""

from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy.policy.addresses import SPECIAL, is_public, may_connect, special_purpose


def words(text: str) -> list[str]:
    return text.split()


PUBLIC = words(
    """
    1.0.0.0 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.216.34
    100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
    169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0
    192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0
    198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255
    2000:: 2001:200:: 2001:4860:4860::8888 2001:db7:ffff:: 2001:db9:: 2003:: 2600:: 2606:4700::1111
    2a00:1450:4001:80b::200e 3ffe:: 3fff:1000:: 3fff:ffff:ffff:ffff::
    """
)

CLOSED = words(
    """
    0.0.0.0 0.1.2.3 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255
    127.0.0.0 127.0.0.1 127.255.255.255 169.254.0.0 169.254.169.254 169.254.255.255
    172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.1 192.0.0.9 192.0.0.170 192.0.0.255
    192.0.2.0 192.0.2.255 192.88.99.0 192.88.99.255 192.168.0.0 192.168.255.255
    198.18.0.0 198.19.255.255 198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255
    224.0.0.0 224.0.0.1 239.255.255.255 240.0.0.0 254.255.255.255 255.255.255.255
    :: ::1 ::2 ::7f00:1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8
    64:ff9b::8.8.8.8 64:ff9b::7f00:1 64:ff9b:1::1 64:ff9b:1:ffff:ffff:ffff:ffff:ffff
    100:: 100::1 100:0:0:1:: 200:: 400:: 1000:: 1fff:ffff::
    2001:: 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:1::1 2001:2:: 2001:10:: 2001:20::
    2001:1ff:ffff::
    2001:db8:: 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 2002:7f00:1:: 2002:808:808::
    3fff:: 3fff:fff:ffff:: 4000:: 5f00:: 8000:: e000:: fbff:ffff::
    fc00:: fc00::1 fd00:ec2::254 fdff:ffff:: fe00:: fe80:: fe80::1 febf:ffff:: fec0:: feff:ffff::
    ff00:: ff02::1 ff05::2 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
    """
)


@pytest.mark.parametrize("text", PUBLIC)
def test_public(text: str) -> None:
    address = ip_address(text)
    assert is_public(address)
    assert special_purpose(address) is None
    assert may_connect(address, ())


@pytest.mark.parametrize("text", CLOSED)
def test_closed(text: str) -> None:
    address = ip_address(text)
    assert not is_public(address)
    assert special_purpose(address)
    assert not may_connect(address, ())


@pytest.mark.parametrize("row", SPECIAL, ids=lambda row: row[0])
def test_both_ends_of_every_row_are_closed_with_its_purpose(row: tuple[str, str, str]) -> None:
    text, purpose, source = row
    network = ip_network(text)
    for address in (network[0], network[-1]):
        assert not is_public(address)
    inner = special_purpose(network[-1])
    assert inner
    assert purpose in inner
    assert source in inner


addresses = st.one_of(
    st.ip_addresses(),
    st.ip_addresses(network="2000::/3"),
    # near the edges of every row, where a wrong prefix length shows
    st.builds(
        lambda network, last, by: type(network[0])(
            max(0, min(int(network[-1 if last else 0]) + by, 2**network.max_prefixlen - 1))
        ),
        st.sampled_from([ip_network(text) for text, _, _ in SPECIAL]),
        st.booleans(),
        st.integers(-2, 2),
    ),
)


@given(addresses)
def test_no_more_is_public_than_the_standard_library_says(
    address: IPv4Address | IPv6Address,
) -> None:
    """Its table is wrong for us in one direction only: it lets too much through."""
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast


@given(addresses)
def test_closed_is_what_lies_in_a_row_or_outside_global_unicast(
    address: IPv4Address | IPv6Address,
) -> None:
    inside = any(address in ip_network(text) for text, _, _ in SPECIAL)
    unallotted = address.version == 6 and address not in ip_network("2000::/3")
    assert is_public(address) == (not inside and not unallotted)


OPENED = (IPv4Network("10.1.0.0/16"), IPv6Network("fd00:1::/32"), IPv4Network("127.0.0.1/32"))


@pytest.mark.parametrize(
    "text",
    ["10.1.0.1", "10.1.255.255", "fd00:1::1", "127.0.0.1", "::ffff:10.1.2.3", "8.8.8.8", "2600::1"],
)
def test_an_opened_network_may_be_connected_to(text: str) -> None:
    assert may_connect(ip_address(text), OPENED)


@pytest.mark.parametrize(
    "text",
    [
        "10.2.0.1",
        "127.0.0.2",
        "fd00:2::1",
        "::1",
        "0.0.0.0",
        "::ffff:10.2.0.1",
        "::ffff:8.8.8.8",
        # other ways to say 10.1.0.1 or 127.0.0.1 that nobody opened
        "::10.1.0.1",
        "64:ff9b::10.1.0.1",
        "2002:a01:1::",
        "::ffff:0:10.1.0.1",
        "64:ff9b::7f00:1",
    ],
)
def test_opening_one_network_opens_no_other(text: str) -> None:
    assert not may_connect(ip_address(text), OPENED)


def test_a_mapped_network_can_be_opened_by_its_own_name() -> None:
    networks = (IPv6Network("::ffff:0:0/96"),)
    assert may_connect(ip_address("::ffff:10.0.0.1"), networks)
    assert not may_connect(ip_address("10.0.0.1"), networks)


@pytest.mark.parametrize("text", ["fe80::1%eth0", "2600::1%eth0", "fd00:1::1%1"])
def test_an_address_with_a_zone_is_never_connected_to(text: str) -> None:
    address = IPv6Address(text)
    assert not is_public(address)
    assert not may_connect(address, (*OPENED, IPv6Network("::/0")))
