"""The configuration's files: how they are read, and how they are written."""

import contextlib
import os
import secrets as randomness
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trustme

from swproxy.config import loader
from swproxy.config.loader import ConfigError, inspect, load_to_sign
from tests.support.config import load

SECRET = "canary-secret-0123456789"
APP = f"secrets = ['{SECRET}']\nallow = ['https://api.example/*']\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "swproxy.toml"
    path.write_text("")
    (tmp_path / "apps").mkdir()
    return path


def write_app(path: Path, content: str | bytes = APP, name: str = "my-app.toml") -> Path:
    file = path.parent / "apps" / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    file.chmod(0o600)
    return file


def faults(path: Path, environ: dict[str, str] | None = None) -> list[str]:
    found = inspect(path, environ or {})
    assert (found.config is None) == bool(found.faults)
    return [str(each).replace(f"{path.parent}/", "") for each in found.faults]


def warnings(path: Path) -> list[str]:
    return [str(each).replace(f"{path.parent}/", "") for each in inspect(path, {}).warnings]


def test_load(path: Path) -> None:
    write_app(path)
    write_app(path, "broken", ".hidden.toml")
    write_app(path, "broken", "backup.toml~")
    config = load(path, {})
    assert list(config.apps) == ["my-app"]
    assert config.apps["my-app"].secrets == (SECRET,)
    assert warnings(path) == []


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "swproxy.toml", {})
    assert str(caught.value).endswith("swproxy.toml: does not exist: `swproxy init` writes one")
    assert caught.value.faults[0].file == tmp_path / "swproxy.toml"


def test_no_applications(tmp_path: Path) -> None:
    path = tmp_path / "swproxy.toml"
    path.write_text("")
    assert faults(path) == []
    assert warnings(path) == ["swproxy.toml: apps: there is none: add one with `swproxy app add`"]


def test_syntax_is_told_for_every_file_with_its_place(path: Path) -> None:
    path.write_text("[server]\nworkers = = 3\n")
    write_app(path, f"secrets = ['{SECRET}'", "a.toml")
    write_app(path, f"secrets = ['{SECRET}']\n\nallow = ['\xff']".encode("latin-1"), "b.toml")
    write_app(path, "a = 1\nb = nope\n", "c.toml")
    assert faults(path)[0].startswith("swproxy.toml: line 2, column 11: invalid value")
    path.write_text("")
    found = faults(path)
    assert found[0] == "apps/a.toml: end of file: unclosed array"
    assert found[1] == "apps/b.toml: line 3: is not UTF-8 text"
    assert found[2] == "apps/c.toml: line 2, column 5: invalid value"
    assert SECRET not in "".join(found)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_told_as_one(path: Path, encoding: str) -> None:
    path.write_text("[server]\nworkers = 1\n", encoding)
    write_app(path, "")
    assert faults(path)[0] == (
        "swproxy.toml: begins with a byte order mark: save it as UTF-8 without one"
    )


@pytest.mark.parametrize("file", ["a.toml", "-.toml"])
def test_an_application_with_a_fault_is_one_that_there_is(path: Path, file: str) -> None:
    write_app(path, "secrets = [", file)
    assert faults(path)
    assert warnings(path) == []


def test_a_short_secret_is_replaced_where_it_stands(path: Path) -> None:
    path.write_text("[apps.main]\nsecrets = ['short']\nallow = ['*']")
    path.chmod(0o600)
    write_app(path, "secrets = ['short']\nallow = ['*']", "own.toml").chmod(0o600)
    in_main, in_file = [each for each in warnings(path) if "guessed" in each]
    assert "openssl rand" in in_main
    assert "rotate" not in in_main
    assert "swproxy app rotate" in in_file


def test_files_that_cannot_be_read(path: Path) -> None:
    (path.parent / "apps" / "a.toml").mkdir()
    write_app(path, b"#" * ((1 << 20) + 1), "b.toml")
    assert faults(path) == [
        "apps/a.toml: cannot be read: Is a directory",
        "apps/b.toml: is longer than 1048576 bytes",
    ]


def test_apps_that_is_no_directory(path: Path) -> None:
    (path.parent / "apps").rmdir()
    (path.parent / "apps").write_text("")
    assert faults(path) == ["apps: cannot be read: Not a directory"]


def test_faults_stand_in_the_order_of_files(path: Path) -> None:
    write_app(path, "secrets = [", "a.toml")
    write_app(path, "", "b.toml")
    path.write_text("[limits]\nconnections = 0")
    assert [each.split(":")[0] for each in faults(path)] == [
        "swproxy.toml",
        "apps/a.toml",
        "apps/b.toml",
        "apps/b.toml",
    ]


