"""Why a signed URL is accepted or refused, with all that is configured: signature and destination.

`sw1.explain` judges the signature; whether its URL is a destination, and an allowed one, is known
here. Both are told; which refusal the proxy would answer with follows from its order of checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from swproxy.config.config import App, Config
from swproxy.config.signer import doubt
from swproxy.policy.destination import parse_destination
from swproxy.sw1.explain import Candidate, Row, Verdict, explain, url_app_id
from swproxy.sw1.refusal import Refusal

__all__ = ["Report", "report"]


@dataclass(frozen=True, slots=True)
class Report:
    """The judgement on one request.

    `verdict` is `unknown` when no secret is at hand; `canonical` and `hints` are as in
    `sw1.explain.Explanation`, and of use when the signature has not `matched`.
    """

    verdict: Verdict
    rows: tuple[Row, ...]
    refusal: Refusal | None
    canonical: tuple[Candidate, ...]
    hints: tuple[str, ...]
    matched: bool


def report(
    url: str,
    method: str,
    headers: Sequence[tuple[str, str]],
    body: bytes | None,
    *,
    config: Config,
    secrets: Sequence[str] | None,
    now: float,
) -> Report:
    """Judge a request to a signed URL as a proxy with this configuration would, at `now`.

    `secrets` are those of the URL's application: None if none are at hand, empty if there is no
    such application.
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
    row, misled = _destination(url, config.apps.get(url_app_id(url) or ""))
    refusal = _prevailing(found.refusal, misled)
    verdict: Verdict = "bad" if refusal is not None else found.verdict
    matched = any(candidate.matches for candidate in found.canonical)
    return Report(verdict, (*found.rows, row), refusal, found.canonical, found.hints, matched)


def _destination(url: str, app: App | None) -> tuple[Row, Refusal | None]:
    query = url.partition("?")[2]
    proxied = dict(parse_qsl(query, keep_blank_values=True)).get("X-Sw-Proxy", "")
    try:
        origin = parse_destination(proxied).origin
    except Refusal as refusal:
        return Row("destination", "", "bad", refusal.detail), refusal
    if app is None:
        note = "whether it is allowed is for the application to say, which is not at hand"
        return Row("destination", origin, "unknown", note), None
    denied = doubt(app, proxied)
    if denied is not None:
        return Row("destination", origin, "bad", denied.detail), denied
    return Row("destination", origin, "ok", f"allowed to the application {app.id}"), None


def _prevailing(signature: Refusal | None, destination: Refusal | None) -> Refusal | None:
    """Return the refusal that comes first.

    Checked are, in this order: the URL's form and time, whether its destination is one, the
    signature, and whether the destination is allowed.
    """
    if signature is None or destination is None:
        return signature or destination
    late = signature.code == "signature-mismatch" or signature.code.startswith("signed-header-")
    return destination if late and destination.code == "destination-invalid" else signature
