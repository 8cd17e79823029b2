"""explain: the verifier's judgement, field by field, and the byte that differs."""

import hmac
from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy.sw1.canonical import sign_digest, signing_key
from swproxy.sw1.claims import check_time, parse_target
from swproxy.sw1.explain import Explanation, Row, explain, url_app_id
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.verify import verify
from tests.support.sw1_cases import NOW, REQUESTS, VECTORS, WEEK, Request, Vector, target_of

SECRETS = ["my-secret"]


def row(explanation: Explanation, field: str) -> Row:
    return next(row for row in explanation.rows if row.field == field)


def everything(explanation: Explanation) -> str:
    return repr(explanation) + str(explanation.refusal)


@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_the_published_clients_urls_are_fine(vector: Vector) -> None:
    body = None if vector.body is None else vector.body.encode()
    explanation = explain(
        vector.url,
        vector.method,
        list(vector.headers.items()),
        body,
        [vector.secret],
        now=vector.date.timestamp(),
    )
    assert explanation.verdict == "ok"
    assert explanation.refusal is None
    assert [candidate for candidate in explanation.canonical if candidate.matches]
    assert {row.verdict for row in explanation.rows} == {"ok"}
    assert url_app_id(vector.url) == vector.id


def test_the_canonical_request_is_the_one_that_was_hashed() -> None:
    request = Request(method="POST", headers={"X-Foo": "a"}, body="é")
    explanation = explain(request.sign(), "POST", [("X-Foo", "a")], "é".encode(), SECRETS, now=NOW)
    [match] = [candidate for candidate in explanation.canonical if candidate.matches]
    assert match.request.startswith("POST\n/\nX-Sw-Algorithm=")
    assert match.request.endswith("\ncontent-length:1\nx-foo:a\n\ncontent-length;x-foo\né")
    digest = sha256(match.request.encode()).hexdigest()
    assert match.string_to_sign == (f"SW1-HMAC-SHA256\n20261122T120000Z\n20261122\n{digest}")
    signature = sign_digest(signing_key("my-secret", "20261122"), "20261122T120000Z", digest)
    assert request.sign().endswith(signature.hex())


def test_without_a_secret_the_signature_is_an_open_question() -> None:
    explanation = explain(Request().sign(), secrets=None, now=NOW)
    assert explanation.verdict == "unknown"
    assert explanation.refusal is None
    assert row(explanation, "signature").verdict == "unknown"
    assert [candidate.matches for candidate in explanation.canonical] == [None]


def test_an_unknown_application_is_said_to_be_one() -> None:
    explanation = explain(Request().sign(), secrets=[], now=NOW)
    assert explanation.verdict == "bad"
    assert "no application" in row(explanation, "signature").note
    assert explanation.refusal is not None
    assert explanation.refusal.code == "signature-mismatch"


def test_every_fault_is_shown_not_only_the_first() -> None:
    url = (
        "https://edge.example/sw?X-Sw-Algorithm=AWS4&X-Sw-Credential=a%2Fb&X-Sw-Date=20261322T000000Z"
        "&X-Sw-Expires=0&X-Sw-Expires=5&X-Sw-Proxy=%ff&X-Sw-SignedHeaders=A&X-Sw-Body=TRUE"
        "&X-Sw-Signature=abc&x-sw-proxy=b&X-Sw-Foo=1&utm=2&X-Sw-Body"
    )
    explanation = explain(url, now=NOW)
    assert explanation.verdict == "bad"
    bad = {row.field for row in explanation.rows if row.verdict == "bad"}
    assert bad == {
        "X-Sw-Algorithm",
        "X-Sw-Credential",
        "X-Sw-Date",
        "X-Sw-Expires",
        "X-Sw-Proxy",
        "X-Sw-SignedHeaders",
        "X-Sw-Body",
        "X-Sw-Signature",
        "'x-sw-proxy'",
        "'X-Sw-Foo'",
    }
    expires = row(explanation, "X-Sw-Expires").note
    assert "2 times" in expires
    assert "whole number" in expires
    assert row(explanation, "'utm'").verdict == "ok"
    assert explanation.canonical == ()


@pytest.mark.parametrize(
    "url", ["", "x", "/", "https://edge.example", "?", "https://h?a#b", "%", "é"]
)
def test_no_url_is_too_broken_to_explain(url: str) -> None:
    explanation = explain(url, secrets=SECRETS, now=NOW)
    assert explanation.verdict == "bad"
    assert explanation.refusal is not None
    assert row(explanation, "X-Sw-Proxy").note == "missing"
    assert url_app_id(url) is None


def test_time_and_lifetime_have_rows_of_their_own() -> None:
    explanation = explain(Request(expiry=WEEK + 1).sign(), secrets=SECRETS, now=NOW + 2 * WEEK)
    assert row(explanation, "lifetime").verdict == "bad"
    assert row(explanation, "time").verdict == "bad"
    assert row(explanation, "signature").verdict == "ok"
    assert explanation.verdict == "bad"
    early = explain(Request().sign(), secrets=SECRETS, now=NOW - 61)
    assert "ahead" in row(early, "time").note


def test_signed_headers_are_judged_one_by_one() -> None:
    url = Request(headers={"A": "1", "B": "2", "C": "3"}).sign()
    sent = [("a", "1"), ("B", "2"), ("b", "2")]
    explanation = explain(url, "GET", sent, secrets=SECRETS, now=NOW)
    assert row(explanation, "header a").verdict == "ok"
    assert "2 times" in row(explanation, "header b").note
    assert "0 times" in row(explanation, "header c").note
    forged = explain(url, "GET", [("A", "1\nb:2")], secrets=SECRETS, now=NOW)
    assert "line break" in row(forged, "header a").note