def test_references_to_variables_and_files(path: Path) -> None:
    (path.parent / "key.txt").write_text("canary-key\r\n\n")
    (path.parent / "creds").mkdir()
    (path.parent / "creds" / "key.txt").write_text("another-key")
    write_app(path, APP + "headers = { A = 'Bearer ${file:key.txt}', B = '${KEY}' }")
    assert load(path, {"KEY": "k"}).apps["my-app"].headers == (
        (b"A", b"Bearer canary-key"),
        (b"B", b"k"),
    )
    environ = {"KEY": "k", "CREDENTIALS_DIRECTORY": str(path.parent / "creds")}
    assert load(path, environ).apps["my-app"].headers[0] == (b"A", b"Bearer another-key")


def test_missing_references_name_key_and_reference(path: Path) -> None:
    (path.parent / "binary").write_bytes(b"canary\xff")
    write_app(
        path,
        APP + "[headers]\nA = '${NOPE} ${KEY}'\nB = '${file:nope}'\nC = '${file:binary}'\n"
        "D = '${file:/}'\nE = '${RAW}'\nF = '${file:/dev/zero}'",
    )
    found = faults(path, {"KEY": "canary", "RAW": os.fsdecode(b"canary\xff")})
    assert found == [
        "apps/my-app.toml: headers.A: ${NOPE} is not set in the environment",
        "apps/my-app.toml: headers.B: ${file:nope}: cannot read nope: No such file or directory",
        "apps/my-app.toml: headers.C: ${file:binary}: binary line 1: is not UTF-8 text",
        "apps/my-app.toml: headers.D: ${file:/}: cannot read /: Is a directory",
        "apps/my-app.toml: headers.E: ${RAW} is not UTF-8 text",
        "apps/my-app.toml: headers.F: ${file:/dev/zero}: /dev/zero is longer than 1048576 bytes",
    ]


def test_an_empty_variable_is_no_key(path: Path) -> None:
    write_app(path, APP + "headers = { A = 'Bearer ${KEY}' }")
    assert "none follows: a variable was empty" in faults(path, {"KEY": ""})[0]


@pytest.mark.parametrize(("mode", "told"), [(0o600, 0), (0o640, 0), (0o644, 1), (0o660, 1)])
def test_a_secret_open_to_others_is_a_warning(path: Path, mode: int, told: int) -> None:
    file = write_app(path)
    file.chmod(mode)
    expected = [
        f"apps/my-app.toml: holds a secret and is open to others: run `chmod 600 {file}`".replace(
            f"{path.parent}/", ""
        )
    ]
    assert warnings(path) == expected[:told]


def test_a_reference_may_be_read_by_anybody_but_not_what_it_leads_to(path: Path) -> None:
    write_app(path, APP.replace(SECRET, "${file:secret}")).chmod(0o644)
    (path.parent / "secret").write_text(SECRET)
    (path.parent / "secret").chmod(0o640)
    assert warnings(path) == []
    (path.parent / "secret").chmod(0o644)
    (said,) = warnings(path)
    assert said.startswith("secret: holds a key and is open to others: run `chmod 600 ")


@pytest.mark.parametrize("content", ["", "\n", " \r\n"])
def test_an_empty_file_is_no_key(path: Path, content: str) -> None:
    write_app(path, APP + "headers = { A = '${file:key}' }")
    (path.parent / "key").write_text(content)
    assert faults(path) == ["apps/my-app.toml: headers.A: ${file:key}: key is empty"]


def test_a_certificate_s_key_is_nobody_else_s(path: Path) -> None:
    leaf = trustme.CA().issue_cert("edge.example")
    leaf.private_key_and_cert_chain_pem.write_to_path(str(path.parent / "both.pem"))
    path.write_text("[server]\ntls_certificate = 'both.pem'\ntls_key = 'both.pem'\n")
    write_app(path).chmod(0o600)
    for mode, told in ((0o600, 0), (0o640, 0), (0o644, 1)):
        (path.parent / "both.pem").chmod(mode)
        assert len(warnings(path)) == told


@pytest.mark.parametrize("where", [".", "apps", "swproxy.toml", "apps/my-app.toml"])
def test_what_anybody_can_write_is_told(path: Path, where: str) -> None:
    path.write_text("")
    write_app(path).chmod(0o600)
    assert warnings(path) == []
    place = path.parent / where
    before = stat.S_IMODE(place.stat().st_mode)
    place.chmod(before | stat.S_IWOTH)
    (said,) = warnings(path)
    assert str(place.name) in said
    assert "chmod" in said
    if place.is_dir():
        place.chmod(before | stat.S_IWOTH | stat.S_ISVTX)
        assert warnings(path) == []


def test_signing_reads_no_key(path: Path) -> None:
    path.write_text("[server]\ntls_certificate = 'nope'\ntls_key = 'nope'")
    write_app(path, APP + "headers = { A = '${NOPE}' }")
    loaded = load_to_sign(path, {})
    assert loaded.apps["my-app"].secrets == (SECRET,)
    assert loaded.server.base_url() == "https://127.0.0.1:3000"
    write_app(path, "")
    with pytest.raises(ConfigError):
        load_to_sign(path, {})


