"""Configurations read as `serve` reads them."""

from collections.abc import Mapping
from pathlib import Path

from swproxy.config.config import Config
from swproxy.config.loader import inspect


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Return the configuration at `path`; ConfigError lists every fault if there is any."""
    return inspect(path, environ).require()