def test_a_target_from_a_log_will_do() -> None:
    target = target_of(Request().sign()).decode()
    assert explain(target, secrets=SECRETS, now=NOW).verdict == "ok"
    assert explain(f"  {Request().sign()}\n", secrets=SECRETS, now=NOW).verdict == "ok"


def mistaken(
    text: Callable[[str], str] = lambda text: text,
    key: bytes | None = None,
    request: Request | None = None,
) -> str:
    """Sign as a client with a bug would: another canonical request, or another key."""
    request = request or Request()
    url = request.sign()
    good = explain(url, request.method, body=request.content, secrets=SECRETS, now=NOW)
    [right] = [candidate.request for candidate in good.canonical if candidate.matches]
    digest = sha256(text(right).encode()).hexdigest()
    day_key = signing_key("my-secret", "20261122")
    return url[:-64] + sign_digest(key or day_key, "20261122T120000Z", digest).hex()


def unsorted(text: str) -> str:
    method, path, query, rest = text.split("\n", 3)
    pairs = query.split("&")
    pairs.append(pairs.pop(1))
    return "\n".join((method, path, "&".join(pairs), rest))


WITH_BODY = Request(method="POST", body="a=1\n")
WITH_HEADER = Request(headers={"X-Foo": "1"})


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        (mistaken(lambda text: text.replace("GET", "get", 1)), "the method get"),
        (mistaken(lambda text: text.replace("GET", "POST", 1)), "the method POST"),
        (mistaken(lambda text: text.replace("GET\n/", "GET\n", 1)), "the path ''"),
        (mistaken(unsorted), "not sorted"),
        (mistaken(lambda text: text.replace("%3A", ":").replace("%2F%2F", "//")
                  .replace("com%2Fv1%2Fmodels", "com/v1/models")), "without its escapes"),
        (mistaken(lambda text: text[:-1]), "line feeds"),
        (mistaken(key=signing_key("my-secret\n", "20261122")), "line break at its end"),
        (mistaken(key=signing_key("my-secret", "20261122").hex().encode()), "hexadecimal"),
        (mistaken(key=hmac.digest(b"my-secret", b"20261122", "sha256")), "in front of the secret"),
        (mistaken(key=b"my-secret"), "a key of the day"),
    ],
)  # fmt: skip
def test_a_clients_mistake_is_named(url: str, hint: str) -> None:
    explanation = explain(url, secrets=SECRETS, now=NOW)
    assert explanation.verdict == "bad"
    [found] = explanation.hints
    assert hint in found
    assert "my-secret" not in everything(explanation)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (lambda text: text.removesuffix("a=1\n"), "empty body"),
        (lambda text: text + "\n", "and a line break"),
        (lambda text: text[:-1], "without the last line break"),
        (
            lambda text: text.removesuffix("a=1\n") + sha256(b"a=1\n").hexdigest(),
            "body's hash",
        ),
    ],
)
def test_a_mistake_about_the_body_is_named(text: Callable[[str], str], hint: str) -> None:
    url = mistaken(text, request=WITH_BODY)
    explanation = explain(url, "POST", body=WITH_BODY.content, secrets=SECRETS, now=NOW)
    [found] = explanation.hints
    assert hint in found


def test_left_out_header_lines_are_named() -> None:
    url = WITH_HEADER.sign()
    good = explain(url, headers=[("X-Foo", "1")], secrets=SECRETS, now=NOW)
    digest = sha256(good.canonical[0].request.replace("x-foo:1\n\nx-foo", "\n\n").encode())
    key = signing_key("my-secret", "20261122")
    bad = url[:-64] + sign_digest(key, "20261122T120000Z", digest.hexdigest()).hex()
    explanation = explain(bad, headers=[("X-Foo", "1")], secrets=SECRETS, now=NOW)
    assert explanation.hints == ("The header lines were left out.",)


def test_no_hint_without_proof() -> None:
    assert explain(Request().sign(), secrets=["wrong"], now=NOW).hints == ()
    assert explain(Request().sign(), secrets=SECRETS, now=NOW).hints == ()


@given(REQUESTS, st.booleans(), st.integers(-100, 700), st.text(max_size=3))
def test_it_agrees_with_the_verifier_and_gives_nothing_away(
    request: Request, right_secret: bool, offset: int, tail: str
) -> None:
    url = request.sign()
    secrets = [request.secret if right_secret else "another-secret"]
    now = request.now + offset
    explanation = explain(
        url + tail,
        request.method,
        list((request.headers or {}).items()),
        request.content,
        secrets,
        now=now,
    )
    path, _, query = (url + tail).strip().partition("://")[2].partition("/")[2].partition("?")
    target = f"/{path}?{query}".encode("utf-8", "replace")
    try:
        claims = parse_target(target)
        check_time(claims, now=now, expiry_seconds=WEEK, clock_skew_seconds=60)
        matched = verify(
            claims, request.method.encode(), request.sent_headers, secrets, request.content or b""
        )
        code = None if matched else "signature-mismatch"
    except Refusal as refusal:
        code = refusal.code
    assert explanation.verdict == ("ok" if code is None else "bad")
    assert (explanation.refusal and explanation.refusal.code) == code
    assert url[-64:] not in everything(explanation)
