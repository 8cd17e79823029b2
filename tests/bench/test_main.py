"""The whole bench once, small: real processes, a table, JSON, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench import procfs
from bench.site import ROOT


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )


def test_one_scenario_runs_reports_and_leaves_no_process(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    done = _bench("slow", "--quick", "--subjects", "direct,plain", "--json", str(output))
    assert done.returncode == 0, done.stderr
    assert "## slow: " in done.stdout
    assert "## Budgets" in done.stdout
    assert "slow 4/4" in done.stderr
    document = json.loads(output.read_text())
    held = {
        (figure["subject"], figure["labels"]["upstream"]): figure["median"]
        for figure in document["figures"]
        if figure["metric"] == "held_kb_per_client"
    }
    assert set(held) == {(s, u) for s in ("direct", "plain") for u in ("http", "https")}
    assert all(0 < value < 100_000 for value in held.values())
    assert document["machine"]["python"].startswith("CPython")


def test_wrong_names_are_refused() -> None:
    assert _bench("nothing").returncode == 2
    assert _bench("sse", "--subjects", "apache").returncode == 2


def test_interrupted_it_ends_its_processes_and_says_what_it_has() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "bench", "slow", "--subjects", "direct,plain"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as bench:
        assert bench.stderr is not None
        bench.stderr.readline()
        family = procfs.family(bench.pid)
        assert len(family) >= 3
        bench.send_signal(signal.SIGINT)
        output, _ = bench.communicate(timeout=120)
    assert bench.returncode == 130
    assert "## slow: " in output
    deadline = time.monotonic() + 5
    while alive := [pid for pid in family if _alive(pid)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