class TestCertificates:
    @pytest.fixture
    def tls(self, path: Path) -> Path:
        authority = trustme.CA()
        leaf = authority.issue_cert("edge.example")
        directory = path.parent
        leaf.private_key_and_cert_chain_pem.write_to_path(str(directory / "both.pem"))
        leaf.private_key_pem.write_to_path(str(directory / "key.pem"))
        authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        (directory / "junk.pem").write_text("canary")
        (directory / "locked.pem").write_text(
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"
        )
        return path

    def test_that_serve(self, tls: Path) -> None:
        tls.write_text(
            "[server]\ntls_certificate = 'both.pem'\ntls_key = 'key.pem'\n"
            "[upstream]\nca_file = 'ca.pem'"
        )
        assert faults(tls) == []

    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            (
                "[server]\ntls_certificate = 'nope.pem'\ntls_key = 'gone.pem'",
                [
                    "server.tls_certificate: cannot read nope.pem: No such file or directory",
                    "server.tls_key: cannot read gone.pem: No such file or directory",
                ],
            ),
            (
                "[server]\ntls_certificate = 'junk.pem'\ntls_key = 'key.pem'",
                ["server.tls_certificate: junk.pem holds no PEM certificate"],
            ),
            (  # in each other's place
                "[server]\ntls_certificate = 'key.pem'\ntls_key = 'ca.pem'",
                ["server.tls_certificate: key.pem holds no PEM certificate"],
            ),
            (
                "[server]\ntls_certificate = 'ca.pem'\ntls_key = 'key.pem'",
                ["server.tls_key: key.pem is the key of another certificate"],
            ),
            (
                "[server]\ntls_certificate = 'both.pem'\ntls_key = 'junk.pem'",
                ["server.tls_key: junk.pem holds no PEM private key"],
            ),
            (  # a passphrase is not asked for
                "[server]\ntls_certificate = 'both.pem'\ntls_key = 'locked.pem'",
                ["server.tls_key: locked.pem has a passphrase: take it off with `openssl pkey`"],
            ),
            (
                "[upstream]\nca_file = 'junk.pem'",
                ["upstream.ca_file: junk.pem holds no PEM certificate"],
            ),
            (
                "[upstream]\nca_file = 'nope.pem'",
                ["upstream.ca_file: cannot read nope.pem: No such file or directory"],
            ),
        ],
    )
    def test_that_do_not(self, tls: Path, text: str, fault: list[str]) -> None:
        tls.write_text(text)
        assert faults(tls) == [f"swproxy.toml: {each}" for each in fault]


