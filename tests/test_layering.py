"""The house's structural rules: arrows between rooms point down only, no file is in a circle."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import PACKAGE

ROOMS = ["sw1", "policy", "config", "http", "quota", "net", "proxy", "daemon", "demo", "cli"]
"""From the lowest to the highest; a room may import itself and what stands before it."""

PURE = ["sw1", "policy", "config", "http"]
"""Rooms that know nothing of what happens outside of a call."""

LOOKS_AT_THE_WORLD = {"trio", "time", "socket", "asyncio", "httpcore", "h11"}
MAY_LOOK = {
    "http/request.py": {"h11"},  # reads heads by handing it bytes; it looks at nothing itself
}

FILES = {
    ".".join(("swproxy", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports(path: Path) -> set[str]:
    """Return all that a file imports, wherever in it: TYPE_CHECKING and functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else node.module for name in names}
    return found


def within(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_every_folder_is_a_room_with_a_place_in_the_tower() -> None:
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in PACKAGE.glob("*/**/*.py")}
    assert folders <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    above = ROOMS[ROOMS.index(room) + 1 :]
    for path in (PACKAGE / room).rglob("*.py"):
        upward = {
            name
            for name in imports(path)
            for other in above
            if f"{name}.".startswith(f"swproxy.{other}.")
        }
        assert not upward, f"{within(path)} imports {upward}"


def test_no_file_is_in_a_circle() -> None:
    arrows = {name: imports(path) & FILES.keys() for name, path in FILES.items()}
    while leaves := {name for name, targets in arrows.items() if not targets & arrows.keys()}:
        arrows = {name: targets for name, targets in arrows.items() if name not in leaves}
    assert not arrows, f"in or behind a circle: {sorted(arrows)}"


PURE_OF_QUOTA = ["accounts", "checks", "decide", "revocations", "windows"]


@pytest.mark.parametrize("room", [*PURE, *(f"quota/{name}.py" for name in PURE_OF_QUOTA)])
def test_pure_rooms_do_no_io_and_read_no_clock(room: str) -> None:
    files = list((PACKAGE / room).rglob("*.py")) or [PACKAGE / room]
    for path in files:
        roots = {name.split(".")[0] for name in imports(path)}
        outside = (roots & LOOKS_AT_THE_WORLD) - MAY_LOOK.get(within(path), set())
        assert not outside, f"{within(path)} imports {outside}"


OPENS = {"open", "read_text", "write_text", "read_bytes", "write_bytes"}


def test_only_the_loader_opens_files_of_a_configuration() -> None:
    for room in PURE:
        for path in (PACKAGE / room).rglob("*.py"):
            if within(path) == "config/loader.py":
                continue
            called = {
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else getattr(node.func, "id", "")
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Call)
            }
            assert not called & OPENS, f"{within(path)} calls {called & OPENS}"


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after `statement`."""
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_swproxy_loads_only_the_standard_library() -> None:
    foreign = loaded_by("import swproxy") - loaded_by("pass") - set(sys.stdlib_module_names)
    assert foreign == {"swproxy"}


def test_the_pure_rooms_load_without_trio() -> None:
    modules = [name for name in FILES if name.split(".")[1:2] and name.split(".")[1] in PURE]
    assert not loaded_by(f"import {', '.join(modules)}") & {"trio", "httpcore"}
