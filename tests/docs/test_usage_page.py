"""The page on usage: its configuration is one, and weighs as it says."""

import tomllib
from pathlib import Path

from swproxy.config.assembly import Assembly
from tests.support.pages import block


def test_the_configuration_weighs_as_the_page_says() -> None:
    root = tomllib.loads(block("metered"))
    assembly = Assembly(Path("swproxy.toml"), lambda _: "a-secret-that-is-long-enough")
    config = assembly.config(root, assembly.sources(root, []))
    assert not assembly.faults
    weights = config.apps["chat"].weights
    assert weights is not None
    assert weights.units("gpt-5-mini-2025-08-07", 100, 10) == 110
    assert weights.units("gpt-5.4", 100, 10, cached=20) == 80 * 5 + 20 * 0.5 + 10 * 40
