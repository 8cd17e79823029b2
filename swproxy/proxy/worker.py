"""What all requests of one worker process share."""

import math
from dataclasses import dataclass, field
from typing import Protocol

import trio

from swproxy.config.config import Config
from swproxy.net.pool import Pool
from swproxy.net.pump import Pump
from swproxy.net.turns import Turns
from swproxy.proxy.drain import Drains
from swproxy.proxy.progress import Progress
from swproxy.proxy.record import Observer, Record
from swproxy.proxy.slots import Slots
from swproxy.proxy.spool import SpoolBudget
from swproxy.quota.ledger import Ledger, NoLedger
from swproxy.quota.revocations import Revocations
from swproxy.sw1.refusal import Refusal

__all__ = ["Drainable", "Endable", "Standing", "Worker"]

_SWEEP_SECONDS = 1.0

_GOODBYE_SECONDS = 3.0
"""For Close frames to be sent, answered and acted upon."""

_REVOKED = "The URL has been revoked."
_ORPHANED = "The application, or the secret of the URL, has been removed."


class Drainable(Protocol):
    """A client's connection, as far as a drain is concerned."""

    def drain(self) -> None:
        """Close as soon as no request is under way, nor about to come."""

    def sweep(self, now: float) -> None:
        """Wait for a request no longer, if `now` is when that ends."""


class Endable(Protocol):
    """A tunnel, as far as a drain is concerned."""

    def end_by(self, moment: float) -> None:
        """Close politely when the clock is at `moment`, should the tunnel live that long."""


class Standing(Protocol):
    """A call under way, as far as it may lose what it was let in by, or be looked at."""

    @property
    def app_id(self) -> str:
        """The application."""

    @property
    def secret(self) -> str:
        """The application's secret that its URL was signed with."""

    @property
    def record(self) -> Record:
        """What is known of it."""

    @property
    def progress(self) -> Progress:
        """How far it has come."""

    def is_revoked(self, revocations: Revocations) -> bool:
        """Tell whether its URL is among what is revoked."""

    def end(self, code: str, detail: str) -> None:
        """End it: `code` names the problem, `detail` is for the client."""

    def sweep(self, now: float) -> None:
        """End it if `now` is later than what it waits for may be."""


@dataclass(slots=True, eq=False)
class Worker:
    """The shared parts; `config` is replaced as a whole by a reload."""

    config: Config
    pump: Pump
    pool: Pool
    spools: SpoolBudget
    slots: Slots
    observer: Observer
    turns: Turns = field(default_factory=Turns)
    connections: set[Drainable] = field(default_factory=set)
    idle: dict[Drainable, trio.CancelScope] = field(default_factory=dict)
    """those that wait between requests and the scope of each one's wait, the oldest first"""
    judges: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(1))
    """for the threads that judge large bodies"""
    drains: Drains = field(default_factory=Drains)
    ledger: Ledger = field(default_factory=NoLedger)
    calls: dict[Standing, None] = field(default_factory=dict)
    """those that have been admitted and are not over, the oldest first"""
    tunnels: set[Endable] = field(default_factory=set)
    tunnels_end: float = math.inf
    """when the clock is there, tunnels are closed; see `end_tunnels`"""

    async def sweep(self) -> None:
        """Look once a second for who waits in vain, until cancelled.

        Nearly every wait ends well, and a deadline of trio's costs each of them as much as reading
        a head. So those of which a second more does not matter are only written down.
        """
        while True:
            await trio.sleep(_SWEEP_SECONDS)
            now = trio.current_time()
            for call in list(self.calls):
                call.sweep(now)
            for connection in list(self.idle):
                connection.sweep(now)

    def end_revoked(self, revocations: Revocations) -> None:
        """End the calls whose URLs are revoked."""
        for call in [call for call in self.calls if call.is_revoked(revocations)]:
            call.end("revoked", _REVOKED)

    def end_orphaned(self) -> None:
        """End the calls whose application is not configured any more, or whose secret is not."""
        for call in [call for call in self.calls if self._orphaned(call)]:
            call.end("revoked", _ORPHANED)

    def begin(self, call: Standing) -> None:
        """Take a call for one that is under way, unless it may not be any more.

        It has been let in, but may have waited since, for the ledger or for its body to be judged.
        Raises Refusal ("revoked").
        """
        if self.ledger.revocations and call.is_revoked(self.ledger.revocations):
            raise Refusal("revoked", _REVOKED)
        if self._orphaned(call):
            raise Refusal("revoked", _ORPHANED)
        self.calls[call] = None

    def _orphaned(self, call: Standing) -> bool:
        app = self.config.apps.get(call.app_id)
        return app is None or call.secret not in app.secrets

    def end_tunnels(self, seconds: float) -> None:
        """Have every tunnel closed politely, those to come too, before `seconds` have passed."""
        goodbye = min(_GOODBYE_SECONDS, seconds / 2)
        self.tunnels_end = trio.current_time() + seconds - goodbye
        for tunnel in self.tunnels:
            tunnel.end_by(self.tunnels_end)
