"""What a request has to pass, in order: the proxy walks these checks, and `explain` tells of them.

    1. check_claims        the URL is one of the scheme's, in its time, and leads somewhere
    2. the signature       see `sw1.verify`; a signed body is read for it
    3. check_application   the application lets it go there, this way
    4. applied_terms       which terms hold for it, and what they ask of its head; those of a body
                           are judged when it has arrived

What is cheap to say comes before a body byte is read. What depends on the application comes only
once the signature holds, so that a stranger learns nothing from the order of refusals.
"""

from collections.abc import Sequence

from swproxy.config.config import App, Config
from swproxy.policy.applied_terms import AppliedTerms
from swproxy.policy.body_judge import unmet
from swproxy.policy.destination import Destination, parse_destination
from swproxy.sw1.claims import Claims, check_time, parse_target
from swproxy.sw1.query import show
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.terms import NO_TERMS, Terms, split_fragment

__all__ = ["applied_terms", "check_application", "check_claims"]


def check_claims(target: bytes, config: Config, now: float) -> tuple[Claims, Destination]:
    """Return what a request target says and where it leads; `now` in seconds since the epoch.

    Raises Refusal.
    """
    claims = parse_target(target)
    check_time(
        claims,
        now=now,
        expiry_seconds=config.limits.expiry_seconds,
        clock_skew_seconds=config.limits.clock_skew_seconds,
    )
    # Terms differ from user to user; where the URL leads is remembered without them.
    address = claims.proxy_url if claims.terms is None else split_fragment(claims.proxy_url)[0]
    return claims, parse_destination(address)


def check_application(
    app: App, destination: Destination, *, websocket: bool, origins: Sequence[bytes]
) -> None:
    """Raise Refusal unless the application lets a proven request go on.

    `websocket` says that it asks to become one, `origins` are then the pages that ask.
    """
    if not app.allows(destination):
        raise Refusal(
            "destination-not-allowed", "The application is not allowed to call this destination."
        )
    # Behind all else that can be wrong: a page is not told why its WebSocket was refused, and finds
    # out by asking for the same URL with fetch().
    if not websocket and destination.scheme in ("ws", "wss"):
        raise Refusal("upgrade-required", "A ws or wss destination takes WebSockets only.")
    if websocket and app.websocket_urls_only and destination.scheme not in ("ws", "wss"):
        raise Refusal(
            "upgrade-not-signed",
            "The application opens WebSockets by URLs that are signed for ws or wss only.",
        )
    # A browser asks nobody before it opens a WebSocket, and lets any page read what comes.
    if websocket and not all(map(app.cors.permits, origins)):
        raise Refusal(
            "origin-not-allowed", "Pages of this origin may not use the application's WebSockets."
        )


def applied_terms(app: App, own: Terms | None) -> AppliedTerms | None:
    """Return the terms that hold for a proven request, `own` being its URL's; None if none do.

    Raises Refusal ("terms-invalid", "terms-not-met").
    """
    if own is None and not app.has_terms:
        return None
    own = own or NO_TERMS
    for name in app.require:
        if not own.has(name):
            raise unmet(name, "the application requires it of every URL")
    sets = [own, app.terms]
    if own.plan is not None:
        plan = app.plans.get(own.plan)
        if plan is None:
            detail = f"The term 'plan' is {show(own.plan)}, and the application has no such plan."
            raise Refusal("terms-invalid", detail)
        sets.append(plan.terms)
    return AppliedTerms.of(sets)
