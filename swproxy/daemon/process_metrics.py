"""What this process itself takes of the machine: processor time, and memory."""

import os
import time

from swproxy.daemon.tally import Tally

__all__ = ["ProcessMetrics"]

_STATM = "/proc/self/statm"
"""Sizes in pages, the second of them resident: proc_pid_statm(5)."""


class ProcessMetrics:
    """Counts in a tally what the process takes, under the name `process`."""

    def __init__(self, tally: Tally, process: str) -> None:
        self._values = tally.values
        self._cpu, self._memory = tally.slots(
            [
                ("swproxy_process_cpu_seconds_total", process),
                ("swproxy_process_resident_memory_bytes", process),
            ]
        )
        self._before = self._values[self._cpu]  # of those that had the place before

    def sample(self) -> None:
        """Take note of both as they are now."""
        self._values[self._cpu] = self._before + time.process_time()
        try:
            with open(_STATM, "rb", buffering=0) as file:  # noqa: PTH123 - once a second
                pages = int(file.read(128).split()[1])
        except OSError:
            return  # no /proc, or no descriptor left
        self._values[self._memory] = pages * os.sysconf("SC_PAGE_SIZE")
