"""What a signature costs: making one, and checking one as the proxy does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

from bench.client import no_garbage
from bench.figures import Metric
from bench.machine import Cores, on_cores
from bench.session import Session
from swproxy import sign_url
from swproxy.policy.body_judge import judge_body
from swproxy.policy.json_body import read_object
from swproxy.sw1.claims import check_time, parse_target
from swproxy.sw1.terms import read_terms
from swproxy.sw1.verify import Verification
from swproxy.sw1.write_terms import written_terms

NAME = "sign"
TITLE = "Signing and verifying, without any network"
COST = Metric("us_per_call", "us", "per call")
NOTES = (
    (
        "Verifying is all that `sw1` does between a request head and the decision: the target, "
        "the dates, the canonical form, the hashes. `unknown id` must cost what a wrong secret "
        "costs."
    ),
)
_ID, _SECRET = "bench", "bench-secret-bench-secret-bench"
_HOST = "https://edge.example.com"
_URL = "https://api.openai.com/v1/chat/completions?stream=true&model=gpt"
_BODY = b'{"model":"gpt","stream":true,"messages":[{"role":"user","content":"hello"}]}' * 13
_HEADERS = {"Content-Type": "application/json", "X-Tenant": "42"}
_TERMS = {
    "body.model": ["gpt-5-mini", "gpt-5-nano"],
    "body.max_completion_tokens": "1..800",
    "body.temperature?": "0..1.5",
    "body.stream": True,
    "body.stream_options.include_usage": True,
    "body.messages.0.role": "system",
    "body": "only",
}
_CHAT = {
    "model": "gpt-5-mini",
    "max_completion_tokens": 500,
    "temperature": 0.7,
    "stream": True,
    "stream_options": {"include_usage": True},
    "messages": [
        {"role": role, "content": "The quick brown fox jumps over the lazy dog. " * 5}
        for role in ("system", *("user", "assistant") * 3, "user")
    ],
}


def run(session: Session) -> None:
    """Time each call in batches."""
    calls = _calls()
    rounds = session.options.rounds_of(7)
    session.progress.begin(NAME, rounds * len(calls))
    with on_cores(Cores.pinned().subject):
        for _ in range(rounds):
            for (subject, case), call in calls.items():
                session.progress.step(f"{subject}: {case}")
                seconds = _per_call(call, 0.05 if session.options.quick else 0.3)
                session.add(NAME, subject, {"case": case}, {COST: 1e6 * seconds})


def _per_call(call: Callable[[], object], budget_seconds: float) -> float:
    """Return the seconds a call takes, from as many as fit into the budget."""
    began = time.process_time()
    count = 0
    with no_garbage():
        while (spent := time.process_time() - began) < budget_seconds:
            for _ in range(100):
                call()
            count += 100
    return spent / count


def _calls() -> dict[tuple[str, str], Callable[[], object]]:
    calls: dict[tuple[str, str], Callable[[], object]] = {
        ("swproxy", "sign"): lambda: sign_url(_ID, _SECRET, _HOST, _URL, 600, "POST"),
        ("swproxy", "sign 2 headers, 1 KB body"): lambda: sign_url(
            _ID, _SECRET, _HOST, _URL, 600, "POST", headers=_HEADERS, body=_BODY
        ),
        ("swproxy", "verify"): _verifier(_SECRET, expected=True),
        ("swproxy", "verify 2 headers, 1 KB body"): _verifier(
            _SECRET, headers=_HEADERS, body=_BODY, expected=True
        ),
        ("swproxy", "sign six terms of a body"): lambda: sign_url(
            _ID, _SECRET, _HOST, _URL, 600, "POST", terms=_TERMS
        ),
        ("swproxy", "verify, six terms"): _verifier(_SECRET, terms=_TERMS, expected=True),
        ("swproxy", "judge a 2 KB chat request, six terms"): _judge(),
        ("swproxy", "refuse: wrong secret"): _verifier("another", expected=False),
        ("swproxy", "refuse: unknown id"): _verifier(None, expected=False),
    }
    try:
        from signway_sdk import sign_url as published  # noqa: PLC0415 - measured if installed
    except ImportError:
        return calls
    calls["signway-sdk", "sign"] = lambda: published(_ID, _SECRET, _HOST, _URL, 600, "POST")
    return calls


def _judge() -> Callable[[], object]:
    """Return what is done with a body before it may be sent on: it is read, and judged."""
    data = json.dumps(_CHAT).encode()
    terms = read_terms(f"{_URL}#{written_terms(_TERMS)}")
    assert terms is not None

    def judge() -> None:
        judge_body(read_object(data), terms.body, only=terms.body_only)

    judge()
    return judge


def _verifier(
    secret: str | None,
    *,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    terms: Mapping[str, object] | None = None,
    expected: bool,
) -> Callable[[], object]:
    url = sign_url(_ID, _SECRET, _HOST, _URL, 3600, "POST", headers=headers, body=body, terms=terms)
    target = url.removeprefix(_HOST).encode()
    sent = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    if body is not None:
        sent.append((b"content-length", b"%d" % len(body)))
    secrets = None if secret is None else [secret]

    def verify() -> bool:
        claims = parse_target(target)
        check_time(claims, now=time.time(), expiry_seconds=604800, clock_skew_seconds=60)
        verification = Verification(claims, b"POST", sent, secrets)
        if claims.body_signed and body is not None:
            verification.update(body)
        return verification.accept()

    if verify() is not expected:
        raise AssertionError("the signature under test is not what this case is about")
    return verify
