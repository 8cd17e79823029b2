"""Reading the configuration: the one place of sw1/ and policy/ that opens files.

`swproxy.toml` and the applications in `apps/` beside it become one `Config`, or a list of all
that is wrong. Reading goes in three steps, each of which notes its faults and goes on: TOML to
tables, references to what they stand for, tables to checked values.
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from swproxy.policy.config import (
    App,
    AppTable,
    Config,
    Cors,
    Limits,
    Server,
    Upstream,
)
from swproxy.policy.faults import ConfigError, Fault, key_path, kind, translate, unknown_key
from swproxy.policy.fields import check_app_id
from swproxy.policy.references import BadReferenceError, Reference, expand

__all__ = ["ConfigError", "Fault", "Inspection", "inspect", "load", "load_to_sign"]

SECTIONS: Mapping[str, type[BaseModel]] = {
    "server": Server,
    "limits": Limits,
    "upstream": Upstream,
    "cors": Cors,
}
# A secret or certificate is a few KB; more is a wrong path, and /dev/zero would never end.
_FILE_BYTES = 1 << 20
# Below this a secret can be found by trying, offline, against one signed URL.
_WEAK_SECRET_CHARACTERS = 16

Table = dict[str, Any]
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(slots=True)
class Inspection:
    """What reading a configuration found. Without faults, `config` is there."""

    config: Config | None = None
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read the configuration at `path`; ConfigError lists every fault if there is any."""
    inspection = inspect(path, environ)
    if inspection.config is None:
        raise ConfigError(inspection.faults)
    return inspection.config


def inspect(path: Path, environ: Mapping[str, str]) -> Inspection:
    """Read the configuration at `path` and tell everything that is wrong or doubtful."""
    return _Reader(path, environ).read()


def load_to_sign(path: Path, environ: Mapping[str, str]) -> Config:
    """Read only what signing needs: ids, secrets, and the address to put in front.

    The API's key, the certificate's key and the like may be out of reach of whoever signs.
    """
    inspection = _Reader(path, environ, to_sign=True).read()
    if inspection.config is None:
        raise ConfigError(inspection.faults)
    return inspection.config


class _Reader:
    def __init__(self, path: Path, environ: Mapping[str, str], *, to_sign: bool = False) -> None:
        self.path = path
        self.environ = environ
        self.to_sign = to_sign
        self.found = Inspection()

    def read(self) -> Inspection:
        root = read_toml(self.path, self.fault)
        if root is None:
            return self.found
        for name in root.keys() - SECTIONS.keys() - {"apps"}:
            known = [*SECTIONS, "apps"]
            self.fault(self.path, (name,), unknown_key(name, known, _sections_of_keys()))
        server = self.section(root, "server", Server)
        limits = self.section(root, "limits", Limits)
        upstream = self.section(root, "upstream", Upstream)
        cors = (self.section(root, "cors", Cors) or Cors()).policy()
        apps: dict[str, App] = {}
        for source in app_sources(self.path, root, self.fault):
            table = self.validate(source.file, source.prefix, source.table, AppTable)
            if table is not None:
                apps[source.id] = table.app(source.id, cors)
                self.doubts(source, table)
        if not apps and not self.found.faults:
            self.found.warnings.append(
                Fault(self.path, "apps", "there is no application: add one with `swproxy app add`")
            )
        if server and upstream and not self.to_sign:
            self.check_tls(server, upstream)
        if server and limits and upstream and not self.found.faults:
            self.found.config = Config(server, limits, upstream, cors, apps)
        return self.found

    def fault(self, file: Path, key: tuple[str | int, ...], reason: str) -> None:
        self.found.faults.append(Fault(file, key_path(key), reason))

    def section(self, root: Table, name: str, model: type[_Model]) -> _Model | None:
        return self.validate(self.path, (name,), root.get(name, {}), model)

    def validate(
        self, file: Path, prefix: tuple[str, ...], table: object, model: type[_Model]
    ) -> _Model | None:
        if not isinstance(table, dict):
            self.fault(file, prefix, f"expects a table, got {kind(table)}")
            return None
        unresolved: set[tuple[str | int, ...]] = set()
        if self.to_sign:
            table = {key: each for key, each in table.items() if key not in _NOT_TO_SIGN}
        expanded = self.expand(file, prefix, table, unresolved)
        try:
            made = model.model_validate(expanded, context={"directory": self.path.parent})
        except ValidationError as error:
            elsewhere = {k: v for k, v in _sections_of_keys().items() if v != f"[{prefix[-1:]}]"}
            for place, reason in translate(error, model.model_fields, elsewhere):
                if (*prefix, *place) not in unresolved:
                    self.fault(file, (*prefix, *place), reason)
            return None
        return None if unresolved else made

    def expand(
        self,
        file: Path,
        place: tuple[str | int, ...],
        value: object,
        unresolved: set[tuple[str | int, ...]],
    ) -> Any:
        if isinstance(value, dict):
            return {k: self.expand(file, (*place, k), v, unresolved) for k, v in value.items()}
        if isinstance(value, list):
            return [self.expand(file, (*place, n), v, unresolved) for n, v in enumerate(value)]
        if isinstance(value, str):
            try:
                return expand(value, self.resolve)
            except BadReferenceError as fault:
                unresolved.add(place)
                self.fault(file, place, str(fault))
        return value

    def resolve(self, reference: Reference) -> str:
        return resolve(reference, self.path.parent, self.environ)

    def doubts(self, source: AppSource, table: AppTable) -> None:
        for number, secret in enumerate(table.secrets):
            if len(secret) < _WEAK_SECRET_CHARACTERS:
                key = key_path((*source.prefix, "secrets", number))
                self.found.warnings.append(
                    Fault(source.file, key, "is short: take 32 random bytes (`swproxy app rotate`)")
                )
        mode = source.file.stat().st_mode
        literal = not all("${" in each for each in source.table["secrets"])
        if literal and mode & (stat.S_IRWXO | stat.S_IWGRP):
            reason = f"holds a secret and is open to others: run `chmod 600 {source.file}`"
            warning = Fault(source.file, "", reason)
            if warning not in self.found.warnings:
                self.found.warnings.append(warning)

    def check_tls(self, server: Server, upstream: Upstream) -> None:
        import ssl  # noqa: PLC0415 - costs as much to load as all the rest, and most need no file

        def unreadable(key: str, file: Path, read: Callable[[], object]) -> None:
            try:
                read()
            except ssl.SSLError:
                self.fault(self.path, (key,), f"{file} holds no usable PEM for this")
            except OSError as error:
                self.fault(self.path, (key,), f"cannot read {file}: {error.strerror}")

        certificate, key = server.tls_certificate, server.tls_key
        if (certificate is None) != (key is None):
            missing = "tls_certificate" if certificate is None else "tls_key"
            self.fault(self.path, ("server", missing), "is required: TLS takes both files")
        elif certificate and key:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            # An empty passphrase instead of none: else OpenSSL would ask for it on the terminal.
            unreadable(
                "server.tls_certificate",
                certificate,
                lambda: context.load_cert_chain(certificate, key, password=""),
            )
        if file := upstream.ca_file:
            trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            unreadable("upstream.ca_file", file, lambda: trust.load_verify_locations(file))


