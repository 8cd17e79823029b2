"""HAProxy: its own converters make an HMAC of expiry and path."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from pathlib import Path

from bench.site import APP_SECRET, EXPIRY_SECONDS, IDLE_CONNECTIONS, Request, Site
from bench.subjects import Program
from bench.upstream import API_KEY

__all__ = ["HAProxy"]


class HAProxy(Program):
    """HAProxy with one thread."""

    program = "haproxy"
    install = "apt-get install haproxy"

    def __init__(self) -> None:
        super().__init__("haproxy")

    def _command(self, site: Site, program: str, directory: Path) -> list[str]:
        config = directory / "haproxy.cfg"
        config.write_text(_config(site, self._port))
        return [program, "-db", "-f", str(config)]

    def request(self, scheme: str, path: str, method: str = "GET") -> Request:
        """Return a request whose query holds the HMAC."""
        expires = int(time.time()) + EXPIRY_SECONDS
        text = f"{expires} /{scheme}{path}"
        digest = hmac.new(APP_SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
        target = f"/{scheme}{path}?expires={expires}&mac={digest}"
        return Request(self._port, target, method=method)


def _config(site: Site, port: int) -> str:
    key = base64.b64encode(APP_SECRET.encode()).decode()
    verified = f"ssl verify required ca-file {site.ca_file} verifyhost localhost sni str(localhost)"
    servers = "\n".join(
        f"""
backend {scheme}
    http-request replace-path /{scheme}(.*) \\1
    server upstream 127.0.0.1:{site.ports[scheme]} pool-max-conn {IDLE_CONNECTIONS} {extra}"""
        for scheme, extra in (("http", ""), ("https", verified))
    )
    return f"""
global
    nbthread 1
    maxconn 8000
    log stdout format raw local0
defaults
    mode http
    log global
    option httplog
    option http-no-delay
    http-reuse always
    timeout connect 10s
    timeout client 300s
    timeout server 300s
    timeout tunnel 300s
frontend signed
    bind 127.0.0.1:{port} backlog 4096
    http-request set-var(txn.now) date
    http-request set-var(txn.path) path
    http-request set-var(txn.given) url_param(mac)
    http-request set-var(txn.text) url_param(expires),concat(" ",txn.path)
    http-request set-var(txn.mac) var(txn.text),hmac(sha256,{key}),hex,lower
    http-request deny unless {{ var(txn.mac),secure_memcmp(txn.given) -m bool }}
    http-request deny if {{ url_param(expires),sub(txn.now) -m int lt 0 }}
    http-request set-header Authorization "{API_KEY}"
    use_backend https if {{ path_beg /https/ }}
    default_backend http
{servers}
"""
