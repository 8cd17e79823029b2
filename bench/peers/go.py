"""Go's own reverse proxy behind the same check: built from `goproxy` where Go is installed."""

from __future__ import annotations

import os
import subprocess

from bench.processes import StartError
from bench.site import APP_ID, APP_SECRET, IDLE_CONNECTIONS, ROOT, Site
from bench.subjects import Signed, find
from bench.upstream import API_KEY

__all__ = ["Go"]

_BUILD_SECONDS = 120


class Go(Signed):
    """httputil.ReverseProxy; Go runs on as many cores as it is started on, which is one."""

    def __init__(self) -> None:
        super().__init__("go")

    def _run(self, site: Site, port: int) -> None:
        compiler = find("go")
        if compiler is None:
            raise StartError("not installed (Go 1.21 or newer: https://go.dev/doc/install)")
        program = site.directory / "goproxy"
        done = subprocess.run(
            [compiler, "build", "-o", str(program), "."],
            cwd=ROOT / "bench" / "peers" / "goproxy",
            env={**os.environ, "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
            check=False,
        )
        if done.returncode:
            raise StartError(f"go build: {done.stderr.strip()}")
        options = {
            "-port": str(port),
            "-ca-file": str(site.ca_file),
            "-app": APP_ID,
            "-secret": APP_SECRET,
            "-authorization": API_KEY,
            "-idle-connections": str(IDLE_CONNECTIONS),
        }
        words = [word for option in options.items() for word in option]
        self._launch(site, [str(program), *words], port)
