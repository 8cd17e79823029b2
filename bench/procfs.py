"""Processor time and memory of other processes, as the kernel accounts for them.

Processor time comes from the process's own clock: Linux lets `clock_gettime` read the clock of any
process, in nanoseconds and with the time of ended threads, where /proc/PID/stat counts in ticks of
10 ms. On loopback a sender also pays for the receiving side's protocol work; that is the same for
every subject.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Memory", "cpu_by_process", "cpu_seconds", "family", "memory", "parse_stat"]

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of memory: proportional (shared pages split among their users) and resident."""

    proportional: int
    resident: int

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.proportional + other.proportional, self.resident + other.resident)


def cpu_seconds(pid: int) -> float:
    """Return user plus system time of a process; raise ProcessLookupError when it is gone."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
    except OSError:
        try:
            ticks = parse_stat((_PROC / str(pid) / "stat").read_text())[2]
        except FileNotFoundError:
            raise ProcessLookupError(f"process {pid} is gone") from None
        return ticks / _TICKS_A_SECOND


def parse_stat(text: str) -> tuple[str, int, int]:
    """Return (command, parent, user plus system ticks) of the text of a /proc/PID/stat."""
    # The command is in parentheses and may hold spaces and parentheses of its own.
    head, _, rest = text.rpartition(")")
    fields = rest.split()
    return head.partition("(")[2], int(fields[1]), int(fields[11]) + int(fields[12])


def family(pid: int) -> list[int]:
    """Return the process and all its living descendants, itself first."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = parse_stat((entry / "stat").read_text())[1]
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    members = [pid]
    for member in members:
        members.extend(children.get(member, ()))
    return members


def cpu_by_process(pids: Iterable[int]) -> Mapping[int, float]:
    """Return the processor seconds of each process; those that are gone are left out."""
    seconds: dict[int, float] = {}
    for pid in pids:
        try:
            seconds[pid] = cpu_seconds(pid)
        except ProcessLookupError:
            continue
    return seconds


def memory(pids: Iterable[int]) -> Memory:
    """Return the summed memory of processes; raise FileNotFoundError when one is gone."""
    total = Memory(0, 0)
    for pid in pids:
        values: dict[str, int] = {}
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in {"Pss", "Rss"}:
                values[name] = int(value.split()[0]) * 1024
        total += Memory(values["Pss"], values["Rss"])
    return total
