"""What the one who signs wants to know of a configuration: as whom, for where, and will it pass."""

from __future__ import annotations

from swproxy.policy.config import App, Config
from swproxy.policy.destination import Destination, parse_destination
from swproxy.sw1.refusal import Refusal

__all__ = ["choose", "destination_of", "doubt", "example_url", "first_secret"]


def choose(config: Config, app_id: str | None) -> App:
    """Return the application to sign as; ValueError if it has to be said which."""
    if app_id is not None and app_id in config.apps:
        return config.apps[app_id]
    if app_id is not None:
        raise ValueError(f"there is no application {app_id}")
    if len(config.apps) != 1:
        ids = ", ".join(config.apps) or "there are none yet"
        raise ValueError(f"say with --app for which application: {ids}")
    return next(iter(config.apps.values()))


def first_secret(app: App) -> str:
    """Return the secret to sign with: the oldest.

    It holds at a daemon that has not taken notice of a rotation, and at one that has.
    """
    return app.secrets[0]


def destination_of(app: App, url: str) -> Destination:
    """Return where a URL leads; Refusal if the application may not call it."""
    destination = parse_destination(url)
    if not any(pattern.matches(destination) for pattern in app.allow):
        detail = f"No `allow` pattern of the application {app.id} covers this URL."
        raise Refusal("destination-not-allowed", detail)
    return destination


def doubt(app: App, url: str) -> str:
    """Say why a URL that is about to be signed will be refused; "" if it will not."""
    try:
        destination_of(app, url)
    except Refusal as refusal:
        return refusal.detail
    return ""


def example_url(pattern: str) -> str:
    """Return a URL that an `allow` pattern covers, to try it with."""
    if pattern == "*":
        return "https://example.com/"
    return pattern.replace("://*.", "://www.", 1).removesuffix("*")
