"""Who a request came from, as the access log names it."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

__all__ = ["client_address", "client_of_share", "is_within"]

Network = IPv4Network | IPv6Network

_MOST_HOPS = 16
"""Entries of X-Forwarded-For that are looked at, from its end; more is no chain of proxies."""


def client_address(peer: str, forwarded_for: bytes | None, trusted: Sequence[Network]) -> str:
    """Return the address of the client behind trusted proxies.

    `peer` is the connection's own other end, "" for a Unix socket, whose peer is trusted because
    it is on this machine. X-Forwarded-For is read from its end for as long as whoever added an
    entry is trusted; what lies beyond the first stranger is that stranger's invention. Without
    zones (RFC 4007), which are names, of any characters, for a link of whoever wrote them.
    """
    address = peer = peer.partition("%")[0]
    if forwarded_for is None or not _is_trusted(peer, trusted):
        return address
    for entry in reversed(forwarded_for.decode("latin-1").split(",")[-_MOST_HOPS:]):
        try:
            address = str(_folded(ip_address(entry.strip().partition("%")[0])))
        except ValueError:
            return address
        if not _is_trusted(address, trusted):
            return address
    return address


def is_within(text: str, networks: Iterable[Network]) -> bool:
    """Tell whether an address is in one of `networks`; one that is none ("") is in no network."""
    if not text:
        return False
    address = _folded(ip_address(text))
    return any(address in network for network in networks)


def client_of_share(address: str, trusted: Sequence[Network]) -> str:
    """Return what is counted as one client: an address, or of IPv6 the network of 64 bits.

    "" for a trusted proxy (and a Unix socket), that has many clients behind it and named none.
    """
    if _is_trusted(address, trusted):
        return ""
    parsed = _folded(ip_address(address))
    if isinstance(parsed, IPv6Address):
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)


def _is_trusted(text: str, trusted: Sequence[Network]) -> bool:
    return not text or is_within(text, trusted)


def _folded(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
