"""Which addresses are on the public internet, by a table of our own.

The standard library's `is_global` follows another question (may a datagram with this address cross
a router?) and lets through what leads back inside: NAT64 and 6to4 prefixes that embed any IPv4
address, IPv4-compatible addresses, site-local and multicast ranges. Ours is the question a proxy
has: is this an address that only a stranger's server can answer on? So everything special is out,
anycast services and embedded forms included; an embedded public address has a plain form that
works.

IPv6 is out unless allotted: only 2000::/3 is, and the table takes its special parts away. Rows
after IANA's special-purpose address registries (RFC 6890) and the multicast and reserved spaces.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

__all__ = ["SPECIAL", "Address", "Network", "closed", "is_public", "may_connect", "special_purpose"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

SPECIAL: Final[tuple[tuple[str, str, str], ...]] = (
    # network, what it is for, where that is said
    ("0.0.0.0/8", "this host or network", "RFC 791 §3.2"),
    ("10.0.0.0/8", "private use", "RFC 1918"),
    ("100.64.0.0/10", "carrier-grade NAT", "RFC 6598"),
    ("127.0.0.0/8", "loopback", "RFC 1122 §3.2.1.3"),
    ("169.254.0.0/16", "link-local, cloud metadata", "RFC 3927"),
    ("172.16.0.0/12", "private use", "RFC 1918"),
    ("192.0.0.0/24", "protocol assignments", "RFC 6890 §2.1"),
    ("192.0.2.0/24", "documentation", "RFC 5737"),
    ("192.88.99.0/24", "6to4 relay anycast", "RFC 7526"),
    ("192.168.0.0/16", "private use", "RFC 1918"),
    ("198.18.0.0/15", "benchmarking", "RFC 2544"),
    ("198.51.100.0/24", "documentation", "RFC 5737"),
    ("203.0.113.0/24", "documentation", "RFC 5737"),
    ("224.0.0.0/4", "multicast", "RFC 5771"),
    ("240.0.0.0/4", "reserved, limited broadcast", "RFC 1112 §4, RFC 919"),
    ("::/128", "unspecified", "RFC 4291 §2.5.2"),
    ("::1/128", "loopback", "RFC 4291 §2.5.3"),
    ("::/96", "IPv4-compatible", "RFC 4291 §2.5.5.1"),
    ("::ffff:0:0/96", "IPv4-mapped", "RFC 4291 §2.5.5.2"),
    ("::ffff:0:0:0/96", "IPv4-translated", "RFC 2765 §2.1"),
    ("64:ff9b::/96", "NAT64", "RFC 6052"),
    ("64:ff9b:1::/48", "local-use NAT64", "RFC 8215"),
    ("100::/64", "discard-only", "RFC 6666"),
    ("100:0:0:1::/64", "dummy prefix", "RFC 9780"),
    ("2001::/23", "protocol assignments: Teredo, ORCHID and others", "RFC 2928"),
    ("2001:db8::/32", "documentation", "RFC 3849"),
    ("2002::/16", "6to4", "RFC 3056"),
    ("3fff::/20", "documentation", "RFC 9637"),
    ("5f00::/16", "segment routing", "RFC 9602"),
    ("fc00::/7", "unique local", "RFC 4193"),
    ("fe80::/10", "link-local", "RFC 4291 §2.5.6"),
    ("fec0::/10", "site-local, deprecated", "RFC 3879"),
    ("ff00::/8", "multicast", "RFC 4291 §2.7"),
)

_UNALLOTTED: Final = "not allotted as global unicast (RFC 4291 §2.4)"


_MOST_TOLD: Final = 4
"""Addresses of one host that an operator is told of: a name's owner chooses how many there are."""


def _ranges(version: int) -> tuple[tuple[int, int, str], ...]:
    networks = ((ip_network(text), purpose, source) for text, purpose, source in SPECIAL)
    return tuple(
        (int(network[0]), int(network[-1]), f"{purpose} ({source})")
        for network, purpose, source in networks
        if network.version == version
    )


# First and last address as integers: comparing those costs a twentieth of `address in network`.
_IPV4: Final = _ranges(4)
_IPV6: Final = _ranges(6)


def special_purpose(address: Address) -> str | None:
    """Return what the address is reserved for, with its source; None of a public address."""
    number = int(address)
    version4 = address.version == 4
    for first, last, purpose in _IPV4 if version4 else _IPV6:
        if first <= number <= last:
            return purpose
    return None if version4 or number >> 125 == 0b001 else _UNALLOTTED


def is_public(address: Address) -> bool:
    """Whether only somebody on the public internet can answer at this address."""
    return special_purpose(address) is None and not _has_zone(address)


def may_connect(address: Address, private_networks: Sequence[Network]) -> bool:
    """Whether an upstream name may resolve to this address.

    It may if the address is public, or inside a network that the operator opened. An IPv4-mapped
    address reaches the IPv4 host inside it, and so is open where that host's network is; that the
    host is public does not open it, for no honest name resolves to such an address.
    """
    if is_public(address):
        return True
    if _has_zone(address):
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    inside = mapped or address
    return any(address in network or inside in network for network in private_networks)


def closed(addresses: Iterable[Address], private_networks: Sequence[Network]) -> str:
    """Say why no request reaches a host that has these addresses, and what opens it; "" if one may.

    For the operator: who asks from outside is not told what is inside.
    """
    found = [each for each in addresses if not may_connect(each, private_networks)]
    if not found:
        return ""
    found = found[:_MOST_TOLD]
    what = ", ".join(f"{each} is not public: {special_purpose(each)}" for each in found)
    networks = ", ".join(f'"{each}/{each.max_prefixlen}"' for each in found)
    return f"{what}; if requests are to go there, add {networks} to upstream.private_networks"


def _has_zone(address: Address) -> bool:
    """Whether the address only means something on one of this machine's links."""
    return isinstance(address, IPv6Address) and address.scope_id is not None
