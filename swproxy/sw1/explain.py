"""Explaining: why a signed URL is accepted or refused, field by field.

Verifying stops at the first fault, says little, and says it to strangers. This is the same
judgement for the URL's owner: it reads on after a fault, shows each field as it was understood,
writes out the canonical request, and, when a signature does not match, tries the mistakes that
authors of clients make, to name the one that was made. Readers and checks are the verifier's own,
so the two cannot disagree.

No signature is ever shown, neither the one in the URL nor the right one, and no secret: what is
printed here ends in terminals, tickets and chats.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from swproxy.sw1.claims import (
    CLOCK_SKEW_SECONDS,
    EXPIRY_SECONDS,
    check_time,
    parse_target,
)
from swproxy.sw1.guess import Candidate, all_parts, candidates, guess
from swproxy.sw1.query import decode_value, show
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.rows import Row, Verdict, body_row, header_rows, parameter_rows, time_rows
from swproxy.sw1.verify import mismatch

__all__ = ["Candidate", "Explanation", "Row", "Verdict", "explain", "url_app_id", "url_target"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything there is to say about one signed request.

    `verdict` is `ok` if the proxy would take it (its destination aside), `bad` if not, `unknown`
    if that depends on a secret that is not at hand. `refusal` is the answer the proxy would give.
    `canonical` holds the canonical requests that would be compared, likeliest first, each with
    its string to sign. `hints` name a likely mistake of the client. `signed_headers` are the names
    that the URL says are signed, in lower case.
    """

    verdict: Verdict
    rows: tuple[Row, ...]
    refusal: Refusal | None
    canonical: tuple[Candidate, ...]
    hints: tuple[str, ...]
    signed_headers: tuple[str, ...]


def url_app_id(url: str) -> str | None:
    """Return the application id that a signed URL names, however faulty the rest; None if none."""
    for pair in _split(url)[1]:
        name, _, raw = pair.partition("=")
        if name == "X-Sw-Credential":
            try:
                value = decode_value(name, raw)
            except Refusal:
                return None
            return value.partition("/")[0] or None
    return None


def url_target(url: str) -> bytes:
    """Return the request target of a signed URL, prefix included."""
    return _split(url)[2]


def explain(
    url: str,
    method: str = "GET",
    headers: Sequence[tuple[str, str]] = (),
    body: bytes | None = None,
    secrets: Sequence[str] | None = None,
    *,
    now: float,
    expiry_seconds: int = EXPIRY_SECONDS,
    clock_skew_seconds: int = CLOCK_SKEW_SECONDS,
) -> Explanation:
    """Explain a request to `url`: a whole URL, or a request target from a log.

    `headers` are those of the request; Content-Length is added for a `body` if it is not among
    them. `secrets` are the application's: None if none are at hand, empty if there is no such
    application. `now` is in seconds since the epoch. Raises nothing, however faulty the URL.
    """
    path, pairs, target = _split(url)
    sent = _sent_headers(headers, body)
    known, rows = parameter_rows(pairs)
    rows.insert(0, _path_row(path, target))
    rows += time_rows(known, now, expiry_seconds, clock_skew_seconds)
    rows += header_rows(known, sent)
    rows.append(body_row(known, body))
    canonical: tuple[Candidate, ...] = ()
    hints: tuple[str, ...] = ()
    refusal: Refusal | None = None
    try:
        claims = parse_target(target)
        parts = all_parts(claims, method.encode("utf-8", "replace"), sent, body or b"")
        canonical = candidates(claims, parts, secrets)
        rows.append(_signature_row(canonical, secrets))
        if secrets and rows[-1].verdict == "bad":
            hints = guess(claims, parts, secrets)
        check_time(
            claims, now=now, expiry_seconds=expiry_seconds, clock_skew_seconds=clock_skew_seconds
        )
        if secrets is not None and not any(candidate.matches for candidate in canonical):
            raise mismatch()
    except Refusal as fault:
        refusal = fault
    verdict: Verdict = "ok" if secrets is not None else "unknown"
    if refusal is not None or any(row.verdict == "bad" for row in rows):
        verdict = "bad"
    return Explanation(verdict, tuple(rows), refusal, canonical, hints, known.signed_headers)


def _split(url: str) -> tuple[str, list[str], bytes]:
    """Return the path, the query's pairs and the raw target of a URL or a target."""
    text = url.strip()
    scheme, mark, rest = text.partition("://")
    if mark and scheme.isalpha():
        cut = min([i for i in map(rest.find, "/?#") if i >= 0], default=len(rest))
        text = rest[cut:] if rest[cut:].startswith("/") else "/" + rest[cut:]
    path, _, query = text.partition("?")
    return path, [pair for pair in query.split("&") if pair], text.encode("utf-8", "replace")


def _sent_headers(
    headers: Sequence[tuple[str, str]], body: bytes | None
) -> list[tuple[bytes, bytes]]:
    sent = [
        (name.strip().lower().encode("utf-8", "replace"), value.encode("utf-8", "replace"))
        for name, value in headers
    ]
    if body is not None and not any(name == b"content-length" for name, _ in sent):
        sent.append((b"content-length", b"%d" % len(body)))
    return sent


def _path_row(path: str, target: bytes) -> Row:
    try:
        parse_target(target)
    except Refusal as refusal:
        if refusal.code == "target-invalid":
            return Row("path", show(path), "bad", refusal.detail)
    return Row("path", show(path), "ok", "signed as it stands here, prefix included")


def _signature_row(canonical: Sequence[Candidate], secrets: Sequence[str] | None) -> Row:
    match = next((candidate for candidate in canonical if candidate.matches), None)
    if match is not None:
        return Row("signature", "(not shown)", "ok", f"matches: {match.description}")
    if secrets is None:
        return Row("signature", "(not shown)", "unknown", "no secret at hand to check it with")
    if not secrets:
        return Row("signature", "(not shown)", "bad", "there is no application of this id")
    return Row("signature", "(not shown)", "bad", mismatch().detail)
