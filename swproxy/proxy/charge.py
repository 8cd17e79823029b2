"""What a call is charged to, and what becomes of it: the last thing before an API is dialled.

    the application    its `limits`
    the user           that the URL names: the limits of its plan, else the application's for users
    the URL            its terms `uses` and `tokens`, and those configured

Everything is taken in one decision of the ledger, or nothing. A call without any of these has no
accounts, and the ledger never hears of it.

Tokens are held before the call for as much as it may use: what the URL allows, what the body asks
for, else a guess. A guess, and what a URL allows, is cut to what is left where that is less, since
the call may well use less; what the body itself asks for is not.
"""

import math
import re
from functools import lru_cache
from typing import Final

from swproxy.config.config import App
from swproxy.policy.allowances import Allowance
from swproxy.policy.applied_terms import AppliedTerms
from swproxy.policy.asked_tokens import asked_tokens
from swproxy.policy.field_names import Header
from swproxy.policy.weights import Weights
from swproxy.proxy.body import Upload
from swproxy.proxy.spool import Spool
from swproxy.quota import accounts as quota
from swproxy.quota.accounts import Account, Refused, Taken, account_key
from swproxy.quota.checks import Budget, Check, Places, Rate, Uses
from swproxy.quota.ledger import Ledger, LedgerDown, Used
from swproxy.quota.revocations import Revocations
from swproxy.quota.windows import MICROS, Period
from swproxy.sw1.claims import Claims
from swproxy.sw1.refusal import Refusal

__all__ = [
    "LimitReached",
    "Reservation",
    "accounts_of",
    "charge",
    "checks_of",
    "limits_of_user",
    "reserve",
    "revoked",
    "url_name",
]

_GUESS_TOKENS: Final = 4096
_BYTES_A_TOKEN: Final = 4
_SCANNED_BYTES: Final = 65536

_MODELS: Final = re.compile(rb'"model"\s*:\s*"([!-~]{1,128}?)"')
_MODEL_OF_PATH: Final = re.compile(r"/models/([^/:]+)")
_ESCAPED: Final = re.compile(rb"\\u00[4-7]", re.IGNORECASE)
"""The model that is asked for. Here as well, who writes a second one holds the more; and who writes
letters as no encoder does, or none, may have hidden the dearest."""

_PERIOD_SECONDS: Final = {Period.MINUTE: 60, Period.HOUR: 3600, Period.DAY: 86400}

_WHO: Final = {"app": "The application", "user": "The user", "url": "The URL"}

_TRIES: Final = 3


class LimitReached(Refusal):
    """A refusal by a limit, with the fields that say when to come again.

    `limit` names it: whose, and of what.
    """

    def __init__(
        self, code: str, detail: str, limit: str, headers: tuple[Header, ...] = ()
    ) -> None:
        super().__init__(code, detail)
        self.limit = limit
        self.headers = headers


class Reservation:
    """How many tokens to hold for a call: `wanted`, but no fewer than `least`."""

    __slots__ = ("least", "wanted")

    def __init__(self, wanted: int, least: int) -> None:
        self.wanted = wanted
        self.least = least


@lru_cache(maxsize=1024)
def checks_of(allowance: Allowance) -> tuple[Check, ...]:
    """Return the checks that hold somebody to an allowance."""
    found: list[Check] = []
    if allowance.requests is not None:
        pace = allowance.requests
        found.append(Rate(pace.count, pace.seconds, pace.burst))
    if allowance.concurrent is not None:
        found.append(Places(allowance.concurrent))
    if allowance.tokens is not None:
        found.append(Budget(allowance.tokens.count, Period(allowance.tokens.window)))
    return tuple(found)


def limits_of_user(app: App, plan: str | None) -> Allowance:
    """Return what each user may use: what the plan says, if it says anything."""
    found = app.plans.get(plan) if plan is not None else None
    return found.limits if found is not None and found.limits else app.user_limits


def accounts_of(app: App, claims: Claims, terms: AppliedTerms | None) -> tuple[Account, ...]:
    """Return who is charged for a call, which is mostly nobody."""
    found: list[Account] = []
    if app.limits:
        found.append(Account("app", account_key("app", app.id), checks_of(app.limits)))
    own = claims.terms
    if own is not None and own.user is not None:
        allowance = limits_of_user(app, own.plan)
        if allowance:
            key = account_key("user", app.id, own.user)
            found.append(Account("user", key, checks_of(allowance)))
    if terms is not None and (terms.uses is not None or terms.tokens is not None):
        found.append(_url(app, claims, terms))
    return tuple(found)


def _url(app: App, claims: Claims, terms: AppliedTerms) -> Account:
    checks: list[Check] = []
    if terms.uses is not None:
        checks.append(Uses(terms.uses))
    if terms.tokens is not None:
        checks.append(Budget(terms.tokens, Period.LIFE))
    return Account(
        "url",
        account_key("url", app.id, url_name(claims.signature)),
        tuple(checks),
        signed=claims.signed_at * MICROS,
        expires=(claims.signed_at + claims.expires + 1) * MICROS,
    )


def revoked(revocations: Revocations, app: str, user: str, claims: Claims) -> bool:
    """Tell whether a URL has been revoked."""
    signed = claims.signed_at * MICROS
    return revocations.revoked(app, user, url_name(claims.signature), signed)


