"""The house's one structural rule: arrows between rooms point down only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "swproxy"
ROOMS = ["sw1", "policy", "proxy", "daemon", "demo"]
"""From the lowest to the highest; a room may import itself and what stands before it."""

LOOKS_AT_THE_WORLD = {"trio", "time", "socket", "asyncio", "httpcore", "h11"}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    above = {f"swproxy.{name}" for name in ROOMS[ROOMS.index(room) + 1 :]} | {"swproxy.cli"}
    files = list((PACKAGE / room).rglob("*.py"))
    assert files
    for path in files:
        upward = {
            name for name in imports(path) for other in above if f"{name}.".startswith(f"{other}.")
        }
        assert not upward, f"{path.relative_to(PACKAGE)} imports {upward}"


@pytest.mark.parametrize("room", ["sw1", "policy"])
def test_pure_rooms_do_no_io_and_read_no_clock(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        outside = {name.split(".")[0] for name in imports(path)} & LOOKS_AT_THE_WORLD
        assert not outside, f"{path.relative_to(PACKAGE)} imports {outside}"


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after `statement`."""
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_swproxy_loads_only_the_standard_library() -> None:
    foreign = loaded_by("import swproxy") - loaded_by("pass") - set(sys.stdlib_module_names)
    assert foreign == {"swproxy"}


def test_the_pure_rooms_load_without_trio() -> None:
    modules = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for room in ("sw1", "policy")
        for path in (PACKAGE / room).glob("*.py")
        if path.name != "__init__.py"
    ]
    assert not loaded_by(f"import {', '.join(modules)}") & {"trio", "h11", "httpcore"}
