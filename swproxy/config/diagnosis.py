"""Why a signed URL is accepted or refused, with all that is configured: signature and destination.

`sw1.explain` judges the signature; whether its URL is a destination, and an allowed one, is known
here. Both are told; the refusal is the one that the proxy, walking the same checks, meets first.
What becomes of headers that are not signed is told as well: it refuses nothing, but an API that
misses one may.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from swproxy.config.checks import check_application, check_claims
from swproxy.config.config import App, Config
from swproxy.config.reach import Resolve, nothing_resolved
from swproxy.config.signer import doubt_destination
from swproxy.config.term_rows import Given, term_rows, terms_refusal
from swproxy.policy.destination import parse_destination
from swproxy.policy.field_names import Header
from swproxy.policy.headers import upstream_headers
from swproxy.sw1.explain import Candidate, Row, Verdict, explain, url_app_id, url_target
from swproxy.sw1.guess import hinted_method
from swproxy.sw1.query import show
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.signed_headers import CONTENT_LENGTH

__all__ = ["Report", "report"]

_QUOTE = "'"


@dataclass(frozen=True, slots=True)
class Report:
    """The judgement on one request.

    `verdict` is `unknown` when no secret is at hand; `canonical` and `hints` are as in
    `sw1.explain.Explanation`, and of use when the signature has not `matched`. `missing` names what
    the URL says was signed and the request as it was given has not: headers, "body"; `method` is
    the one that it was signed for, as far as that can be guessed.
    """

    verdict: Verdict
    rows: tuple[Row, ...]
    refusal: Refusal | None
    canonical: tuple[Candidate, ...]
    hints: tuple[str, ...]
    matched: bool
    missing: tuple[str, ...]
    method: str


def report(
    url: str,
    method: str,
    headers: Sequence[tuple[str, str]],
    body: bytes | None,
    *,
    config: Config,
    secrets: Sequence[str] | None,
    now: float,
    resolve: Resolve = nothing_resolved,
) -> Report:
    """Judge a request to a signed URL as a proxy with this configuration would, at `now`.

    `secrets` are those of the URL's application: None if none are at hand, empty if there is no
    such application. `resolve` is asked for the addresses of the destination's name.
    """
    limits = config.limits
    found = explain(
        url,
        method,
        headers,
        body,
        secrets,
        now=now,
        expiry_seconds=limits.expiry_seconds,
        clock_skew_seconds=limits.clock_skew_seconds,
    )
    app = config.apps.get(url_app_id(url) or "")
    proxied = dict(parse_qsl(url.partition("?")[2], keep_blank_values=True)).get("X-Sw-Proxy", "")
    denied = doubt_destination(config, app, proxied, resolve)
    row = _destination(proxied, app, denied)
    given = _given(proxied, headers, body)
    refusal = _first_refusal(url, config, app, given, now, found.refusal)
    # Where an address lies matters last, when it is dialled.
    if refusal is None and denied is not None and denied.code == "destination-not-public":
        refusal = denied
    verdict: Verdict = "bad" if refusal is not None else found.verdict
    matched = any(candidate.matches for candidate in found.canonical)
    terms = term_rows(proxied, app, given)
    rows = (*found.rows, row, *terms, *_unsigned(headers, found.signed_headers, app))
    missing = _missing(url, found.signed_headers, headers, body)
    return Report(
        verdict,
        rows,
        refusal,
        found.canonical,
        found.hints,
        matched,
        missing,
        hinted_method(found.hints),
    )


def _missing(
    url: str, signed: Sequence[str], headers: Sequence[tuple[str, str]], body: bytes | None
) -> tuple[str, ...]:
    given = {name.strip().lower() for name, _ in headers} | {CONTENT_LENGTH}
    names = [name for name in signed if name not in given]
    flagged = parse_qsl(url.partition("?")[2]).count(("X-Sw-Body", "true"))
    return (*names, *(["body"] if flagged and body is None else []))


def _destination(proxied: str, app: App | None, denied: Refusal | None) -> Row:
    try:
        origin = parse_destination(proxied).origin
    except Refusal as refusal:
        return Row("destination", "", "bad", refusal.detail)
    if denied is not None:
        return Row("destination", origin, "bad", denied.detail)
    if app is None:
        note = "whether it is allowed is for the application to say, which is not at hand"
        return Row("destination", origin, "unknown", note)
    return Row("destination", origin, "ok", f"allowed to the application {app.id}")


def _given(proxied: str, headers: Sequence[tuple[str, str]], body: bytes | None) -> Given:
    """Return the request as terms see it; a body that is given is JSON, unless a header says no."""
    sent = _sent(headers)
    if body is not None and not any(name == b"content-type" for name, _ in sent):
        sent.append((b"content-type", b"application/json"))
    # A command line can't open a WebSocket: a ws or wss URL is taken to be used as it is meant.
    websocket = proxied.partition(":")[0].lower() in ("ws", "wss")
    return Given(sent, body, websocket)


def _first_refusal(
    url: str,
    config: Config,
    app: App | None,
    given: Given,
    now: float,
    signature: Refusal | None,
) -> Refusal | None:
    """Return the refusal that the proxy would answer with, `signature` being the signature's."""
    try:
        claims, destination = check_claims(url_target(url), config, now)
        if signature is None and app is not None:
            origins = [value for name, value in given.headers if name == b"origin"]
            check_application(app, destination, websocket=given.websocket, origins=origins)
            return terms_refusal(app, claims.terms, given)
    except Refusal as refusal:
        return refusal
    return signature


def _sent(headers: Sequence[tuple[str, str]]) -> list[Header]:
    return [
        (name.strip().lower().encode("utf-8", "replace"), value.encode("utf-8", "replace"))
        for name, value in headers
    ]


def _unsigned(
    headers: Sequence[tuple[str, str]], signed: Collection[str], app: App | None
) -> Sequence[Row]:
    if app is None:
        return []
    sent = _sent(headers)
    passing = upstream_headers(sent, signed, (), b"", from_page=app.headers_from_page)
    rows = []
    for name, value in sent:
        if name.decode() in signed:
            continue
        passes = (name, value) in passing
        note = "not signed; passes" if passes else "does not pass: not signed, nor let by the app"
        field = f"header {show(name.decode()).strip(_QUOTE)}"
        rows.append(Row(field, show(value.decode(), 400), "ok", note))
    return rows
