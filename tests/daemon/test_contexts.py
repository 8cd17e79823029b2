"""TLS contexts: verified always, and an end that is no end is never taken for one."""

import ssl
from pathlib import Path

import pytest

from swproxy.config.config import Config, Server
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


def agree(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Let two contexts shake hands in memory."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(up, down, server_side=True)
    theirs = client.wrap_bio(down, up)
    waiting = [theirs, ours, theirs, ours, theirs]
    for each in waiting:
        try:
            each.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert theirs.cipher() is not None
    return theirs


def offering(version: ssl.TLSVersion, ciphers: str = "", curve: str = "") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    if curve:
        context.set_ecdh_curve(curve)
    return context


class TestListener:
    """Mozilla's intermediate profile."""

    @pytest.fixture
    def server(self, tls_files: dict[str, Path]) -> ssl.SSLContext:
        given = Server.model_construct(**dict(Server()) | tls_files)
        context = make_contexts(Config(server=given)).server
        assert context is not None
        return context

    def test_offers_nothing_but_aead_with_forward_secrecy(self, server: ssl.SSLContext) -> None:
        for cipher in server.get_ciphers():
            assert cipher["aead"]
            assert cipher["name"].startswith(("TLS_", "ECDHE-"))

    @pytest.mark.parametrize("curve", ["X25519", "prime256v1", "secp384r1"])
    def test_takes_the_curves(self, curve: str, server: ssl.SSLContext) -> None:
        try:
            client = offering(ssl.TLSVersion.TLSv1_3, curve=curve)
        except ssl.SSLError:
            if curve != "X25519":
                raise
            pytest.skip("this build of Python cannot hold a client to X25519; Debian 12's is one")
        agree(server, client)

    def test_takes_tls_1_2(self, server: ssl.SSLContext) -> None:
        agreed = agree(server, offering(ssl.TLSVersion.TLSv1_2)).cipher()
        assert agreed is not None
        assert agreed[0].startswith("ECDHE-")
        assert "CBC" not in agreed[0]

    @pytest.mark.parametrize(
        "ciphers",
        ["ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA384:AES128-SHA", "AES128-GCM-SHA256"],
    )
    def test_takes_no_cbc_and_no_static_key(self, ciphers: str, server: ssl.SSLContext) -> None:
        weak = offering(ssl.TLSVersion.TLSv1_2, f"{ciphers}:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError, match=r"(?i)no.shared.cipher"):
            agree(server, weak)

    def test_takes_the_client_s_choice_and_no_second_handshake(
        self, server: ssl.SSLContext
    ) -> None:
        assert not server.options & ssl.OP_CIPHER_SERVER_PREFERENCE
        assert server.options & ssl.OP_NO_RENEGOTIATION
