"""The page about limits: what it configures is a configuration, and it names every refusal."""

import tomllib
from pathlib import Path

from swproxy.config.assembly import Assembly
from swproxy.config.store_address import StoreAddress
from swproxy.policy.allowances import Allowance, Pace, TokenBudget
from swproxy.policy.problems import PROBLEMS
from tests.support.config import load
from tests.support.pages import DOCS, block

PAGE = DOCS / "limits.md"


def test_the_example_is_what_it_says() -> None:
    text = '[apps.chat]\nsecrets = ["0123456789abcdef"]\nallow = ["*"]\n' + block("limits")
    root = tomllib.loads(text)
    assembly = Assembly(Path("swproxy.toml"), str)
    app = assembly.config(root, assembly.sources(root, [])).apps["chat"]
    assert not assembly.faults
    assert app.limits == Allowance(Pace(600, 60, 600), 200, TokenBudget(2000000, "day"))
    assert app.user_limits == Allowance(Pace(20, 60, 5), 2, TokenBudget(50000, "day"))
    trial = app.plans["trial"].limits
    assert trial == Allowance(Pace(5, 60, 5), None, TokenBudget(5000, "day"))


def test_its_codes_are_those_that_there_are() -> None:
    text = PAGE.read_text()
    for code in ("rate-limited", "too-many-at-once", "budget-spent", "already-used", "revoked"):
        assert f"{PROBLEMS[code].status} `{code}`" in text
    assert f"{PROBLEMS['limits-unavailable'].status} `limits-unavailable`" in text


def test_the_shared_store_is_read_as_written(tmp_path: Path) -> None:
    (tmp_path / "store-password").write_text("canary-word\n")
    (tmp_path / "store-password").chmod(0o600)
    (tmp_path / "swproxy.toml").write_text(block("store"))
    store = load(tmp_path / "swproxy.toml", {}).store
    assert store.url == StoreAddress(nodes=(("store.internal", 6379),), tls=True)
    assert (store.username, store.password) == ("swproxy", "canary-word")
    assert "canary" not in repr(store)
