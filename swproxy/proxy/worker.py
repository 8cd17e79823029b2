"""What all requests of one worker process share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swproxy.policy.config import Config
from swproxy.proxy.body import SpoolBudget
from swproxy.proxy.pool import Pool
from swproxy.proxy.pump import Pump
from swproxy.proxy.record import Observer

if TYPE_CHECKING:
    from swproxy.proxy.connection import Connection

__all__ = ["Worker"]


@dataclass(slots=True, eq=False)
class Worker:
    """The shared parts; `config` is replaced as a whole by a reload."""

    config: Config
    pump: Pump
    pool: Pool
    spools: SpoolBudget
    observer: Observer
    connections: set[Connection] = field(default_factory=set)
