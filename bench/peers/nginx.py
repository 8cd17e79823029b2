"""nginx as a signing proxy: its configuration, and the links that it accepts."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from pathlib import Path

from bench.site import APP_SECRET, EXPIRY_SECONDS, IDLE_CONNECTIONS, Request, Site
from bench.subjects import Program
from bench.upstream import API_KEY

__all__ = ["Nginx", "nginx_config", "secure_link"]


class Nginx(Program):
    """nginx with `secure_link`: the same task with nginx's own, simpler signature."""

    program = "nginx"
    install = "apt-get install nginx"

    def __init__(self) -> None:
        super().__init__("nginx")

    def _command(self, site: Site, program: str, directory: Path) -> list[str]:
        config = directory / "nginx.conf"
        config.write_text(nginx_config(site, self._port, directory, root=os.geteuid() == 0))
        return [program, "-c", str(config), "-p", str(directory)]

    def request(self, scheme: str, path: str, method: str = "GET") -> Request:
        """Return a request under the secure_link of its path."""
        target = secure_link(f"/{scheme}{path}", int(time.time()) + EXPIRY_SECONDS, APP_SECRET)
        return Request(self._port, target, method=method)


def secure_link(path: str, expires: int, secret: str) -> str:
    """Return the target that `secure_link_md5 "$secure_link_expires$uri SECRET"` accepts."""
    digest = hashlib.md5(f"{expires}{path} {secret}".encode(), usedforsecurity=False).digest()
    text = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return f"{path}?expires={expires}&md5={text}"


def nginx_config(site: Site, port: int, directory: Path, *, root: bool) -> str:
    """Return a configuration that streams and keeps connections, like the others."""
    hosts = "\n".join(
        f"    upstream up_{scheme} {{ server 127.0.0.1:{site.ports[scheme]}; "
        f"keepalive {IDLE_CONNECTIONS}; keepalive_requests 100000000; }}"
        for scheme in ("http", "https")
    )
    locations = "\n".join(
        f"""        location /{scheme}/ {{
            secure_link $arg_md5,$arg_expires;
            secure_link_md5 "$secure_link_expires$uri {APP_SECRET}";
            if ($secure_link = "") {{ return 403; }}
            if ($secure_link = "0") {{ return 410; }}
            proxy_pass {scheme}://up_{scheme}/;
        }}"""
        for scheme in ("http", "https")
    )
    paths = "\n".join(
        f"    {kind}_temp_path {directory}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""{"user root;" if root else ""}
daemon off;
worker_processes {site.workers};
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 20000; }}
http {{
    access_log {directory}/access.log;
    keepalive_requests 100000000;
    client_max_body_size 0;
    map $http_upgrade $connection_option {{ default upgrade; "" ""; }}
{paths}
{hosts}
    server {{
        listen 127.0.0.1:{port}{" reuseport" if site.workers > 1 else ""} backlog=4096;
        proxy_http_version 1.1;
        proxy_buffering off;
        proxy_request_buffering off;
        proxy_read_timeout 300s;
        proxy_set_header Connection $connection_option;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Authorization "{API_KEY}";
        proxy_ssl_trusted_certificate {site.ca_file};
        proxy_ssl_verify on;
        proxy_ssl_name localhost;
{locations}
    }}
}}
"""
