"""The machine a session ran on, what else it was doing, and which core serves whom.

With two cores or more the subject gets the last core for itself and upstream and load generator
share the others, so that neither the scheduler's choice nor the generators' appetite shows up in a
subject's figure. Scenarios whose question is about several cores run unpinned and say so.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import resource
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench import interpreter, procfs

__all__ = ["Cores", "Others", "describe", "load_now", "on_cores", "raise_file_limit"]

_PACKAGES = ("swproxy", "trio", "h11", "httpcore")


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores the subject may use, and which upstream and load generator share."""

    subject: frozenset[int]
    load: frozenset[int]

    @classmethod
    def pinned(cls) -> Cores:
        """Split the cores this process may use; with one core there is nothing to split."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            return cls.shared()
        return cls(frozenset(cores[-1:]), frozenset(cores[:-1]))

    @classmethod
    def shared(cls) -> Cores:
        """Let everybody use every core."""
        cores = frozenset(os.sched_getaffinity(0))
        return cls(cores, cores)


@contextlib.contextmanager
def on_cores(cores: frozenset[int]) -> Iterator[None]:
    """Run the block, and whatever processes it starts, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_file_limit() -> int:
    """Raise the limit of open files to what the system allows and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def describe() -> dict[str, str]:
    """Return the machine, the versions and the date, as text by name."""
    facts = {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": f"{_cpu_model()}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": interpreter.describe(),
        "openssl": ssl.OPENSSL_VERSION,
    }
    for package in _PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    facts["tcp"] = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    facts["commit"] = (
        _first_line("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")
        or "unknown"
    )
    facts["nginx"] = _first_line("nginx", "-v").removeprefix("nginx version: ") or "not installed"
    facts["wrk"] = " ".join(_first_line("wrk", "-v").split()[:2]) or "not installed"
    return facts


def load_now(seconds: float = 0.5) -> str:
    """Return the load average and what was busy during the next `seconds`, in words."""
    before = _ticks_by_process()
    time.sleep(seconds)
    after = _ticks_by_process()
    tick = 1 / os.sysconf("SC_CLK_TCK")
    shares = [
        (100 * (ticks - before[pid][1]) * tick / seconds, command)
        for pid, (command, ticks) in after.items()
        if pid in before and pid != os.getpid()
    ]
    busy = [
        f"{command} {share:.0f}%"
        for share, command in sorted(shares, reverse=True)[:4]
        if share >= 5
    ]
    average = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return f"load average {average}; running: {', '.join(busy) or 'nothing else'}"


class Others:
    """How much processor time everybody else used, from construction to `summary`."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._spent, self._stolen = _foreign_seconds()

    def summary(self) -> str:
        """Return it in words; what this process started counts once it has been waited for."""
        seconds = time.monotonic() - self._began
        spent, stolen = _foreign_seconds()
        foreign = max(0.0, 100 * (spent - self._spent) / seconds)
        steal = 100 * (stolen - self._stolen) / seconds
        return f"other processes used {foreign:.0f} % of a core, the hypervisor took {steal:.0f} %"


def _foreign_seconds() -> tuple[float, float]:
    """Return the processor seconds of all but this process's family, and the stolen ones."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, stolen = (int(fields[index]) for index in (1, 2, 3, 8))
    own = os.times()
    ours = own.user + own.system + own.children_user + own.children_system
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system) / tick - ours, stolen / tick


def _ticks_by_process() -> dict[int, tuple[str, int]]:
    ticks: dict[int, tuple[str, int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                command, _, spent = procfs.parse_stat((entry / "stat").read_text())
                ticks[int(entry.name)] = command, spent
    return ticks


def _cpu_model() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def _first_line(*command: str) -> str:
    program = shutil.which(command[0]) or shutil.which(command[0], path="/usr/sbin:/sbin")
    if program is None:
        return ""
    done = subprocess.run(
        [program, *command[1:]], capture_output=True, text=True, timeout=10, check=False
    )
    return next(iter((done.stdout or done.stderr).splitlines()), "")
