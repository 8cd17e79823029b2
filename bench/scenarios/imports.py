"""What `import swproxy` costs a page's backend that only signs."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench.figures import Metric
from bench.machine import Cores, on_cores
from bench.session import Session
from bench.site import ROOT

NAME = "import"
TITLE = "Start of a Python process"
WALL = Metric("wall_ms", "ms", "wall")
CPU = Metric("cpu_ms", "ms", "CPU")
OVER = Metric("cpu_over_bare_ms", "ms", "CPU over bare")
MODULES = Metric("trio_modules", "", "trio modules loaded")
NOTES = (
    (
        "From fork to exit of `python -c ...`, in turn with a bare one. One thread that never "
        "waits: on a quiet machine wall-clock and processor time are the same, on a busy one the "
        "latter is the truer."
    ),
)
_PROGRAMS = {
    "bare python": "pass",
    "import swproxy": "import swproxy",
    "import hmac, hashlib, urllib.parse, datetime": "import hmac, hashlib, urllib.parse, datetime",
}
_COUNT_TRIO = (
    "import swproxy, sys; "
    "print(sum(name.partition('.')[0] in ('trio', 'h11', 'httpcore') for name in sys.modules))"
)


def run(session: Session) -> None:
    """Start each program over and over, in turn."""
    rounds = session.options.rounds_of(25)
    session.progress.begin(NAME, rounds * len(_PROGRAMS))
    with on_cores(Cores.pinned().subject):
        for program in _PROGRAMS.values():
            _start(program)  # writes the byte code, warms the page cache
        for _ in range(rounds):
            bare = 0.0
            for name, program in _PROGRAMS.items():
                session.progress.step(name)
                wall, cpu = _start(program)
                session.add(NAME, name, {}, {WALL: 1e3 * wall, CPU: 1e3 * cpu})
                if name == "bare python":
                    bare = cpu
                else:
                    session.add(NAME, name, {}, {OVER: 1e3 * (cpu - bare)})
        counted = subprocess.run(
            [sys.executable, "-c", _COUNT_TRIO],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            timeout=30,
        )
        session.add(NAME, "import swproxy", {}, {MODULES: float(counted.stdout)})


def _start(program: str) -> tuple[float, float]:
    began = time.perf_counter()
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", program], os.environ)
    _, status, spent = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    if status:
        raise RuntimeError(f"python -c {program!r} failed with status {status}")
    return wall, spent.ru_utime + spent.ru_stime
