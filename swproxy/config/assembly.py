"""From tables as TOML gives them to a `Config`, or to the list of all that is wrong with them.

Two steps, each of which notes its faults and goes on: references become what they stand for,
then tables become checked values. Reading files and variables is left to `loader`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from swproxy.config.complaints import translate, unknown_key
from swproxy.config.config import App, AppTable, Config, Cors, Limits, Server, Store, Upstream
from swproxy.config.faults import Fault, Place, key_path, kind
from swproxy.config.fields import check_app_id
from swproxy.config.limit_tables import AppLimits, UserLimits
from swproxy.config.references import BadReferenceError, Reference, expand

__all__ = ["SECTIONS", "AppSource", "Assembly", "Table", "check_table"]

Table = dict[str, Any]
_Model = TypeVar("_Model", bound=BaseModel)

SECTIONS: Mapping[str, type[BaseModel]] = {
    "server": Server,
    "limits": Limits,
    "upstream": Upstream,
    "cors": Cors,
    "store": Store,
}
# Tables within an application's, by their names.
_NESTED: Mapping[str, type[BaseModel]] = {"cors": Cors, "limits": AppLimits, "user": UserLimits}
# Below this a secret can be found by trying, offline, against one signed URL.
_WEAK_SECRET_CHARACTERS = 16
# What whoever signs need not be able to read: the API's key, the certificate's key and the like.
_NOT_TO_SIGN = frozenset({"headers", "tls_certificate", "tls_key", "ca_file", "admin_token"})
# A word that is a shell's $NAME or $(command), alone or at the end.
_SHELL = re.compile(r"(?:.*\s)?\$(?:[A-Za-z_]\w*|\(.*\))", re.DOTALL)
# But that there is a certificate makes the address one of https.
_TLS_TO_SIGN = dict.fromkeys(("tls_certificate", "tls_key"), "is set")


@dataclass(frozen=True, slots=True)
class AppSource:
    """Where an application is written: a file of its own, or a table of the main one."""

    id: str
    file: Path
    prefix: tuple[str, ...]
    table: Table = field(repr=False)


class Assembly:
    """Makes a `Config` of the tables of the main file and its applications' files.

    `resolve` says what a reference stands for, or raises BadReferenceError. With `to_sign`, only
    what signing needs is looked at; the rest of the configuration then has its defaults.
    """

    def __init__(
        self, path: Path, resolve: Callable[[Reference], str], *, to_sign: bool = False
    ) -> None:
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []
        self._path = path
        self._resolve = resolve
        self._to_sign = to_sign

    def fault(self, file: Path, place: Place, reason: str) -> None:
        """Note a fault."""
        self.faults.append(Fault(file, key_path(place), reason))

    def sources(self, root: Table, files: Iterable[tuple[Path, Table]]) -> Iterator[AppSource]:
        """Find every application, in the main table and in those of the files in apps/."""
        tables = root.get("apps", {})
        if not isinstance(tables, dict):
            self.fault(self._path, ("apps",), f"expects a table, got {kind(tables)}")
            tables = {}
        for app_id, table in tables.items():
            place = ("apps", app_id)
            if not isinstance(table, dict):
                self.fault(self._path, place, f"expects a table, got {kind(table)}")
            elif self._good_id(self._path, place, app_id):
                yield AppSource(app_id, self._path, place, table)
        for file, table in files:
            if file.stem in tables:
                reason = f"application {file.stem} is in {self._path.name} already"
                self.fault(file, (), reason)
            elif self._good_id(file, (), file.stem):
                yield AppSource(file.stem, file, (), table)

    def config(self, root: Table, sources: Iterable[AppSource]) -> Config:
        """Make the configuration. It may only be used if no fault was noted."""
        known = [*SECTIONS, "apps"]
        for name in root:
            if name not in known:
                self.fault(self._path, (name,), unknown_key(name, known, _homes()))
        server = self._section(root, "server", Server)
        limits = self._section(root, "limits", Limits)
        upstream = self._section(root, "upstream", Upstream)
        cors = self._section(root, "cors", Cors).policy()
        store = self._section(root, "store", Store)
        apps: dict[str, App] = {}
        for source in sources:
            self._refuse_shell(source)
            table = self._made(source.file, source.prefix, source.table, AppTable)
            if table is not None:
                apps[source.id] = table.app(source.id, cors)
                self._doubt_secrets(source, table)
        return Config(server, limits, upstream, cors, apps, store)

    def _section(self, root: Table, name: str, model: type[_Model]) -> _Model:
        return self._made(self._path, (name,), root.get(name, {}), model) or model()

    def _made(
        self, file: Path, prefix: tuple[str, ...], table: object, model: type[_Model]
    ) -> _Model | None:
        if not isinstance(table, dict):
            self.fault(file, prefix, f"expects a table, got {kind(table)}")
            return None
        if self._to_sign and model is not Store:
            tls = _TLS_TO_SIGN if table.get("tls_certificate") else {}
            table = {k: value for k, value in table.items() if k not in _NOT_TO_SIGN} | tls
        unresolved: set[Place] = set()
        table = self._expanded(file, prefix, table, unresolved)
        try:
            made = model.model_validate(table, context={"directory": self._path.parent})
        except ValidationError as error:
            for place, reason in translate(error, _known(model), _homes()):
                # What an unreplaced reference looks like is not what is wrong with it.
                if (*prefix, *place) not in unresolved:
                    self.fault(file, (*prefix, *place), reason)
            return None
        return None if unresolved else made

    def _expanded(self, file: Path, place: Place, value: object, unresolved: set[Place]) -> Any:
        if isinstance(value, dict):
            return {k: self._expanded(file, (*place, k), v, unresolved) for k, v in value.items()}
        if isinstance(value, list):
            return [self._expanded(file, (*place, n), v, unresolved) for n, v in enumerate(value)]
        if isinstance(value, str):
            try:
                return expand(value, self._resolve)
            except BadReferenceError as fault:
                unresolved.add(place)
                self.fault(file, place, str(fault))
        return value

    def _good_id(self, file: Path, place: Place, app_id: str) -> bool:
        try:
            check_app_id(app_id)
        except ValueError as fault:
            self.fault(file, place, str(fault))
            return False
        return True

    def _refuse_shell(self, source: AppSource) -> None:
        """Refuse keys and secrets that a shell was meant to write, and none did."""
        secrets, headers = source.table.get("secrets"), source.table.get("headers")
        written: list[tuple[Place, object]] = []
        if isinstance(secrets, list):
            written += [(("secrets", number), each) for number, each in enumerate(secrets)]
        if isinstance(headers, dict) and not self._to_sign:
            written += [(("headers", name), each) for name, each in headers.items()]
        for place, value in written:
            if isinstance(value, str) and _SHELL.fullmatch(value):
                reason = "has a $ as for a shell: write ${NAME} for an environment variable"
                self.fault(source.file, (*source.prefix, *place), reason)

    def _doubt_secrets(self, source: AppSource, table: AppTable) -> None:
        for number, secret in enumerate(table.secrets):
            if len(secret) < _WEAK_SECRET_CHARACTERS:
                place = key_path((*source.prefix, "secrets", number))
                reason = f"is short enough to be guessed: {self._better(source)}"
                self.warnings.append(Fault(source.file, place, reason))

    def _better(self, source: AppSource) -> str:
        """Return what to do about a secret; what is in the main file no command changes."""
        if source.prefix:
            return "put 32 random bytes in its place, such as `openssl rand -hex 32` prints"
        return "replace it with `swproxy app rotate`"


def check_table(file: Path, table: Table) -> list[Fault]:
    """Tell what is wrong with an application's table, whatever its references stand for."""
    assembly = Assembly(file, lambda _: "anything")
    assembly.config({}, [AppSource(file.stem, file, (), table)])
    return assembly.faults


def _known(model: type[BaseModel]) -> Callable[[Place], Iterable[str]]:
    def known(place: Place) -> Iterable[str]:
        found = model
        for name in place[:-1] if model is AppTable else ():
            found = _NESTED.get(str(name), found)
        return found.model_fields

    return known


def _homes() -> dict[str, str]:
    homes: dict[str, str] = dict.fromkeys([*SECTIONS, "apps"], "the main configuration file")
    homes |= {name: "an application" for name in AppTable.model_fields if name != "limits"}
    for name, model in SECTIONS.items():
        homes |= dict.fromkeys(model.model_fields, f"[{name}]")
    return homes
