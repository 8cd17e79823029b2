"""Whether what an application is allowed to call can be reached: told before a call is refused.

Addresses are judged when they are dialled, and that judgement is the only one that counts. But
where an `allow` pattern or a URL names an address, or a name that stands for this machine, the
outcome is known beforehand. Of other names it is known once somebody has resolved them; nothing
here does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address

from swproxy.config.config import App, Config
from swproxy.policy.addresses import Address, closed

__all__ = ["Resolve", "nothing_resolved", "unreachable", "unreachable_patterns"]

Resolve = Callable[[Iterable[str]], Mapping[str, Sequence[Address]]]
"""Gives the addresses of those names that have any."""

_LOOPBACK = (ip_address("127.0.0.1"), ip_address("::1"))


def nothing_resolved(names: Iterable[str]) -> Mapping[str, Sequence[Address]]:  # noqa: ARG001
    """Be the `Resolve` of who asks nobody."""
    return {}


def unreachable(config: Config, host: str, resolve: Resolve = nothing_resolved) -> str:
    """Say why requests to a host will be refused, and what opens it; "" if nothing speaks against.

    `host` is a destination's, without brackets.
    """
    return _judge(config, host, resolve([host]).get(host, ()))


def unreachable_patterns(
    config: Config, resolve: Resolve = nothing_resolved
) -> Iterator[tuple[App, int, str]]:
    """Give each `allow` pattern that leads where no request may go: whose, which, and why."""
    hosts = {pattern.host for app in config.apps.values() for pattern in app.allow}
    # A leading dot stands for all names below, an empty host for any.
    addresses = resolve(sorted(host for host in hosts if host and host[0] != "."))
    for app in config.apps.values():
        for number, pattern in enumerate(app.allow):
            if reason := _judge(config, pattern.host, addresses.get(pattern.host, ())):
                yield app, number, reason


def _judge(config: Config, host: str, addresses: Sequence[Address]) -> str:
    networks = config.upstream.private_networks
    try:
        return closed([ip_address(host)], networks)
    except ValueError:
        pass
    if not addresses and f".{host}".endswith(".localhost"):
        # It is this machine by definition (RFC 6761 section 6.3), in one family or in both.
        reasons = [closed([each], networks) for each in _LOOPBACK]
        return closed(_LOOPBACK, networks) if all(reasons) else ""
    return closed(addresses, networks)
