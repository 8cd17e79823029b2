"""What whoever signs wants to know of a configuration: as whom, for where, and will it pass."""

from __future__ import annotations

import shlex

from swproxy.config.checks import applied_terms
from swproxy.config.config import App, Config
from swproxy.config.reach import Resolve, nothing_resolved, unreachable
from swproxy.policy.destination import parse_destination
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.terms import read_terms

__all__ = ["choose", "doubt", "doubt_destination", "example_url", "first_secret"]


def choose(config: Config, app_id: str | None) -> App:
    """Return the application to sign as; ValueError if it has to be said which."""
    if app_id is not None and app_id in config.apps:
        return config.apps[app_id]
    if app_id is not None:
        raise ValueError(f"there is no application {shlex.quote(app_id)}")
    if len(config.apps) != 1:
        ids = ", ".join(map(shlex.quote, config.apps)) or "there are none yet"
        raise ValueError(f"say with --app for which application: {ids}")
    return next(iter(config.apps.values()))


def first_secret(app: App) -> str:
    """Return the secret to sign with: the oldest.

    It holds at a daemon that has not taken notice of a rotation, and at one that has.
    """
    return app.secrets[0]


def doubt(config: Config, app: App | None, url: str, expiry: int) -> Refusal | None:
    """Return how a URL that is about to be signed, for `expiry` seconds, will be refused, if it is.

    `app` is None where the application is not at hand.
    """
    longest = config.limits.expiry_seconds
    if expiry > longest:
        detail = f"It is to hold for {expiry} seconds, and limits.expiry_seconds is {longest}."
        return Refusal("expiry-too-long", detail)
    refusal = doubt_destination(config, app, url)
    if refusal is None and app is not None:
        try:
            applied_terms(app, read_terms(url))
        except Refusal as fault:
            return fault
    return refusal


def doubt_destination(
    config: Config, app: App | None, url: str, resolve: Resolve = nothing_resolved
) -> Refusal | None:
    """Return how calls of a URL will be refused for where it leads, if they will."""
    try:
        destination = parse_destination(url)
    except Refusal as refusal:
        return refusal
    if app is not None and not app.allows(destination):
        detail = f"No `allow` pattern of the application {app.id} covers it."
        return Refusal("destination-not-allowed", detail)
    if reason := unreachable(config, destination.host, resolve):
        return Refusal("destination-not-public", f"{reason}.")
    return None


def example_url(pattern: str) -> str:
    """Return a URL that an `allow` pattern covers, to try it with."""
    if pattern == "*":
        return "https://example.com/"
    url = pattern.replace("://*.", "://www.", 1).removesuffix("*")
    # Whatever speaks OpenAI's protocol lists its models; it has nothing to say at /v1/ itself.
    return f"{url}models" if pattern.endswith("/v1/*") else url
