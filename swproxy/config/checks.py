"""What a request has to pass, in order: the proxy walks these checks, and `explain` tells of them.

    1. check_claims        the URL is one of the scheme's, in its time, and leads somewhere
    2. the signature       see `sw1.verify`; a signed body is read for it
    3. check_application   the application lets it go there, this way

What is cheap to say comes before a body byte is read. What depends on the application comes only
once the signature holds, so that a stranger learns nothing from the order of refusals.
"""

from collections.abc import Sequence

from swproxy.config.config import App, Config
from swproxy.policy.destination import Destination, parse_destination
from swproxy.sw1.claims import Claims, check_time, parse_target
from swproxy.sw1.refusal import Refusal

__all__ = ["check_application", "check_claims"]


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
    return claims, parse_destination(claims.proxy_url)


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
    # A browser asks nobody before it opens a WebSocket, and lets any page read what comes.
    if websocket and not all(map(app.cors.permits, origins)):
        raise Refusal(
            "origin-not-allowed", "Pages of this origin may not use the application's WebSockets."
        )