_NOT_TO_SIGN = ("headers", "tls_certificate", "tls_key", "ca_file")


def _sections_of_keys() -> dict[str, str]:
    places: dict[str, str] = dict.fromkeys(AppTable.model_fields, "an application")
    for name, model in SECTIONS.items():
        places |= dict.fromkeys(model.model_fields, f"[{name}]")
    return places


_Complain = Callable[[Path, tuple[str | int, ...], str], None]
_POSITION = re.compile(r"(?P<what>.*) \(at (?:(?P<where>line \d+, column \d+)|end of document)\)")


def read_toml(path: Path, complain: _Complain) -> Table | None:
    """Read one TOML file; what is wrong with it goes to `complain`, and None is returned."""
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        # The exception may hold the whole document; only its sentence goes on.
        place = _POSITION.fullmatch(str(error))
        what = place["what"] if place else str(error)
        where = (place["where"] or "end of file") if place else "TOML"
        complain(path, (), f"{where}: {what[0].lower()}{what[1:]}")
    except FileNotFoundError:
        complain(path, (), "does not exist: `swproxy init` writes one")
    except OSError as error:
        complain(path, (), f"cannot be read: {error.strerror}")
    except ValueError as error:
        complain(path, (), str(error))
    return None


def read_text(path: Path) -> str:
    """Read a small UTF-8 file; OSError if it cannot be, ValueError if it is not one."""
    with path.open("rb") as file:
        data = file.read(_FILE_BYTES + 1)
    if len(data) > _FILE_BYTES:
        raise ValueError(f"is longer than {_FILE_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: is not UTF-8 text") from None


def resolve(reference: Reference, directory: Path, environ: Mapping[str, str]) -> str:
    """Return what a reference stands for; BadReferenceError names it if it stands for nothing."""
    if reference.name:
        if reference.name not in environ:
            raise BadReferenceError(f"{reference} is not set in the environment")
        text = environ[reference.name]
    else:
        path = Path(environ.get("CREDENTIALS_DIRECTORY") or directory, reference.path)
        try:
            text = read_text(path).rstrip("\r\n")
        except OSError as error:
            raise BadReferenceError(f"{reference}: cannot read {path}: {error.strerror}") from None
        except ValueError as error:
            raise BadReferenceError(f"{reference}: {path} {error}") from None
    if not text.isprintable() and any("\ud800" <= each <= "\udfff" for each in text):
        raise BadReferenceError(f"{reference} is not UTF-8 text")
    return text


@dataclass(frozen=True, slots=True)
class AppSource:
    """Where an application is configured: a file of its own, or a table of the main one."""

    id: str
    file: Path
    prefix: tuple[str, ...]
    table: Table = field(repr=False)


def app_sources(path: Path, root: Table, complain: _Complain) -> Iterator[AppSource]:
    """Find every application of a configuration, as it is written, references unreplaced."""
    tables = root.get("apps", {})
    if not isinstance(tables, dict):
        complain(path, ("apps",), f"expects a table, got {kind(tables)}")
        tables = {}
    for app_id, table in tables.items():
        if not isinstance(table, dict):
            complain(path, ("apps", app_id), f"expects a table, got {kind(table)}")
        elif _good_id(path, ("apps", app_id), app_id, complain):
            yield AppSource(app_id, path, ("apps", app_id), table)
    directory = path.parent / "apps"
    try:
        files = sorted(directory.iterdir()) if directory.exists() else []
    except OSError as error:
        complain(directory, (), f"cannot be read: {error.strerror}")
        return
    for file in files:
        if file.suffix != ".toml" or file.name.startswith("."):
            continue
        if file.stem in tables:
            complain(file, (), f"application {file.stem} is in {path.name} already")
        elif _good_id(file, (), file.stem, complain):
            content = read_toml(file, complain)
            if content is not None:
                yield AppSource(file.stem, file, (), content)


def _good_id(file: Path, key: tuple[str, ...], app_id: str, complain: _Complain) -> bool:
    try:
        check_app_id(app_id)
    except ValueError as fault:
        complain(file, key, str(fault))
        return False
    return True
