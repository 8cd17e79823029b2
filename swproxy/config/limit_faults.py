"""What is doubtful about limits: those that nobody can come to, and those that nobody need heed."""

from __future__ import annotations

from collections.abc import Iterator

from swproxy.config.config import App
from swproxy.config.faults import Place
from swproxy.policy.allowances import Allowance, TokenBudget

__all__ = ["doubtful_limits"]

_DAY = 86400
_SECONDS = {"minute": 60, "hour": 3600, "day": _DAY, "month": 31 * _DAY}


def doubtful_limits(app: App) -> Iterator[tuple[Place, str]]:
    """Give the places in an application's table that are doubtful, and why."""
    tables = [(("limits", "user"), app.user_limits)]
    tables += [(("plans", name), plan.limits) for name, plan in app.plans.items()]
    for place, allowance in tables:
        for key in _beyond(allowance, app.limits):
            yield (
                (*place, key),
                f"can never be reached: limits.{key} allows all users together less",
            )
    if any(allowance for _, allowance in tables) and "user" not in app.require:
        place = next(place for place, allowance in tables if allowance)
        yield (
            place,
            'does not hold for URLs that name no user: require = ["user"] refuses those',
        )


def _beyond(user: Allowance, app: Allowance) -> Iterator[str]:
    """Give the limits of a user that are above the application's."""
    if user.requests and app.requests and user.requests.per_second > app.requests.per_second:
        yield "requests"
    if user.concurrent and app.concurrent and user.concurrent > app.concurrent:
        yield "concurrent"
    if user.tokens and app.tokens and _least_windows(user.tokens, app.tokens) > app.tokens.count:
        yield "tokens"


def _least_windows(user: TokenBudget, app: TokenBudget) -> float:
    """Return what a user's budget comes to in one of the application's windows, at the least."""
    return user.count / max(1.0, _SECONDS[user.window] / _SECONDS[app.window])
