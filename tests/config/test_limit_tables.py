"""Limits in the configuration, and where what is counted is kept."""

from pathlib import Path

import pytest

from swproxy.config.loader import inspect
from swproxy.policy.allowances import Allowance, Pace, TokenBudget

APP = """
[apps.chat]
secrets = ["0123456789abcdef0123456789abcdef"]
allow = ["https://api.example/*"]
"""


def found(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> object:
    path = tmp_path / "swproxy.toml"
    path.write_text(APP + text)
    result = inspect(path, environ or {})
    return result.config or [str(fault).removeprefix(f"{path}: ") for fault in result.faults]


def test_limits_of_an_application_its_users_and_its_plans(tmp_path: Path) -> None:
    config = found(
        tmp_path,
        """
[apps.chat.limits]
requests = "600/minute"
concurrent = 200
tokens = "2000000/day"
[apps.chat.limits.user]
requests = "20/minute burst 5"
[apps.chat.plans.trial]
requests = "5/minute"
tokens = "5000/day"
seconds = 60
[apps.chat.plans.small]
tokens = 500
""",
    )
    app = config.apps["chat"]  # type: ignore[attr-defined]
    assert app.limits == Allowance(Pace(600, 60, 600), 200, TokenBudget(2000000, "day"))
    assert app.user_limits == Allowance(Pace(20, 60, 5))
    trial = app.plans["trial"]
    assert trial.limits == Allowance(Pace(5, 60, 5), None, TokenBudget(5000, "day"))
    assert trial.terms.seconds == 60
    assert (app.plans["small"].limits, app.plans["small"].terms.tokens) == (Allowance(), 500)
    assert app.counts


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('limits.requests = "20"', "apps.chat.limits.requests: is not a rate of requests such as"),
        ("limits.requests = 20", "apps.chat.limits.requests: expects text, got a whole number"),
        ("limits.concurrent = -1", "apps.chat.limits.concurrent: has to be at least 0"),
        ('limits.tokens = "5/second"', "apps.chat.limits.tokens: is not a budget of tokens such"),
        ("limits.user.tokens = 5", "apps.chat.limits.user.tokens: expects text, got a whole"),
        ('limits.request = "1/day"', 'apps.chat.limits.request: is not a key: did you mean "requ'),
        ('limits.user.user = "x"', "apps.chat.limits.user.user: is not a key"),
        ('plans.a.requests = "5"', "apps.chat.plans.a.requests: is not a rate of requests such"),
        ("plans.a.concurrent = true", "apps.chat.plans.a.concurrent: expects a whole number, got"),
        ('plans.a.tokens = "5"', "apps.chat.plans.a.tokens: is not a budget of tokens such as"),
        ("plans.a.usr = 5", "apps.chat.plans.a.usr: "),
    ],
)
def test_faults_name_the_key(tmp_path: Path, text: str, fault: str) -> None:
    faults = found(tmp_path, text)
    assert isinstance(faults, list)
    assert len(faults) == 1
    assert faults[0].startswith(fault), faults


USER = "[apps.chat.limits.user]\n"


def warned(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "swproxy.toml"
    path.write_text(APP + 'require = ["user"]\n' + text)
    result = inspect(path, {})
    assert result.config, result.faults
    return [f"{each.key}: {each.reason}" for each in result.warnings if "limits" in each.key]


@pytest.mark.parametrize(
    ("everybody", "user", "key"),
    [
        ('requests = "60/minute"', 'requests = "2/second"', "requests"),
        ('requests = "60/minute"', 'requests = "60/minute"', ""),
        ('requests = "60/minute"', 'requests = "3000/hour"', ""),
        ("concurrent = 5", "concurrent = 6", "concurrent"),
        ("concurrent = 5", "concurrent = 5", ""),
        ('tokens = "500/day"', 'tokens = "1000/minute"', "tokens"),
        ('tokens = "500/day"', 'tokens = "20000/month"', "tokens"),
        ('tokens = "500/day"', 'tokens = "15000/month"', ""),
        ('tokens = "500/day"', 'requests = "1000/second"', ""),
    ],
)
def test_a_limit_that_nobody_can_come_to_is_doubtful(
    tmp_path: Path, everybody: str, user: str, key: str
) -> None:
    found = warned(tmp_path, f"[apps.chat.limits]\n{everybody}\n{USER}{user}\n")
    said = f"can never be reached: limits.{key} allows all users together less"
    assert found == ([f"apps.chat.limits.user.{key}: {said}"] if key else [])


def test_limits_of_users_that_a_url_need_not_name_are_doubtful(tmp_path: Path) -> None:
    path = tmp_path / "swproxy.toml"
    path.write_text(APP + "[apps.chat.plans.trial]\nconcurrent = 1\n")
    (warning,) = [each for each in inspect(path, {}).warnings if "plans" in each.key]
    assert warning.key == "apps.chat.plans.trial"
    assert 'require = ["user"]' in warning.reason


@pytest.mark.parametrize(
    ("store", "fault"),
    [
        ('path = "swproxy.toml/in/ledger"', "store.path: there is no directory "),
        ('path = "none/there/ledger"', "store.path: there is no directory "),
        ('snapshot = "."', "store.snapshot: "),
    ],
)
def test_a_store_that_can_not_be_written_is_a_fault_once_it_is_needed(
    tmp_path: Path, store: str, fault: str
) -> None:
    text = f"[store]\n{store}\n"
    assert not isinstance(found(tmp_path, text), list)
    faults = found(tmp_path, text + "[apps.chat.limits]\nconcurrent = 1\n")
    assert isinstance(faults, list)
    assert faults[0].startswith(fault), faults


def test_so_is_one_in_a_directory_that_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    faults = found(tmp_path, "[apps.chat.limits]\nconcurrent = 1\n")
    assert isinstance(faults, list)
    assert f"store.path: nothing can be written in {tmp_path}" in faults


def test_the_store_is_where_it_is_said_or_systemd_says_or_beside_the_configuration(
    tmp_path: Path,
) -> None:
    systemd = {
        "RUNTIME_DIRECTORY": "/run/swproxy:/run/other",
        "STATE_DIRECTORY": "/var/lib/swproxy",
    }
    for text, environ, path, snapshot in (
        ("", {}, tmp_path / "ledger/ledger.sqlite", tmp_path / "ledger/snapshot.sqlite"),
        ("", systemd, "/run/swproxy/ledger.sqlite", "/var/lib/swproxy/ledger.sqlite"),
        ('[store]\npath = "/a/b"\nsnapshot = "c"', systemd, "/a/b", tmp_path / "c"),
    ):
        config = found(tmp_path, text, environ)
        store = config.store  # type: ignore[attr-defined]
        assert (store.path, store.snapshot) == (Path(path), Path(snapshot))
