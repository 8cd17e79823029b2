"""How the interpreter was built: a tenth and more of every figure hangs on it.

    python -m bench.interpreter

says so, and fails unless the interpreter is an optimised one: compiled by a profile of what it does
(PGO), best with optimisation across files as well (LTO). CPython's own makefile does neither unless
it is asked to, and so do tools that build from source, as pyenv.

`sysconfig` tells with what an interpreter was configured. Debian builds its own several times and
ships what sysconfig says of a plain one; that its /usr/bin/python3 has both is in the rules of its
package, and in the speed.
"""

from __future__ import annotations

import platform
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

__all__ = ["WARNING", "Build", "describe", "this_build"]

WARNING = (
    "this interpreter was built without PGO and LTO, so swproxy's figures are 8 to 18 % worse than "
    "need be; bench/run takes an optimised one"
)


@dataclass(frozen=True, slots=True)
class Build:
    """What is known of how an interpreter was compiled."""

    profiled: bool
    linked: bool
    source: str

    def __str__(self) -> str:
        with_them = [name for name, has in (("PGO", self.profiled), ("LTO", self.linked)) if has]
        return f"{' and '.join(with_them) or 'neither PGO nor LTO'} ({self.source})"


def this_build() -> Build:
    """Return what is known of the interpreter that runs this."""
    if _is_debians():
        return Build(profiled=True, linked=True, source="Debian's build")
    return read(sysconfig.get_config_vars())


def read(variables: dict[str, object]) -> Build:
    """Return what sysconfig's variables tell."""
    arguments = str(variables.get("CONFIG_ARGS", ""))
    flags = " ".join(str(variables.get(name, "")) for name in ("PY_CORE_CFLAGS", "PY_CORE_LDFLAGS"))
    return Build(
        profiled="--enable-optimizations" in arguments or "-fprofile-use" in flags,
        linked="--with-lto" in arguments or "-flto" in flags,
        source="sysconfig",
    )


def describe() -> str:
    """Return name, version and build, in words."""
    name = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{name}, {sys.base_prefix}: {this_build()}"


def _is_debians() -> bool:
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        return False
    alike = f"{system.get('ID', '')} {system.get('ID_LIKE', '')}".split()
    program = Path(sys.executable).resolve()
    return "debian" in alike and program.parent == Path("/usr/bin")


if __name__ == "__main__":
    print(describe())
    sys.exit(not this_build().profiled)
