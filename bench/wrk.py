"""wrk, where it fits: requests a second over kept connections, at a cost no Python client has."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

from bench.client import LoadError
from bench.site import Request

__all__ = ["WrkResult", "available", "parse", "run"]

_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True, slots=True)
class WrkResult:
    """What wrk reported."""

    requests: int
    rate: float
    p50_ms: float
    p99_ms: float
    failures: int


def available() -> bool:
    """Tell whether wrk is installed."""
    return shutil.which("wrk") is not None


def run(request: Request, *, concurrency: int, seconds: int) -> WrkResult:
    """Load the subject for so many seconds; raise LoadError when wrk fails."""
    headers = [word for name, value in request.headers for word in ("-H", f"{name}: {value}")]
    command = [
        "wrk",
        "--threads",
        "1",
        "--connections",
        str(concurrency),
        "--duration",
        f"{seconds}s",
        "--timeout",
        "10s",
        "--latency",
        *headers,
        request.url,
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + 30, check=False
        )
    except subprocess.TimeoutExpired:
        raise LoadError("wrk did not end") from None
    if done.returncode:
        raise LoadError(f"wrk: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return parse(done.stdout)


def parse(text: str) -> WrkResult:
    """Read wrk's report; raise LoadError if it is none."""
    requests = re.search(r"(\d+) requests in ", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if requests is None or rate is None:
        raise LoadError("wrk printed no report")
    failures = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text
    )
    return WrkResult(
        requests=int(requests[1]),
        rate=float(rate[1]),
        p50_ms=_latency(text, "50"),
        p99_ms=_latency(text, "99"),
        failures=(int(failures[1]) if failures else 0)
        + (sum(map(int, errors.groups())) if errors else 0),
    )


def _latency(text: str, share: str) -> float:
    match = re.search(rf"^\s+{share}%\s+([\d.]+)([a-z]+)\s*$", text, re.MULTILINE)
    if match is None:
        raise LoadError("wrk printed no latencies")
    return float(match[1]) * _UNITS_MS[match[2]]
