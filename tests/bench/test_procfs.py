"""What the kernel says of a process is read right, and about the right processes."""

import os
import subprocess
import sys
import time

import pytest

from bench import procfs
from bench.machine import Cores, describe, on_cores


def test_a_command_may_hold_spaces_and_parentheses() -> None:
    text = "42 (tricky ) (name)) S 7 42 42 0 -1 4194560 100 0 0 0 11 22 0 0 20 0 1 0 9 8 7"
    assert procfs.parse_stat(text) == ("tricky ) (name)", 7, 33)


def test_the_processor_time_of_another_process() -> None:
    program = "import time\nwhile time.process_time() < 0.15: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        spent = procfs.cpu_seconds(child.pid)
        child.communicate(b"\n")
    assert spent >= 0.15
    assert procfs.cpu_by_process([child.pid]) == {}
    with pytest.raises(ProcessLookupError):
        procfs.cpu_seconds(child.pid)


def test_a_family_is_a_process_with_all_its_descendants() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True) as shell:
        deadline = time.monotonic() + 5
        while len(family := procfs.family(shell.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(shell.pid, 9)
    assert family[0] == shell.pid
    assert len(family) == 2
    assert os.getpid() not in family
    assert set(family) < set(procfs.family(os.getpid())) | set(family)


def test_memory_is_summed() -> None:
    own = procfs.memory([os.getpid()])
    assert 0 < own.proportional <= own.resident
    twice = procfs.memory([os.getpid(), os.getpid()])
    assert twice.resident > own.resident
    assert procfs.memory([]) == procfs.Memory(0, 0)


def test_cores_are_given_back() -> None:
    before = os.sched_getaffinity(0)
    with on_cores(frozenset({min(before)})):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_with_two_cores_subject_and_load_have_one_each() -> None:
    cores = Cores.pinned()
    available = os.sched_getaffinity(0)
    assert cores.subject | cores.load == available
    if len(available) > 1:
        assert not cores.subject & cores.load


def test_the_machine_is_described() -> None:
    facts = describe()
    assert {"cpu", "kernel", "date", "python", "openssl", "trio", "h11", "nginx"} <= set(facts)
    assert all(facts.values())
