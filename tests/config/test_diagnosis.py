"""The whole judgement: signature and destination, and which refusal comes first."""

from datetime import UTC, datetime

import pytest

from swproxy import sign_url
from swproxy.config.config import App, Config
from swproxy.config.diagnosis import Report, report
from swproxy.policy.destination import Pattern

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
APP = App("one", ("secret",), (Pattern.parse("https://api.example/v1/*"),))
CONFIG = Config(apps={"one": APP})


def judged(
    url: str = "https://api.example/v1/x",
    *,
    method: str = "GET",
    late: int = 0,
    config: Config = CONFIG,
    secrets: tuple[str, ...] | None = ("secret",),
) -> Report:
    signed = sign_url("one", "secret", "https://edge.example", url, 60, "GET", None, None, NOW)
    now = NOW.timestamp() + late
    return report(signed, method, [], None, config=config, secrets=secrets, now=now)


def test_accepted() -> None:
    found = judged()
    assert (found.verdict, found.refusal, found.matched) == ("ok", None, True)
    assert found.rows[-1].field == "destination"
    assert found.rows[-1].note == "allowed to the application one"


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (judged("https://api.example/v2/x"), "destination-not-allowed"),
        (judged("https://u@api.example/v1/x"), "destination-invalid"),
        (judged(method="POST"), "signature-mismatch"),
        (judged(late=60), "expired"),
        # Several at once: the proxy's order decides.
        (judged("https://u@api.example/v1/x", late=60), "expired"),
        (judged("https://u@api.example/v1/x", method="POST"), "destination-invalid"),
        (judged("https://api.example/v2/x", method="POST"), "signature-mismatch"),
        (judged(secrets=(), config=Config()), "signature-mismatch"),
    ],
)
def test_refused(found: Report, code: str) -> None:
    assert found.verdict == "bad"
    assert found.refusal is not None
    assert found.refusal.code == code


def test_the_limits_are_the_configurations() -> None:
    config = Config(
        limits=CONFIG.limits.model_copy(update={"expiry_seconds": 59}), apps={"one": APP}
    )
    refusal = judged(config=config).refusal
    assert refusal is not None
    assert refusal.code == "expiry-too-long"


@pytest.mark.parametrize(
    ("name", "passes"),
    [("Accept", True), ("X-Mine", False), ("OpenAI-Organization", False), ("Host", False)],
)
def test_tells_which_unsigned_headers_pass(name: str, *, passes: bool) -> None:
    signed = {"X-Mine": "signed"} if name != "X-Mine" else None
    url = sign_url(
        "one", "secret", "https://edge", "https://api.example/v1/x", 60, "GET", signed, None, NOW
    )
    headers = [*(signed or {}).items(), (name, "value")]
    found = report(
        url, "GET", headers, None, config=CONFIG, secrets=["secret"], now=NOW.timestamp()
    )
    assert found.verdict == "ok"
    row = found.rows[-1]
    assert (row.field, row.value) == (f"header {name.lower()}", "'value'")
    assert row.note.endswith("passes" if passes else "nor let by the app")
    assert sum(row.field.startswith("header") for row in found.rows) == len(headers)


def test_without_a_secret_nothing_is_known() -> None:
    found = judged(secrets=None, config=Config())
    assert (found.verdict, found.refusal) == ("unknown", None)
    assert found.rows[-1].verdict == "unknown"


@pytest.mark.parametrize("url", ["", "?", "nonsense", "https://edge.example/?X-Sw-Proxy=%zz"])
def test_anything_can_be_explained(url: str) -> None:
    found = report(url, "GET", [], None, config=CONFIG, secrets=None, now=0)
    assert found.verdict == "bad"
    assert found.refusal is not None
