"""What the subjects are told: configurations, links, command lines and URL templates."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import trustme

from bench.__main__ import choose
from bench.client import LoadError
from bench.peers.caddy import Caddy
from bench.peers.envoy import Envoy
from bench.peers.go import Go
from bench.peers.haproxy import HAProxy
from bench.peers.nginx import Nginx, nginx_config, secure_link
from bench.peers.starlette import StarletteHttpx
from bench.processes import StartError
from bench.session import Options, Session
from bench.site import Request, Site
from bench.subjects import Direct, Peer, Subject, swproxy_config
from tests.support.config import load


def _site(tmp_path: Path, workers: int = 1) -> Site:
    ca_file = tmp_path / "ca.pem"
    return Site({"http": 81, "https": 444}, ca_file, tmp_path, frozenset({0}), workers)


def test_a_secure_link_is_what_the_nginx_manual_computes() -> None:
    # echo -n '2147483647/s/link127.0.0.1 secret' | openssl md5 -binary | openssl base64
    # | tr +/ -_ | tr -d =     gives _e4Nc3iduzkWRm01TBBNYw; the path here ends in the address.
    target = secure_link("/s/link127.0.0.1", 2147483647, "secret")
    assert target == "/s/link127.0.0.1?expires=2147483647&md5=_e4Nc3iduzkWRm01TBBNYw"


def test_the_daemon_s_configuration_has_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "swproxy.toml"
    site = _site(tmp_path, workers=2)
    trustme.CA().cert_pem.write_to_path(str(site.ca_file))
    path.write_text(swproxy_config(site, 3456))
    path.chmod(0o600)
    config = load(path, {})
    assert config.server.workers == 2
    assert config.server.access_log
    assert [pattern.text for pattern in config.apps["bench"].allow] == [
        "http://127.0.0.1:81/*",
        "https://127.0.0.1:444/*",
    ]


def test_nginx_verifies_streams_and_keeps_connections(tmp_path: Path) -> None:
    text = nginx_config(_site(tmp_path), 3456, tmp_path, root=False)
    for directive in (
        "listen 127.0.0.1:3456 backlog=4096;",
        "proxy_buffering off;",
        "proxy_ssl_verify on;",
        "server 127.0.0.1:444; keepalive 256;",
        "worker_processes 1;",
    ):
        assert directive in text
    assert "user root" not in text
    assert text.count("{") == text.count("}")


def test_a_request_head() -> None:
    request = Request(80, "/x?y=1", method="POST", headers=(("A", "b"),))
    assert request.head(length=3) == (
        b"POST /x?y=1 HTTP/1.1\r\nHost: 127.0.0.1:80\r\nA: b\r\nContent-Length: 3\r\n\r\n"
    )
    assert request.url == "http://127.0.0.1:80/x?y=1"


def test_subjects_are_chosen_by_name() -> None:
    builders = choose("nginx,direct,mine", ["mine=run --port {port}"], [])
    subjects = [build() for build in builders]
    assert [subject.name for subject in subjects] == ["nginx", "direct", "mine"]
    assert isinstance(subjects[0], Nginx)
    assert isinstance(subjects[1], Direct)
    assert isinstance(subjects[2], Peer)


@pytest.mark.parametrize(
    ("names", "peers", "templates", "complaint"),
    [
        ("direct,apache", [], [], "apache"),
        (None, ["no command"], [], "NAME=VALUE"),
        (None, ["=command"], [], "NAME=VALUE"),
        (None, [], ["other={signed}"], "no --peer"),
    ],
)
def test_a_wrong_choice_is_explained(
    names: str | None, peers: list[str], templates: list[str], complaint: str
) -> None:
    with pytest.raises(click.BadParameter, match=complaint):
        choose(names, peers, templates)


def test_a_placeholder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"\{prot\}"):
        Peer("mine", "run --port {prot}", "{signed}").start(_site(tmp_path))


def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no-such-proxy"):
        Peer("mine", "no-such-proxy {port}", "{signed}").start(_site(tmp_path))


def test_a_subject_that_ends_at_once_is_quoted(tmp_path: Path) -> None:
    command = "sh -c 'echo it will not do >&2; exit 3'"
    with pytest.raises(StartError, match="exit code 3: it will not do"):
        Peer("mine", command, "{signed}").start(_site(tmp_path))


SPINNING = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    pass
"""


def test_a_subject_that_stays_busy_is_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.session._CALM_SECONDS", 0.1)
    script = tmp_path / "spin.py"
    script.write_text(SPINNING)
    subject = Peer("mine", f"{sys.executable} {script} {{port}}", "{signed}")
    session = Session(Options(), tmp_path, io.StringIO())
    subject.start(_site(tmp_path))
    try:
        before = subject.family()
        with session.attempt("small", subject, "c=1"):
            raise LoadError("no answer at all")
        assert set(subject.family()).isdisjoint(before)
        assert not any(Path(f"/proc/{pid}").exists() for pid in before)
    finally:
        subject.stop()
    assert [remark.text for remark in session.figures.remarks] == [
        "c=1: no answer at all",
        "c=1: still busy 0 seconds later, and started anew",
    ]


@pytest.mark.parametrize("build", [HAProxy, Caddy, Envoy, Go, Nginx, StarletteHttpx])
def test_a_peer_does_the_task(build: Callable[[], Subject], tmp_path: Path) -> None:
    session = Session(Options(), tmp_path, io.StringIO())
    with session.bed("small", only=[build]) as bed:
        found = [subject.name for subject in bed.subjects]
    remarks = [remark.text for remark in session.figures.remarks]
    if any("not installed" in text for text in remarks):
        pytest.skip(remarks[0])
    # A bed has only those that pass the key on, and refuse a forged signature.
    assert found == [build().name], remarks