def url_name(signature: str) -> str:
    """Return what a URL is known by: half of its signature tells it apart, and signs nothing."""
    return signature[:32]


def reserve(
    accounts: tuple[Account, ...],
    terms: AppliedTerms | None,
    upload: Upload,
    spool: Spool | None,
    weights: Weights | None = None,
    path: str = "",
) -> Reservation:
    """Return how many tokens to hold for a call, by its body as far as that is at hand.

    They are weighed by `weights`; the model stands in the body, or with Gemini in the path.
    """
    budgets = [check for each in accounts for check in each.checks if isinstance(check, Budget)]
    if not budgets:
        return Reservation(0, 0)
    begin = upload.whole if spool is None or upload.whole else next(spool.pieces(), b"")
    begin = begin or b""
    said = asked_tokens(begin, whole=len(begin) == upload.length)
    begin = begin[:_SCANNED_BYTES]
    read = (upload.length or 0) // _BYTES_A_TOKEN
    if said is not None:
        asked = _weighed(weights, begin, path, read, said)
        return Reservation(asked, asked)
    own = terms.tokens if terms is not None else None
    wanted = _weighed(weights, begin, path, 0, _GUESS_TOKENS) if own is None else own
    return Reservation(min(wanted, *(budget.count for budget in budgets)), 1)


def _weighed(weights: Weights | None, body: bytes, path: str, read: int, written: int) -> int:
    """Return the most that tokens count for, by the models that the call may be to."""
    if weights is None:
        return read + written
    named = [name.decode() for name in _MODELS.findall(body)] + _MODEL_OF_PATH.findall(path)
    if not named or _ESCAPED.search(body) or any("\\" in name for name in named):
        return weights.most(read, written)
    return max(weights.units(name, read, written) for name in named)


async def charge(ledger: Ledger, call: quota.Call, least: int) -> Taken:
    """Charge a call to its accounts, holding `call.tokens`, or fewer where that is what is left.

    Raises Refusal.
    """
    tries = 0
    while True:
        tries += 1
        try:
            outcome = await ledger.admit(call)
        except LedgerDown as error:
            raise Refusal(
                "limits-unavailable",
                "The call is limited, and what was used up cannot be asked for now.",
                for_operator=str(error),
            ) from error
        if isinstance(outcome, Taken):
            return outcome
        budget = isinstance(outcome.check, Budget) and least <= outcome.left < call.tokens
        if not budget or tries == _TRIES:
            raise _refusal(outcome, call)
        # What did not fit a guess is no refusal that anybody has to see.
        ledger.note(call.app, call.user, Used(refused=-1))
        call = quota.Call(call.id, call.app, call.accounts, call.user, outcome.left)


def _refusal(refused: Refused, call: quota.Call) -> LimitReached:
    check, who = refused.check, _WHO[refused.account.kind]
    limit = f"{refused.account.kind}-{check.label}"
    if refused.account.kind == "user":
        who = f"{who} '{call.user}'"
    if isinstance(check, Uses):
        calls = "one call" if check.count == 1 else f"{check.count} calls"
        return LimitReached("already-used", f"The URL may begin {calls}, and has.", limit)
    when = ""
    if refused.wait is not None:
        when = f" Try again in {_span(refused.wait)}."
    if isinstance(check, Rate):
        unit = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}[check.seconds]
        code, detail = "rate-limited", f"{who} may make {check.count} requests a {unit}.{when}"
    elif isinstance(check, Places):
        code = "too-many-at-once"
        detail = f"{who} may have {check.count} calls under way at once.{when}"
    else:
        assert isinstance(check, Budget)
        code = "budget-spent"
        each = "" if check.period is Period.LIFE else f" a {check.period.value}"
        detail = (
            f"{who} may use {check.count} tokens{each}, of which {refused.left} are left; the call"
            f" may use {call.tokens}.{when}"
        )
    return LimitReached(code, detail, limit, _fields(refused, limit))


def _span(wait: int) -> str:
    seconds = wait / MICROS
    return f"{seconds:.3f} seconds" if seconds < 60 else f"{math.ceil(seconds)} seconds"


def _fields(refused: Refused, limit: str) -> tuple[Header, ...]:
    """Return Retry-After (RFC 9110, 10.2.3) and RateLimit, RateLimit-Policy.

    The latter as draft-ietf-httpapi-ratelimit-headers-10 has them, which is no RFC yet.
    """
    check = refused.check
    policy = f'"{limit}";q={check.count}'
    if isinstance(check, Rate):
        policy += f";w={check.seconds}"
    elif isinstance(check, Places):
        policy += ';qu="concurrent-requests"'
    elif isinstance(check, Budget):
        policy += ';qu="tokens"'
        if check.period in _PERIOD_SECONDS:
            policy += f";w={_PERIOD_SECONDS[check.period]}"
    state = f'"{limit}";r={refused.left}'
    headers: list[Header] = []
    if refused.wait is not None:
        seconds = -(-refused.wait // MICROS)
        state += f";t={seconds}"
        headers.append((b"retry-after", b"%d" % seconds))
    headers.append((b"ratelimit-policy", policy.encode()))
    headers.append((b"ratelimit", state.encode()))
    return tuple(headers)
