"""The configuration's files: how they are read, and how they are written."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

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
    assert "ends with a space" in faults(path, {"KEY": ""})[0]


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


def test_a_reference_may_be_read_by_anybody(path: Path) -> None:
    write_app(path, APP.replace(SECRET, "${file:secret}")).chmod(0o644)
    (path.parent / "secret").write_text(SECRET)
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
                ["server.tls_certificate: junk.pem holds no PEM that serves for this"],
            ),
            (  # the key is another's
                "[server]\ntls_certificate = 'ca.pem'\ntls_key = 'key.pem'",
                ["server.tls_certificate: ca.pem holds no PEM that serves for this"],
            ),
            (  # a passphrase is not asked for
                "[server]\ntls_certificate = 'both.pem'\ntls_key = 'locked.pem'",
                ["server.tls_certificate: both.pem holds no PEM that serves for this"],
            ),
            (
                "[upstream]\nca_file = 'junk.pem'",
                ["upstream.ca_file: junk.pem holds no PEM that serves for this"],
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
    path.write_text("old")
    path.chmod(0o644)
    before = path.stat()
    loader.replace(path, "new")
    assert path.read_text() == "new"
    assert mode(path) == 0o640
    assert path.stat().st_ino != before.st_ino  # whoever reads the old one reads it to its end
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_root_writes_for_the_directorys_owner(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 23456)
    path = tmp_path / "apps" / "a.toml"
    loader.write_new(path, "x")
    assert {(each.stat().st_uid, each.stat().st_gid) for each in (path, path.parent)} == {
        (12345, 23456)
    }
    os.chown(path, 34567, 34567)
    loader.replace(path, "y")
    assert (path.stat().st_uid, path.stat().st_gid) == (34567, 34567)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        loader.replace(path, "\ud800")
    assert path.read_text() == "old"
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
