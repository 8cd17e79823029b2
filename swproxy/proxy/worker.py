"""What all requests of one worker process share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from swproxy.policy.config import Config
from swproxy.proxy.body import SpoolBudget
from swproxy.proxy.pool import Pool
from swproxy.proxy.pump import Pump
from swproxy.proxy.record import Observer

if TYPE_CHECKING:
    from swproxy.proxy.connection import Connection
    from swproxy.proxy.tunnel import Tunnel

__all__ = ["Worker"]

_GOODBYE_SECONDS = 3.0
"""For Close frames to be sent, answered and acted upon."""


@dataclass(slots=True, eq=False)
class Worker:
    """The shared parts; `config` is replaced as a whole by a reload."""

    config: Config
    pump: Pump
    pool: Pool
    spools: SpoolBudget
    observer: Observer
    connections: set[Connection] = field(default_factory=set)
    idle: dict[Connection, None] = field(default_factory=dict)
    """those that wait between requests, the one that has waited longest first"""
    tunnels: set[Tunnel] = field(default_factory=set)
    tunnels_end: float = math.inf
    """when the clock is there, tunnels are closed; see `end_tunnels`"""

    def end_tunnels(self, seconds: float) -> None:
        """Have every tunnel closed politely, those to come too, before `seconds` have passed."""
        goodbye = min(_GOODBYE_SECONDS, seconds / 2)
        self.tunnels_end = trio.current_time() + seconds - goodbye
        for tunnel in self.tunnels:
            tunnel.end_by(self.tunnels_end)
