"""`swproxy usage`, `limits` and `revoke`: over the store that a daemon uses."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from swproxy import sign_url
from swproxy.cli.main import main
from swproxy.quota.accounts import Account, Call, Taken
from swproxy.quota.checks import Budget, End, Places, Rate
from swproxy.quota.ledger import Used
from swproxy.quota.livefile import Place
from swproxy.quota.sqlite import SqliteLedger
from swproxy.quota.windows import Period
from tests.support import ROOT

SECRET = "canary-secret-0123456789abcdef"
CONFIG = f"""
[apps.chat]
secrets = ["{SECRET}"]
allow = ["*"]
limits.requests = "10/minute"
[apps.chat.limits.user]
concurrent = 2
tokens = "1000/day"
[apps.chat.plans.trial]
tokens = "100/day"
[store]
path = "live/ledger.sqlite"
"""
USER = (Places(2), Budget(1000, Period.DAY))


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "swproxy.toml").write_text(CONFIG)
    (tmp_path / "live").mkdir()
    (tmp_path / "ledger").mkdir()
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def ok(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def with_ledger(directory: Path, look: Callable[[SqliteLedger], list[str]]) -> list[str]:
    """Open the store as a worker does, with three calls of a user, one of them over."""

    async def work() -> list[str]:
        ledger = SqliteLedger(Place(directory / "live/ledger.sqlite"))
        async with trio.open_nursery() as nursery:
            await nursery.start(ledger.run)
            accounts = (
                Account("app", "app/chat", (Rate(10, 60, 10),)),
                Account("user", "user/chat/42", USER),
            )
            for i in range(3):
                outcome = await ledger.admit(Call(str(i), "chat", accounts, "42", 300))
                if isinstance(outcome, Taken) and i == 0:
                    ledger.settle(outcome, End(tokens=250), Used(tokens_in=200, tokens_out=50))
            await ledger.tend()
            found = await trio.to_thread.run_sync(look, ledger)
            nursery.cancel_scope.cancel()
        return found

    return trio.run(work)


def test_usage_as_a_table_and_as_json(directory: Path) -> None:
    def look(_: SqliteLedger) -> list[str]:
        return [
            ok("usage"),
            ok("usage", "chat", "--user", "42", "--since", "2026-01-01", "--json"),
            run("usage", "images").stderr,
            run("usage", "images", "--json").stdout,
            run("usage", "chat", "--user", "nobody").stderr,
            ok("limits", "chat", "--user", "42"),
        ]

    table, listed, unknown, none, nobody, left = with_ledger(directory, look)
    assert table.split() == ["chat", "42", "3", "0", "2", "200", "50", "0"]
    (row,) = json.loads(listed)
    assert row["app"] == "chat"
    assert (row["requests"], row["streams"], row["tokens_out"]) == (3, 2, 50)
    assert "there is no application images, and nothing is recorded of one" in unknown
    assert none == "[]\n"
    assert nobody.startswith("Nothing is recorded of that since 20")
    rows = [line.split("\t") for line in left.splitlines()]
    assert [row[:4] for row in rows] == [
        ["application", "requests", "7", "10"],
        ["user 42", "concurrent", "0", "2"],
        ["user 42", "tokens", "150", "1000"],
    ]


def test_usage_is_watched_until_it_is_interrupted(directory: Path) -> None:
    environ = os.environ | {"SWPROXY_CONFIG": str(directory / "swproxy.toml")}
    process = subprocess.Popen(
        [sys.executable, "-m", "swproxy", "usage", "--watch", "--json"],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout
        assert [process.stdout.readline() for _ in range(2)] == [b"[]\n"] * 2
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, said) == (0, b"")


def test_limits_of_a_plan_and_of_nobody_in_particular() -> None:
    assert ok("limits", "chat") == "application\trequests\t10\t10\t\n"
    assert "user 7\ttokens\t100\t100" in ok("limits", "chat", "--user", "7", "--plan", "trial")
    assert run("limits", "chat", "--plan", "gold").exit_code == 2
    assert run("limits", "images").exit_code == 2


def test_revoking(directory: Path) -> None:
    url = sign_url("chat", SECRET, "https://edge.example", "https://api.example/", 600, "GET")

    def look(ledger: SqliteLedger) -> list[str]:
        assert ok("revoke", "chat", "--user", "42") == "What was signed for user 42 is revoked.\n"
        assert ok("revoke", "chat", "--url", url) == "The URL is revoked.\n"
        trio.from_thread.run(ledger.tend)
        revoked = ledger.revocations.revoked
        signature = url.partition("X-Sw-Signature=")[2][:32]
        assert revoked("chat", "42", "ab" * 16, 1)
        assert revoked("chat", "", signature, 1)
        assert not revoked("chat", "43", "ab" * 16, 1)
        assert ok("revoke", "chat", "--all") == "All that was signed is revoked.\n"
        trio.from_thread.run(ledger.tend)
        assert ledger.revocations.revoked("chat", "43", "ab" * 16, 1)
        return []

    with_ledger(directory, look)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chat"], "give one of --user, --url and --all"),
        (["chat", "--all", "--user", "42"], "give one of"),
        (["images", "--all"], "there is no application images"),
        (["chat", "--url", "https://edge.example/?X-Sw-Date=1"], "--url is no signed URL: "),
        (
            ["chat", "--url", sign_url("other", SECRET, "http://a", "http://b", 9, "GET")],
            "of other",
        ),
    ],
)
def test_what_can_not_be_revoked(arguments: list[str], said: str) -> None:
    result = run("revoke", *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_without_a_store_it_is_told_why(directory: Path) -> None:
    (directory / "live").rmdir()
    (directory / "live").write_text("no directory")
    result = run("usage")
    assert result.exit_code == 1
    assert "the store of limits cannot be asked: " in result.stderr
    assert "live" in result.stderr


def test_a_store_of_somebody_else_is_told_as_well(directory: Path) -> None:
    with contextlib.closing(sqlite3.connect(directory / "live" / "ledger.sqlite")) as db:
        db.execute("CREATE TABLE accounts (id INTEGER)")
    result = run("revoke", "chat", "--all")
    assert result.exit_code == 1
    assert "the store of limits cannot be asked: " in result.stderr
    assert "not one of swproxy's" in result.stderr
