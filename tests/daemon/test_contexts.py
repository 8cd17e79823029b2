"""TLS contexts: verified always, and an end that is no end is never taken for one."""

import ssl

import pytest

from swproxy.config.config import Config
from swproxy.daemon.contexts import make_contexts


def test_upstreams_are_verified_by_name_and_certificate() -> None:
    context = make_contexts(Config()).client
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_cut_connection_is_no_end_whatever_this_build_of_python_thinks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def as_debian_builds_it() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
        return context

    monkeypatch.setattr(ssl, "create_default_context", as_debian_builds_it)
    context = make_contexts(Config()).client
    assert not context.options & ssl.OP_IGNORE_UNEXPECTED_EOF


def test_a_system_without_authorities_gets_certifis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ssl, "create_default_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    assert make_contexts(Config()).client.cert_store_stats()["x509_ca"] > 50
