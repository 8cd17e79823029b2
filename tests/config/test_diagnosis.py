"""The whole judgement: signature and destination, and which refusal comes first."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from swproxy import sign_url
from swproxy.config.config import App, Config
from swproxy.config.diagnosis import Report, report
from swproxy.config.term_tables import Plan
from swproxy.policy.destination import Pattern
from swproxy.sw1.terms import read_pairs

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


TERMS = {
    "user": "42",
    "origin": "https://app.example",
    "client": "10.0.0.0/8",
    "plan": "trial",
    "body.model": ["small", "tiny"],
    "body": "only",
}
PLANNED = replace(
    APP,
    terms=read_pairs("seconds=60"),
    plans={"trial": Plan(read_pairs("body.max?=1..8&bytes=..100"))},
    require=("user",),
)


def explained(
    terms: Mapping[str, object], *, app: App = PLANNED, body: bytes | None = None, origin: str = ""
) -> tuple[Report, Mapping[str, tuple[str, str]]]:
    """Return the report, and of its rows about terms verdict and note by field."""
    signed = sign_url(
        "one", "secret", "https://e.example", "https://api.example/v1/x", 60, "POST",
        datetime_override=NOW, terms=terms,
    )  # fmt: skip
    found = report(
        signed, "POST", [("Origin", origin)] if origin else [], body,
        config=Config(apps={"one": app}), secrets=("secret",), now=NOW.timestamp(),
    )  # fmt: skip
    starts = ("term", "app's ", "plan's ")
    rows = {
        row.field: (row.verdict, row.note) for row in found.rows if row.field.startswith(starts)
    }
    return found, rows


def test_every_term_is_shown_with_what_the_request_has_for_it() -> None:
    body = b'{"model":"large","max":9,"x":1}'
    found, rows = explained(TERMS, body=body, origin="https://app.example")
    assert {field: verdict for field, (verdict, _) in rows.items()} == {
        "term user": "ok",
        "term plan": "ok",
        "term origin": "ok",
        "term client": "unknown",
        "term body.model": "bad",
        "term body": "bad",
        "app's seconds": "ok",
        "plan's bytes": "ok",
        "plan's body.max?": "bad",
    }
    assert rows["term body.model"][1] == (
        "The term 'body.model' is not met: it has to be 'small,tiny'."
    )
    assert "has 'x'" in rows["term body"][1]
    assert found.refusal is not None
    assert found.refusal.code == "terms-not-met"
    assert found.verdict == "bad"


def test_a_request_that_meets_its_terms_is_accepted() -> None:
    found, rows = explained(TERMS, body=b'{"model":"tiny"}', origin="https://app.example")
    assert found.verdict == "ok"
    assert {verdict for verdict, _ in rows.values()} == {"ok", "unknown"}


def test_without_a_body_what_is_asked_of_it_is_unknown() -> None:
    found, rows = explained(TERMS, origin="https://app.example")
    assert found.verdict == "ok"
    assert rows["term body.model"] == ("unknown", "give the body with --body to have it judged")
    assert rows["term body"][0] == rows["plan's body.max?"][0] == "unknown"


@pytest.mark.parametrize(
    ("terms", "body", "field", "code"),
    [
        ({"user": "1", "origin": "https://a.example"}, None, "term origin", "terms-not-met"),
        ({"user": "1", "plan": "gold"}, None, "term plan", "terms-invalid"),
        ({"seconds": 5}, None, "term user", "terms-not-met"),
        ({"user": "1", "websocket": True}, None, "term websocket", "terms-not-met"),
        ({"user": "1", "bytes": "..1"}, b"{}", "term bytes", "terms-not-met"),
        ({"user": "1", "body.a?": 1}, b'{"a":1,"a":1}', "term body.a?", "body-not-checkable"),
    ],
)
def test_a_term_that_refuses_is_bad(
    terms: dict[str, object], body: bytes | None, field: str, code: str
) -> None:
    found, rows = explained(terms, body=body)
    assert rows[field][0] == "bad"
    assert found.refusal is not None
    assert found.refusal.code == code


def test_terms_that_cannot_be_read_and_a_fragment_that_is_none() -> None:
    found = judged("https://api.example/v1/x#sw1:usr=1")
    assert found.refusal is not None
    assert found.refusal.code == "terms-invalid"
    [row] = [row for row in found.rows if row.field == "terms"]
    assert (row.value, row.verdict) == ("usr=1", "bad")
    found = judged("https://api.example/v1/x#SW1:user=1")
    [row] = [row for row in found.rows if row.field == "terms"]
    assert (found.verdict, row.verdict) == ("ok", "ok")
    assert "is dropped" in row.note
