"""Caddy: it knows no signatures, so what it checks is a token that all requests share."""

from __future__ import annotations

from pathlib import Path

from bench.site import APP_SECRET, IDLE_CONNECTIONS, Request, Site
from bench.subjects import Program
from bench.upstream import API_KEY

__all__ = ["Caddy"]


class Caddy(Program):
    """Caddy on one core, which is what it is started on."""

    program = "caddy"
    install = "go install github.com/caddyserver/caddy/v2/cmd/caddy@latest"

    def __init__(self) -> None:
        super().__init__("caddy")

    def _command(self, site: Site, program: str, directory: Path) -> list[str]:
        config = directory / "Caddyfile"
        config.write_text(_config(site, self._port, directory))
        return [program, "run", "--config", str(config), "--adapter", "caddyfile"]

    def request(self, scheme: str, path: str, method: str = "GET") -> Request:
        """Return a request with the token."""
        return Request(self._port, f"/{scheme}{path}?token={APP_SECRET}", method=method)


def _config(site: Site, port: int, directory: Path) -> str:
    tls = f"tls_trust_pool file {site.ca_file}\n                tls_server_name localhost"
    handlers = "\n".join(
        f"""
    @{scheme} {{
        path /{scheme}/*
        query token={APP_SECRET}
    }}
    handle @{scheme} {{
        uri strip_prefix /{scheme}
        reverse_proxy {scheme}://127.0.0.1:{site.ports[scheme]} {{
            flush_interval -1
            header_up Authorization "{API_KEY}"
            transport http {{
                keepalive_idle_conns_per_host {IDLE_CONNECTIONS}
                {extra}
            }}
        }}
    }}"""
        for scheme, extra in (("http", ""), ("https", tls))
    )
    return f"""
{{
    admin off
    auto_https off
    persist_config off
}}
http://127.0.0.1:{port} {{
    bind 127.0.0.1
    log {{
        output file {directory}/access.log
    }}
{handlers}
    respond 403
}}
"""
