"""The files of a configuration, read, written and removed: nothing else below `net` touches any.

A configuration is `swproxy.toml` and, in `apps/` beside it, one file for each application.
Reading tells every fault at once. Writing is whole and atomic: a new file appears complete under
its name or not at all, so that a daemon that reloads at that moment never reads half of one.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import fcntl
import os
import re
import secrets as randomness
import stat
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from swproxy.config.assembly import AppSource, Assembly, Table
from swproxy.config.config import App, Config
from swproxy.config.exposure import open_to_others, reached_by_others
from swproxy.config.faults import ConfigError, Fault, key_path
from swproxy.config.limit_faults import doubtful_limits
from swproxy.config.listen_address import ListenAddress
from swproxy.config.reach import Resolve, nothing_resolved, unreachable_patterns
from swproxy.config.references import BadReferenceError, Reference, split

__all__ = [
    "ConfigError",
    "Fault",
    "Inspection",
    "applications",
    "inspect",
    "load_admin",
    "load_to_sign",
    "locked",
    "remove",
    "rewrite",
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


def load_admin(path: Path, environ: Mapping[str, str]) -> tuple[ListenAddress | None, str]:
    """Read only where the admin listener is, and its token."""
    assembly = Assembly(path, partial(_resolve, directory=path.parent, environ=environ, keys=[]))
    server = (_read_toml(path, assembly.faults) or {}).get("server", {})
    own = {key: value for key, value in server.items() if key in ("admin_listen", "admin_token")}
    config = assembly.config({"server": own}, [])
    if assembly.faults:
        raise ConfigError(assembly.faults)
    return config.server.admin_listen, config.server.admin_token


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
        found.faults += _store_faults(path, found.config)
        found.warnings += _limit_warnings(found)
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
    keys: list[Path] = []

    def resolve(reference: Reference) -> str:
        return _resolve(reference, path.parent, environ, keys)

    assembly = Assembly(path, resolve, to_sign=to_sign)
    root = _read_toml(path, assembly.faults)
    if root is None:
        return Inspection(faults=assembly.faults)
    sources = list(assembly.sources(root, _app_tables(path, assembly.faults)))
    # What is there and can't be read or named is a fault by now.
    none = not sources and not assembly.faults
    config = assembly.config(root, sources)
    config = replace(config, store=config.store.placed(path.absolute().parent, environ))
    if config.store.url is not None and find_spec("hiredis") is None:
        reason = "needs what swproxy does not install by itself: pip install 'swproxy[valkey]'"
        assembly.faults.append(Fault(path, "store.url", reason))
    if none:
        reason = "there is none: add one with `swproxy app add`"
        assembly.warnings.append(Fault(path, "apps", reason))
    if not to_sign:
        keys += filter(None, [config.server.tls_key])
        assembly.warnings += open_to_others(path, sources, keys, _mode)
        assembly.warnings += reached_by_others(path, config.server)
        apps = {
            source.id: _dated(config.apps[source.id], source, path.parent, environ)
            for source in sources
            if source.id in config.apps
        }
        config = replace(config, apps=apps)
    found = None if assembly.faults else config
    return Inspection(found, sources, assembly.faults, assembly.warnings)


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
        with path.open("rb") as file:
            return _parsed(path, file, faults)
    except FileNotFoundError:
        reason = _MISSING
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    faults.append(Fault(path, "", reason))
    return None


def _parsed(path: Path, file: BinaryIO, faults: list[Fault]) -> Table | None:
    try:
        return tomllib.loads(_text(file))
    except tomllib.TOMLDecodeError as error:
        # The exception may hold the whole document; only its sentence goes on.
        place = _POSITION.fullmatch(str(error))
        what = place["what"] if place else str(error)
        where = (place["where"] or "end of file") if place else "TOML"
        reason = f"{where}: {what[0].lower()}{what[1:]}"
    except ValueError as error:
        reason = str(error)
    faults.append(Fault(path, "", reason))
    return None


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        return _text(file)


def _text(file: BinaryIO) -> str:
    data = file.read(_FILE_BYTES + 1)
    if len(data) > _FILE_BYTES:
        raise ValueError(f"is longer than {_FILE_BYTES} bytes")
    if data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("begins with a byte order mark: save it as UTF-8 without one")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: is not UTF-8 text") from None


def _resolve(
    reference: Reference, directory: Path, environ: Mapping[str, str], keys: list[Path]
) -> str:
    """Return what a reference stands for; the files that are read for it are added to `keys`."""
    if reference.name:
        if reference.name not in environ:
            raise BadReferenceError(f"{reference} is not set in the environment")
        text = environ[reference.name]
        try:
            text.encode()
        except UnicodeEncodeError:  # os.environ smuggles other bytes through as surrogates
            raise BadReferenceError(f"{reference} is not UTF-8 text") from None
        return text
    path = _referred(reference, directory, environ)
    try:
        text = _read_text(path).rstrip("\r\n")
    except OSError as error:
        raise BadReferenceError(f"{reference}: cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise BadReferenceError(f"{reference}: {path} {error}") from None
    if not text.strip():
        raise BadReferenceError(f"{reference}: {path} is empty")
    keys.append(path)
    return text


def _referred(reference: Reference, directory: Path, environ: Mapping[str, str]) -> Path:
    return Path(environ.get("CREDENTIALS_DIRECTORY") or directory, reference.path)


def _dated(app: App, source: AppSource, directory: Path, environ: Mapping[str, str]) -> App:
    """Return the application with the times at which its secrets and keys were written."""
    headers = source.table.get("headers", {})
    return replace(
        app,
        secret_written=_written(source.table["secrets"], source.file, directory, environ),
        key_written=_written(headers.values(), source.file, directory, environ),
    )


def _written(
    texts: Iterable[str], file: Path, directory: Path, environ: Mapping[str, str]
) -> float | None:
    """Return when the oldest of the files was written that hold what `texts` say or refer to."""
    holders: set[Path] = set()
    for text in texts:
        references = [part for part in split(text) if isinstance(part, Reference)]
        holders |= {_referred(each, directory, environ) for each in references if each.path}
        if not references:
            holders.add(file)
    return min(filter(None, map(_modified, holders)), default=None)


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # removed since it was read
        return 0.0


def _mode(file: Path) -> int:
    try:
        return file.stat().st_mode
    except OSError:  # removed since it was read
        return 0


_NO_CERTIFICATE = "holds no PEM certificate"
_NO_KEY = "holds no PEM private key"
_LOCKED_KEY = "has a passphrase: take it off with `openssl pkey`"
_TLS_REASONS = {"KEY_VALUES_MISMATCH": "is the key of another certificate"}


def _tls_faults(path: Path, config: Config) -> list[Fault]:
    import ssl  # noqa: PLC0415 - takes as long to load as all the rest; most need no file of it

    faults: list[Fault] = []

    def attempt(key: str, file: Path, otherwise: str, read: Callable[[], object]) -> None:
        try:
            read()
        except ssl.SSLError as error:
            reason = _TLS_REASONS.get(error.reason or "", otherwise)
            faults.append(Fault(path, key, f"{file} {reason}"))
        except OSError as error:
            faults.append(Fault(path, key, f"cannot read {file}: {error.strerror}"))

    certificate, key = config.server.tls_certificate, config.server.tls_key
    if certificate and key:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        attempt("server.tls_certificate", certificate, _NO_CERTIFICATE, certificate.read_bytes)
        attempt("server.tls_key", key, _NO_KEY, key.read_bytes)
        if not faults:
            trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            load = partial(trust.load_verify_locations, certificate)
            attempt("server.tls_certificate", certificate, _NO_CERTIFICATE, load)
        if not faults:
            # An empty passphrase, not none: OpenSSL would ask for one on the terminal.
            load = partial(context.load_cert_chain, certificate, key, password="")
            locked = b"ENCRYPTED" in key.read_bytes()
            attempt("server.tls_key", key, _LOCKED_KEY if locked else _NO_KEY, load)
    if file := config.upstream.ca_file:
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        load = partial(trust.load_verify_locations, file)
        attempt("upstream.ca_file", file, _NO_CERTIFICATE, load)
    return faults


def _reach_faults(found: Inspection, resolve: Resolve) -> list[Fault]:
    places = {source.id: source for source in found.sources}
    return [
        Fault(places[app.id].file, key_path((*places[app.id].prefix, "allow", number)), reason)
        for app, number, reason in unreachable_patterns(found.require(), resolve)
    ]


def _limit_warnings(found: Inspection) -> list[Fault]:
    apps = found.require().apps
    return [
        Fault(source.file, key_path((*source.prefix, *place)), reason)
        for source in found.sources
        for place, reason in doubtful_limits(apps[source.id])
    ]


def _store_faults(path: Path, config: Config) -> list[Fault]:
    """Tell of a store that is needed and can't be written."""
    if not any(app.counts for app in config.apps.values()):
        return []
    places = {"path": config.store.path, "snapshot": config.store.snapshot}
    return [
        Fault(path, f"store.{key}", reason)
        for key, file in places.items()
        if file is not None and (reason := _unwritable(file))
    ]


