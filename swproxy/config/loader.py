"""The files of a configuration, read, written and removed: nothing else below `net` touches any.

A configuration is `swproxy.toml` and, in `apps/` beside it, one file for each application.
Reading tells every fault at once. Writing is whole and atomic: a new file appears complete under
its name or not at all, so that a daemon that reloads at that moment never reads half of one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swproxy.config.assembly import AppSource, Assembly, Table
from swproxy.config.config import Config
from swproxy.config.faults import ConfigError, Fault, key_path
from swproxy.config.reach import Resolve, nothing_resolved, unreachable_patterns
from swproxy.config.references import BadReferenceError, Reference

__all__ = [
    "ConfigError",
    "Fault",
    "Inspection",
    "applications",
    "inspect",
    "load_to_sign",
    "locked",
    "remove",
    "replace",
    "write_new",
]

# A secret or certificate is a few KB; more is a wrong path, and /dev/zero would never end.
_FILE_BYTES = 1 << 20
_MISSING = "does not exist: `swproxy init` writes one"


@dataclass(slots=True)
class Inspection:
    """What reading a configuration found. `config` is there if there are no faults."""

    config: Config | None = None
    sources: list[AppSource] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)

    def require(self) -> Config:
        """Return the configuration; ConfigError lists every fault if there is any."""
        if self.config is None:
            raise ConfigError(self.faults)
        return self.config


def load_to_sign(path: Path, environ: Mapping[str, str]) -> Config:
    """Read only what signing needs: ids, secrets, and the address to put in front.

    The API's key, the certificate's key and the like may be out of reach of whoever signs.
    """
    return _inspect(path, environ, to_sign=True).require()


def inspect(
    path: Path, environ: Mapping[str, str], resolve: Resolve = nothing_resolved
) -> Inspection:
    """Read the configuration at `path` and tell everything that is wrong or doubtful.

    `resolve` is asked for the addresses of the names in `allow`.
    """
    found = _inspect(path, environ, to_sign=False)
    if found.config is not None:
        found.faults += _tls_faults(path, found.config)
        found.faults += _reach_faults(found, resolve)
    if found.faults:
        found.config = None
    # The main file first, then the applications by name, each from top to bottom.
    found.faults.sort(key=lambda fault: (fault.file != path, fault.file))
    return found


def applications(path: Path) -> list[AppSource]:
    """Return every application as it is written, unchecked and with its references unreplaced.

    Raises ConfigError when a file cannot be read as TOML, or an id is there twice.
    """
    assembly = Assembly(path, str)
    root = _read_toml(path, assembly.faults)
    sources = list(assembly.sources(root or {}, _app_tables(path, assembly.faults)))
    if assembly.faults:
        raise ConfigError(assembly.faults)
    return sources


def _inspect(path: Path, environ: Mapping[str, str], *, to_sign: bool) -> Inspection:
    def resolve(reference: Reference) -> str:
        return _resolve(reference, path.parent, environ)

    assembly = Assembly(path, resolve, to_sign=to_sign)
    root = _read_toml(path, assembly.faults)
    if root is None:
        return Inspection(faults=assembly.faults)
    sources = list(assembly.sources(root, _app_tables(path, assembly.faults)))
    config = assembly.config(root, sources)
    if not sources:
        reason = "there is none: add one with `swproxy app add`"
        assembly.warnings.append(Fault(path, "apps", reason))
    warnings = assembly.warnings + _open_to_others(sources)
    return Inspection(None if assembly.faults else config, sources, assembly.faults, warnings)


def _app_tables(path: Path, faults: list[Fault]) -> Iterator[tuple[Path, Table]]:
    directory = path.parent / "apps"
    try:
        files = sorted(directory.iterdir()) if directory.exists() else []
    except OSError as error:
        faults.append(Fault(directory, "", f"cannot be read: {error.strerror}"))
        return
    for file in files:
        # Editors leave backups, and a file that is being written has a leading dot.
        if file.suffix == ".toml" and not file.name.startswith("."):
            table = _read_toml(file, faults)
            if table is not None:
                yield file, table


_POSITION = re.compile(r"(?P<what>.*) \(at (?:(?P<where>line \d+, column \d+)|end of document)\)")


def _read_toml(path: Path, faults: list[Fault]) -> Table | None:
    try:
        return tomllib.loads(_read_text(path))
    except tomllib.TOMLDecodeError as error:
        # The exception may hold the whole document; only its sentence goes on.
        place = _POSITION.fullmatch(str(error))
        what = place["what"] if place else str(error)
        where = (place["where"] or "end of file") if place else "TOML"
        reason = f"{where}: {what[0].lower()}{what[1:]}"
    except FileNotFoundError:
        reason = _MISSING
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except ValueError as error:
        reason = str(error)
    faults.append(Fault(path, "", reason))
    return None


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_FILE_BYTES + 1)
    if len(data) > _FILE_BYTES:
        raise ValueError(f"is longer than {_FILE_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: is not UTF-8 text") from None


def _resolve(reference: Reference, directory: Path, environ: Mapping[str, str]) -> str:
    if reference.name:
        if reference.name not in environ:
            raise BadReferenceError(f"{reference} is not set in the environment")
        text = environ[reference.name]
        try:
            text.encode()
        except UnicodeEncodeError:  # os.environ smuggles other bytes through as surrogates
            raise BadReferenceError(f"{reference} is not UTF-8 text") from None
        return text
    path = Path(environ.get("CREDENTIALS_DIRECTORY") or directory, reference.path)
    try:
        return _read_text(path).rstrip("\r\n")
    except OSError as error:
        raise BadReferenceError(f"{reference}: cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise BadReferenceError(f"{reference}: {path} {error}") from None


def _open_to_others(sources: list[AppSource]) -> list[Fault]:
    """Warn of files that hold a secret itself and that more than an owner and group can read."""
    literal = {each.file for each in sources if any("${" not in s for s in _secrets(each.table))}
    return [
        Fault(file, "", f"holds a secret and is open to others: run `chmod 600 {file}`")
        for file in sorted(literal)
        if _mode(file) & (stat.S_IRWXO | stat.S_IWGRP)
    ]


def _mode(file: Path) -> int:
    try:
        return file.stat().st_mode
    except OSError:  # removed since it was read
        return 0


def _secrets(table: Table) -> list[str]:
    secrets = table.get("secrets")
    return [each for each in secrets if isinstance(each, str)] if isinstance(secrets, list) else []


def _tls_faults(path: Path, config: Config) -> list[Fault]:
    import ssl  # noqa: PLC0415 - takes as long to load as all the rest; most need no file of it

    faults: list[Fault] = []

    def attempt(key: str, file: Path, read: Callable[[], object]) -> None:
        try:
            read()
        except ssl.SSLError:
            faults.append(Fault(path, key, f"{file} holds no PEM that serves for this"))
        except OSError as error:
            faults.append(Fault(path, key, f"cannot read {file}: {error.strerror}"))

    certificate, key = config.server.tls_certificate, config.server.tls_key
    if certificate and key:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        attempt("server.tls_certificate", certificate, certificate.read_bytes)
        attempt("server.tls_key", key, key.read_bytes)
        if not faults:
            # An empty passphrase, not none: OpenSSL would ask for one on the terminal.
            attempt(
                "server.tls_certificate",
                certificate,
                lambda: context.load_cert_chain(certificate, key, password=""),
            )
    if file := config.upstream.ca_file:
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        attempt("upstream.ca_file", file, lambda: trust.load_verify_locations(file))
    return faults


def _reach_faults(found: Inspection, resolve: Resolve) -> list[Fault]:
    places = {source.id: source for source in found.sources}
    return [
        Fault(places[app.id].file, key_path((*places[app.id].prefix, "allow", number)), reason)
        for app, number, reason in unreachable_patterns(found.require(), resolve)
    ]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other writers of the configuration at `path` out, by a lock on its directory."""
    try:
        descriptor = os.open(path.parent, os.O_RDONLY)
    except FileNotFoundError:
        raise ConfigError([Fault(path, "", _MISSING)]) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet, readable by its owner only; FileExistsError if it is.

    The owner is the directory's, so that root can write for the daemon's user.
    """
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700)
        _give(path.parent, path.parent.parent.stat())
    with _prepared(path, text) as prepared:
        _give(prepared, path.parent.stat())
        # Unlike a rename, a link never takes the place of a file that is there.
        path.hardlink_to(prepared)
    _sync(path.parent)


def replace(path: Path, text: str) -> None:
    """Write a file anew, with the owner that it had and the rights, but those of others."""
    before = path.stat()
    with _prepared(path, text) as prepared:
        prepared.chmod(stat.S_IMODE(before.st_mode) & 0o660)
        _give(prepared, before)
        prepared.replace(path)
    _sync(path.parent)


def remove(path: Path) -> None:
    """Delete a file for good."""
    path.unlink()
    _sync(path.parent)


@contextlib.contextmanager
def _prepared(path: Path, text: str) -> Iterator[Path]:
    """Give a complete file beside `path`, which is gone afterwards unless it was renamed."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _give(path: Path, like: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.chown(path, like.st_uid, like.st_gid)


def _sync(directory: Path) -> None:
    """Put the directory's new entry on the disk too: a rename alone may be lost with the power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
