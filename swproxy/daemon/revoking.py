"""Revoking URLs by hand, whoever's hand it is: that of the command line, or of the live page.

What is revoked stands in the store, where every worker finds it within a second.
"""

import time

from swproxy.config.config import Config
from swproxy.daemon.ledgers import make_ledger, use_ledger
from swproxy.quota.ledger import Ledger
from swproxy.quota.revocations import Revocation
from swproxy.quota.windows import FOREVER, MICROS

__all__ = ["revocation_of", "revoke_user"]


def revocation_of(
    config: Config, app_id: str, *, user: str = "", signature: str = ""
) -> Revocation:
    """Return the revocation of what was signed up to now: of a user, of one URL, or all."""
    now = time.time_ns() // 1000
    longest = config.limits.expiry_seconds + config.limits.clock_skew_seconds
    before = FOREVER if signature else now
    return Revocation(app_id, before, now + longest * MICROS, user=user, signature=signature)


async def revoke_user(config: Config, app_id: str, user: str) -> None:
    """Revoke all URLs that name a user. Raises LedgerDown."""

    async def do(ledger: Ledger) -> None:
        await ledger.revoke(revocation_of(config, app_id, user=user))

    await use_ledger(make_ledger(config, at_once=True), do)