def _unwritable(file: Path) -> str:
    """Say why a file could not be made where it is to be, "" if it could."""
    directory = file.parent
    if file.is_dir():
        return f"{file} is a directory, and a file is expected"
    # One that is missing is made, but not those above it.
    above = directory if directory.exists() else directory.parent
    if not above.is_dir():
        return f"there is no directory {above}"
    if not os.access(above, os.W_OK | os.X_OK):
        return f"nothing can be written in {above}"
    return ""


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
    """Write a file that is not there yet, with its directory if need be; FileExistsError if it is.

    Only the owner may read it, and the group where the directory is shared with it. If root writes,
    both are the directory's, so that it can write for the daemon's user.
    """
    if not path.parent.exists():
        _make_directory(path.parent)
    with _opened_directory(path.parent) as directory:
        above = os.fstat(directory)
        with _prepared(directory, path.name, text, above, _new_mode(above)) as prepared:
            # Unlike a rename, a link never takes the place of a file that is there.
            os.link(prepared, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)


def rewrite(path: Path, edit: Callable[[Table], str]) -> None:
    """Write a file anew as `edit` makes it of what it holds.

    It keeps its owner and its rights, but those of others. Raises ConfigError for a file that can't
    be read, and for a symbolic link: what that leads to may be another file in the next moment, and
    its owner another's.
    """
    with _opened_directory(path.parent) as directory:
        with _opened_file(path, directory) as old:
            before = os.fstat(old.fileno())
            faults: list[Fault] = []
            table = _parsed(path, old, faults)
        if table is None:
            raise ConfigError(faults)
        mode = stat.S_IMODE(before.st_mode) & 0o660
        with _prepared(directory, path.name, edit(table), before, mode) as prepared:
            os.rename(prepared, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)