def test_applications_are_found_as_they_are_written(path: Path) -> None:
    path.write_text("[apps.first]\nsecrets = ['${NOPE}']")
    write_app(path, "anything = 3")
    first, second = loader.applications(path)
    assert (first.id, first.file, first.prefix) == ("first", path, ("apps", "first"))
    assert first.table == {"secrets": ["${NOPE}"]}
    assert (second.id, second.prefix, second.table) == ("my-app", (), {"anything": 3})
    assert "NOPE" not in repr(first)
    write_app(path, "broken")
    with pytest.raises(ConfigError):
        loader.applications(path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "apps" / "a.toml"
    loader.write_new(path, "x = 'é'\n")
    assert path.read_text(encoding="utf-8") == "x = 'é'\n"
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    with pytest.raises(FileExistsError):
        loader.write_new(path, "other")
    assert path.read_text(encoding="utf-8") == "x = 'é'\n"
    assert list(path.parent.iterdir()) == [path]


def test_replacing_keeps_the_rights_but_those_of_others(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("old = 1")
    path.chmod(0o644)
    before = path.stat()
    loader.rewrite(path, lambda table: f"new = {table}")
    assert path.read_text() == "new = {'old': 1}"
    assert mode(path) == 0o640
    assert path.stat().st_ino != before.st_ino  # whoever reads the old one reads it to its end
    assert list(tmp_path.iterdir()) == [path]


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@as_root
def test_root_writes_for_the_directorys_owner(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 23456)
    path = tmp_path / "apps" / "a.toml"
    loader.write_new(path, "x = 1")
    assert {(each.stat().st_uid, each.stat().st_gid) for each in (path, path.parent)} == {
        (12345, 23456)
    }
    os.chown(path, 34567, 34567)
    loader.rewrite(path, str)
    assert (path.stat().st_uid, path.stat().st_gid) == (34567, 34567)


@as_root
@pytest.mark.parametrize(
    ("directory", "made", "file"), [(0o750, 0o750, 0o640), (0o755, 0o700, 0o600)]
)
def test_root_lets_the_group_read_what_it_shares_a_directory_with(
    tmp_path: Path, directory: int, made: int, file: int
) -> None:
    """The documented layout: /etc/swproxy is root's, and the service's group may read it."""
    os.chown(tmp_path, 0, 23456)
    tmp_path.chmod(directory)
    path = tmp_path / "apps" / "a.toml"
    loader.write_new(path, "x = 1")
    assert (mode(path.parent), mode(path)) == (made, file)
    assert {(each.stat().st_uid, each.stat().st_gid) for each in (path, path.parent)} == {
        (0, 23456)
    }
    loader.rewrite(path, str)
    assert (mode(path), path.stat().st_uid, path.stat().st_gid) == (file, 0, 23456)


@as_root
@pytest.mark.parametrize("moment", ["fsync", "fchown", "fchmod", "link", "rename", "mkdir"])
@pytest.mark.parametrize("kind", ["new", "changed"])
def test_root_gives_away_no_file_that_the_service_puts_in_the_place_of_its_own(
    tmp_path: Path, moment: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns the directory swaps what is in it, at each step that a write takes."""
    victim, service = tmp_path / "victim", tmp_path / "etc"
    victim.mkdir(mode=0o700)
    (victim / "secret").write_text("root's own")
    (victim / "secret").chmod(0o600)
    service.mkdir()
    os.chown(service, 12345, 12345)
    path = service / "apps" / "a.toml"
    if kind == "changed":
        loader.write_new(path, "a = 1")
    step = getattr(os, moment)

    def swapped(*args: Any, **options: Any) -> Any:
        done = step(*args, **options)
        for directory in (service, service / "apps"):
            if directory.is_symlink() or not directory.exists():
                continue
            for each in list(directory.iterdir()):
                if each.is_symlink():
                    continue
                if each.is_dir():
                    each.rename(directory / f".{each.name}-{randomness.token_hex(4)}")
                    each.symlink_to(victim)
                else:
                    each.unlink()
                    each.symlink_to(victim / "secret")
        return done

    monkeypatch.setattr(os, moment, swapped)
    with contextlib.suppress(ConfigError, OSError):
        if kind == "changed":
            loader.rewrite(path, str)
        else:
            loader.write_new(path, "a = 1")
    monkeypatch.undo()
    for each, rights in ((victim, 0o700), (victim / "secret", 0o600)):
        assert (mode(each), each.stat().st_uid, each.stat().st_gid) == (rights, 0, 0)
    assert (victim / "secret").read_text() == "root's own"
    assert [each.name for each in victim.iterdir()] == ["secret"]


@as_root
def test_root_copies_no_secret_for_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to root's own file is read; then a file of the service's own stands in its place."""
    victim, path = tmp_path / "victim.toml", tmp_path / "etc" / "a.toml"
    victim.write_text("secret = 'canary'")
    path.parent.mkdir()
    os.chown(path.parent, 12345, 12345)
    path.symlink_to(victim)
    with pytest.raises(ConfigError, match=r"a\.toml: is a symbolic link: only you may edit"):
        loader.rewrite(path, str)
    assert [each.name for each in path.parent.iterdir()] == ["a.toml"]


@pytest.mark.parametrize("kind", ["directory", "fifo", "broken", "absent"])
def test_what_is_no_file_is_not_rewritten(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.toml"
    reason = {
        "directory": "is not a regular file",
        "fifo": "is not a regular file",
        "broken": "end of file",
        "absent": "cannot be read",
    }[kind]
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "broken":
        path.write_text("x")
    with pytest.raises(ConfigError, match=reason):
        loader.rewrite(path, str)
    assert list(tmp_path.iterdir()) == ([] if kind == "absent" else [path])


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("old = 1")
    with pytest.raises(UnicodeEncodeError):
        loader.rewrite(path, lambda _: "\ud800")
    assert path.read_text() == "old = 1"
    assert list(tmp_path.iterdir()) == [path]


def test_remove(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("old")
    loader.remove(path)
    assert not path.exists()


def test_the_lock_keeps_others_out(path: Path) -> None:
    events: list[str] = []
    entered = threading.Event()

    def other() -> None:
        entered.set()
        with loader.locked(path):
            events.append("other")

    with loader.locked(path):
        thread = threading.Thread(target=other)
        thread.start()
        entered.wait()
        # The lock cannot be had by anybody else meanwhile; not even by another process.
        code = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), 6)"
        run = subprocess.run(
            [sys.executable, "-c", code, str(path.parent)], capture_output=True, check=False
        )
        assert b"BlockingIOError" in run.stderr
        events.append("first")
    thread.join()
    assert events == ["first", "other"]


def test_the_lock_needs_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="swproxy init"), loader.locked(tmp_path / "no" / "x"):
        pass
