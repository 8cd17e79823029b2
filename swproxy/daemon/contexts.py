"""TLS as configured: what clients are shown, and whom upstream is believed to be.

Making a context reads files, so it is done at the start, and in a thread for a reload.
"""

import os
import ssl
from dataclasses import dataclass

import httpcore

from swproxy.config.config import Config, Upstream

__all__ = ["Contexts", "make_contexts"]


CIPHERS = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)
"""Of TLS 1.2, as Mozilla's intermediate profile has it (wiki.mozilla.org/Security/Server_Side_TLS):
none but AEAD with forward secrecy. Those of TLS 1.3 are so anyhow. X25519, P-256 and P-384 are
among OpenSSL's default groups; Python can't name more than one."""


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts of one configuration.

    Two configurations whose `upstream_state` is equal may share upstream connections.
    """

    client: ssl.SSLContext
    server: ssl.SSLContext | None
    upstream_state: tuple[Upstream, tuple[int, ...]]


def make_contexts(config: Config, old: Contexts | None = None) -> Contexts:
    """Read the files that `config` names, but for what is as it was when `old` was made.

    Raises OSError (also ssl.SSLError) for a file that does not serve.
    """
    state = _upstream_state(config)
    unchanged = old is not None and old.upstream_state == state
    client = old.client if old is not None and unchanged else _client_context(config)
    return Contexts(client, _server_context(config), state)


def _client_context(config: Config) -> ssl.SSLContext:
    """Certificates and host names are always verified, by the system's trust store or certifi's."""
    context = ssl.create_default_context()
    if not context.get_ca_certs() and not context.cert_store_stats()["x509_ca"]:
        context = httpcore.default_ssl_context()
    if config.upstream.ca_file is not None:
        context.load_verify_locations(config.upstream.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Some builds of Python take a connection that is cut for one that was closed; an
    # answer that ends with its connection would look whole.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_alpn_protocols(["http/1.1"])
    return context


def _server_context(config: Config) -> ssl.SSLContext | None:
    server = config.server
    if server.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # An empty passphrase, not none: OpenSSL would ask for one on the terminal.
    context.load_cert_chain(server.tls_certificate, server.tls_key, password="")
    context.set_alpn_protocols(["http/1.1"])
    context.set_ciphers(CIPHERS)
    # All of them are good, and a phone without AES in its processor knows best.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    # TLS 1.2 only: a handshake costs us more than the client.
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _upstream_state(config: Config) -> tuple[Upstream, tuple[int, ...]]:
    """Return all that decides whom a connection may be with, the content of `ca_file` included."""
    file = config.upstream.ca_file
    if file is None:
        return config.upstream, ()
    status = os.stat(file)  # noqa: PTH116 - the same for a path in text
    return config.upstream, (status.st_ino, status.st_size, status.st_mtime_ns)