def remove(path: Path) -> None:
    """Delete a file for good."""
    with _opened_directory(path.parent) as directory:
        os.unlink(path.name, dir_fd=directory)
        os.fsync(directory)


# Root may write where the daemon's user, or whoever has got hold of it, owns the directory and can
# put another file, or a link to one, under any name there at any moment. So a name is looked up
# once, in a directory that is open, and never through a link; the rest is done by descriptor.


@contextlib.contextmanager
def _opened_directory(path: Path, above: int | None = None) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
    follow = os.geteuid() != 0 and above is None
    try:
        name = path if above is None else path.name
        descriptor = os.open(name, flags | (0 if follow else os.O_NOFOLLOW), dir_fd=above)
    except NotADirectoryError:
        reason = "is no directory" if follow else "is no directory, or a symbolic link to one"
        raise ConfigError([Fault(path, "", reason)]) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _opened_file(path: Path, directory: int) -> Iterator[BinaryIO]:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path.name, flags, dir_fd=directory)
    except OSError as error:
        link = "is a symbolic link: only you may edit what it leads to"
        reason = link if error.errno == errno.ELOOP else f"cannot be read: {error.strerror}"
        raise ConfigError([Fault(path, "", reason)]) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigError([Fault(path, "", "is not a regular file")])
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _make_directory(path: Path) -> None:
    with _opened_directory(path.parent) as above:
        like = os.fstat(above)
        os.mkdir(path.name, 0o700, dir_fd=above)
        with _opened_directory(path, above) as made:
            if os.listdir(made):  # noqa: PTH208 - of what is open, not of a path
                raise ConfigError([Fault(path, "", "is another's: it was just made, empty")])
            _give(made, like, 0o750 if _shared(like) else 0o700)
        os.fsync(above)


@contextlib.contextmanager
def _prepared(
    directory: int, name: str, text: str, like: os.stat_result, mode: int
) -> Iterator[str]:
    """Give the name of a complete file in `directory`, which is gone afterwards unless renamed."""
    data = text.encode()
    prepared = f".{name}.{randomness.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(prepared, flags, 0o600, dir_fd=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            _give(descriptor, like, mode)
            os.fsync(descriptor)
        yield prepared
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(prepared, dir_fd=directory)


def _give(descriptor: int, like: os.stat_result, mode: int) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, like.st_uid, like.st_gid)
    os.fchmod(descriptor, mode)


def _shared(directory: os.stat_result) -> bool:
    """Tell whether a directory is its group's to read, and nobody else's, as root makes it so."""
    readable = directory.st_mode & (stat.S_IRGRP | stat.S_IRWXO) == stat.S_IRGRP
    return readable and os.geteuid() == 0


def _new_mode(directory: os.stat_result) -> int:
    return 0o640 if _shared(directory) else 0o600
