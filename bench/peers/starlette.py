"""Starlette and httpx on uvicorn: what a backend in Python relays with."""

from __future__ import annotations

import importlib.util
import sys

from bench.processes import StartError
from bench.site import APP_ID, APP_SECRET, IDLE_CONNECTIONS, Site
from bench.subjects import Signed
from bench.upstream import API_KEY

__all__ = ["StarletteHttpx"]

_NEEDS = ("starlette", "httpx", "uvicorn", "uvloop")


class StarletteHttpx(Signed):
    """The application of `starlette_proxy`, on uvloop and httptools."""

    def __init__(self) -> None:
        super().__init__("starlette+httpx")

    def _run(self, site: Site, port: int) -> None:
        if not all(map(importlib.util.find_spec, _NEEDS)):
            raise StartError("not installed (pip install starlette httpx 'uvicorn[standard]')")
        module = "bench.peers.starlette_proxy:app"
        self._launch(
            site,
            [sys.executable, "-m", "uvicorn", "--port", str(port), "--backlog", "4096", module],
            port,
            CA_FILE=str(site.ca_file),
            APP=APP_ID,
            SECRET=APP_SECRET,
            AUTHORIZATION=API_KEY,
            IDLE_CONNECTIONS=str(IDLE_CONNECTIONS),
        )
