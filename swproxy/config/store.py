"""Applications on disk, as the command line manages them.

Each is found and checked before anything is written, under a lock, so that two people who manage
applications at once cannot undo each other's work. What cannot be done is a ConfigError.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from swproxy.config import loader
from swproxy.config.applications import render
from swproxy.config.assembly import AppSource, Table, check_table
from swproxy.config.faults import ConfigError, Fault, key_path
from swproxy.config.fields import check_app_id
from swproxy.config.template import render_config

__all__ = ["add", "change", "find", "initialise", "remove"]


def initialise(path: Path, app_id: str, table: Table) -> Path:
    """Write a new configuration with one application, and return the application's file."""
    file = _app_file(path, app_id)
    _check(file, table)
    path.parent.mkdir(parents=True, exist_ok=True)
    with loader.locked(path):
        for each in (path, file):
            if each.exists():
                raise ConfigError([Fault(each, "", "is there already; nothing was written")])
        _write_new(path, render_config())
        _write_new(file, render(app_id, table))
    return file


def add(path: Path, app_id: str, table: Table) -> Path:
    """Write a new application's file, and return it."""
    file = _app_file(path, app_id)
    _check(file, table)
    # Reading the configuration first tells if it is not there at all.
    existing = loader.applications(path)
    with loader.locked(path):
        for source in existing:
            if source.id == app_id:
                raise ConfigError([Fault(source.file, "", f"has an application {app_id} already")])
        _write_new(file, render(app_id, table))
    return file


def find(path: Path, app_id: str) -> AppSource:
    """Return where and how an application is written."""
    sources = {source.id: source for source in loader.applications(path)}
    if app_id not in sources:
        close = difflib.get_close_matches(app_id, sources, n=1)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        raise ConfigError([Fault(path, "", f"there is no application {key_path((app_id,))}{hint}")])
    return sources[app_id]


def change(path: Path, app_id: str, edit: Callable[[Table], Table]) -> Path:
    """Write an application's file anew as `edit` makes it, and return the file.

    `edit` raises ValueError, with the reason, to refuse.
    """
    with loader.locked(path):
        file = _own_file(path, app_id).file

        def edited(table: Table) -> str:
            try:
                table = edit(table)
            except ValueError as reason:
                raise ConfigError([Fault(file, "", str(reason))]) from None
            _check(file, table)
            return render(app_id, table)

        loader.rewrite(file, edited)
    return file


def remove(path: Path, app_id: str) -> Path:
    """Delete an application's file, and return where it was."""
    with loader.locked(path):
        source = _own_file(path, app_id)
        loader.remove(source.file)
    return source.file


def _own_file(path: Path, app_id: str) -> AppSource:
    source = find(path, app_id)
    if source.prefix:
        reason = f"[{key_path(source.prefix)}] is in the main file, which only you may edit"
        raise ConfigError([Fault(source.file, "", reason)])
    return source


def _app_file(path: Path, app_id: str) -> Path:
    try:
        check_app_id(app_id)
    except ValueError as reason:
        raise ConfigError([Fault(path, key_path(("apps", app_id)), str(reason))]) from None
    return path.parent / "apps" / f"{app_id}.toml"


def _check(file: Path, table: Table) -> None:
    if faults := check_table(file, table):
        raise ConfigError(faults)


def _write_new(path: Path, text: str) -> None:
    try:
        loader.write_new(path, text)
    except FileExistsError:
        raise ConfigError([Fault(path, "", "is there already")]) from None
