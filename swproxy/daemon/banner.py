"""What `swproxy serve` says first to a person at a terminal: where it is and how to use it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from swproxy.config import DEFAULT_CONFIG
from swproxy.config.config import Config
from swproxy.config.signer import example_url
from swproxy.daemon.listeners import Listener

__all__ = ["banner"]


def banner(
    path: Path, config: Config, public: Sequence[Listener], admin: Sequence[Listener], version: str
) -> str:
    """Return it for a configuration read from `path` and the sockets that are listened on."""
    server = config.server
    addresses = [_url(each, tls=server.tls_certificate is not None) for each in public]
    rows = [
        ("address", ", ".join(filter(None, [server.public_url, *addresses]))),
        ("admin", ", ".join(_url(each, tls=False) for each in admin)),
        ("configuration", str(path.absolute())),
        ("applications", ", ".join(config.apps) or "none yet: swproxy app add"),
        ("a first URL", _first_url(path, config, addresses)),
        ("end it", f"Ctrl-C: answers under way have {server.drain_seconds:g} s to end"),
    ]
    lines = [f"  {name:15}{text}" for name, text in rows if text]
    return "\n".join([f"swproxy {version} serves", *lines, ""])


def _url(listener: Listener, *, tls: bool) -> str:
    if listener.address.startswith("unix:"):
        return listener.address
    return f"http{'s' * tls}://{listener.address}"


def _first_url(path: Path, config: Config, addresses: Sequence[str]) -> str:
    """Return a command that calls something through the proxy, "" if none is known to work."""
    if not config.apps:
        return ""
    words = ["swproxy", "sign"]
    if str(path) != DEFAULT_CONFIG:
        words += ["--config", str(path.absolute())]
    if not config.server.base_url():
        reachable = [each for each in addresses if not each.startswith("unix:")]
        if not reachable:
            return ""
        words += ["--host", reachable[0]]
    app = next(iter(config.apps.values()))
    if len(config.apps) > 1:
        words += ["--app", app.id]
    return f'curl -N "$({shlex.join([*words, example_url(app.allow[0].text)])})"'
