"""The terms of a request explained: what each means, and what the request has for it.

Each term is judged by itself, by the proxy's own judge, so that all that are not met are told and
not only the first. What cannot be known here, the client's address, and a body that was not given,
is told too.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace

from swproxy.config.checks import applied_terms
from swproxy.config.config import App
from swproxy.policy.applied_terms import AppliedTerms, Asked
from swproxy.policy.body_judge import check_mentioned
from swproxy.policy.field_names import Header
from swproxy.policy.json_body import read_object
from swproxy.sw1.explain import Row, Verdict
from swproxy.sw1.query import show
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.terms import MARK, NO_TERMS, Terms, collect, read_terms, split_fragment
from swproxy.sw1.write_terms import stated

__all__ = ["Given", "term_rows", "terms_refusal"]

_MEANINGS = {
    "user": "who the call is made for, as the log and the limits know",
    "uses": "how many calls the URL may begin",
    "seconds": "how long the call may last, from its head on; then it is ended",
    "tokens": "how many tokens all calls of the URL may use together",
    "bytes": "how long the body may be",
    "plan": "what holds as well",
    "origin": "the page has to be of one of them",
    "client": "the client has to be in one of them; its address is not known here",
    "websocket": "whether the URL is for a WebSocket",
    "body": "no top-level name that no term mentions",
}


@dataclass(frozen=True, slots=True)
class Given:
    """The request that is explained.

    `headers` have lower-case names; `body` is None where it was not given.
    """

    headers: Sequence[Header]
    body: bytes | None
    websocket: bool


def term_rows(url: str, app: App | None, given: Given) -> list[Row]:
    """Return a row for each term of a destination, its plan and its application."""
    address, text = split_fragment(url)
    if text is None and "#" in url:
        note = f"none: what follows the # does not begin with {MARK} and is dropped"
        row = Row("terms", show(url[len(address) + 1 :])[1:-1], "ok", note)
        return [row, *_all_rows(NO_TERMS, app, given)]
    try:
        own = read_terms(url)
    except Refusal as refusal:
        return [Row("terms", show(text or "", 400)[1:-1], "bad", refusal.detail)]
    return list(_all_rows(own or NO_TERMS, app, given))


def terms_refusal(app: App, own: Terms | None, given: Given) -> Refusal | None:
    """Return the refusal that the proxy would answer with for its terms, as far as is known."""
    try:
        applied = applied_terms(app, own)
        if applied is None:
            return None
        known = AppliedTerms.of([replace(terms, clients=()) for terms in applied.sets])
        if given.body is None:
            known = replace(known, body=(), body_only=False)
        known.check_head(_asked(given))
        if given.body is not None and known.checks_body:
            known.check_body(given.body)
    except Refusal as refusal:
        return refusal
    return None


def _all_rows(own: Terms, app: App | None, given: Given) -> Iterator[Row]:
    """Give the rows of the URL's terms, of those it lacks, and of what holds besides."""
    sets = [("term", own)]
    if app is not None:
        plan = app.plans.get(own.plan or "")
        sets += [("app's", app.terms), *([] if plan is None else [("plan's", plan.terms)])]
    mentioned = {term.path[0] for _, terms in sets for term in terms.body}
    for label, terms in sets:
        yield from _rows(label, terms, given, app, mentioned)
    for name in app.require if app is not None else ():
        if not own.has(name):
            yield Row(f"term {name}", "", "bad", "the application requires it of every URL")


def _rows(
    label: str, terms: Terms, given: Given, app: App | None, mentioned: Container[str]
) -> Iterator[Row]:
    for name, value in stated(terms):
        verdict, note = _judged(name, collect([(name, value)]), given, app)
        if name == "body" and verdict == "ok":
            verdict, note = _judge_names(given, mentioned)
        yield Row(f"{label} {name}", show(value, 400)[1:-1], verdict, note)


def _judged(name: str, term: Terms, given: Given, app: App | None) -> tuple[Verdict, str]:
    """Judge one term; a term of a body is judged by itself, whatever the others are."""
    note = _MEANINGS.get(
        name, "for the access log" if name.startswith("tag.") else "as it has to be"
    )
    if term.clients or (term.plan and app is None):
        return "unknown", note
    applied = AppliedTerms.of([term])
    if applied.checks_body and given.body is None and not given.websocket:
        return "unknown", "give the body with --body to have it judged"
    try:
        if app is not None:
            applied_terms(replace(app, terms=NO_TERMS, require=()), term)
        applied.check_head(_asked(given))
        if term.body:
            applied.check_body(given.body or b"")
    except Refusal as refusal:
        return "bad", refusal.detail
    return "ok", note


def _judge_names(given: Given, mentioned: Container[str]) -> tuple[Verdict, str]:
    try:
        check_mentioned(read_object(given.body or b""), mentioned)
    except Refusal as refusal:
        return "bad", refusal.detail
    return "ok", _MEANINGS["body"]


def _asked(given: Given) -> Asked:
    length = None if given.body is None else len(given.body)
    return Asked(given.headers, length, "", given.websocket)
