"""Which of a server's nodes is talked to: one address, a primary and its replicas, or a cluster.

One link at a time is kept, to a node that can decide. A node that can't, because it is a replica or
does not have the keys, says so; its link is ended, and the next node is tried, or the one that it
named. A node that does not answer makes room for the next likewise.
"""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from swproxy.config.store_address import StoreAddress
from swproxy.quota.ledger import LedgerDown
from swproxy.quota.link import Link, LinkBroken, ServerError, connect

__all__ = ["PATIENCE_SECONDS", "TURN_SECONDS", "Login", "ServerNodes", "has_moved"]

TURN_SECONDS = 0.5
"""From one try of a node to the next, and from turn to turn of what is said over a link."""

PATIENCE_SECONDS = 1.0
"""For a turn, a login, a connection: nobody waits for those."""

_ELSEWHERE = ("READONLY", "ASK", "CLUSTERDOWN", "LOADING", "MASTERDOWN")
"""What a node says that can't decide now, where another may."""

_MOVED = "the keys are on another node"
_MOVED_SECONDS = 0.05
_MOST_LEARNED = 8

Node = tuple[str, int] | str


@dataclass(frozen=True, slots=True)
class Login:
    """As whom a server is talked to."""

    username: str = ""
    password: str = field(default="", repr=False)


class _Moved(Exception):  # noqa: N818 - no fault: the cluster has said where to go
    pass


class ServerNodes:
    """The nodes, and the link to one of them while there is one."""

    def __init__(self, address: StoreAddress, login: Login, tls: ssl.SSLContext | None) -> None:
        self.link: Link | None = None
        self.tried = trio.Event()
        """set when the first node has been tried, or earlier by whoever uses it"""
        self._address = address
        self._login = login
        self._tls = tls if address.tls else None
        self._nodes: list[Node] = [*address.nodes] or [address.path]

    async def keep_link(
        self, use: Callable[[Link], Awaitable[None]], failed: Callable[[str], None]
    ) -> None:
        """Make a link, have it used until it ends, say why that was, and so on; until cancelled."""
        while True:
            node = self._nodes[0]
            try:
                await self._use_link(node, use)
            except _Moved:
                pass
            except (LinkBroken, ServerError, trio.TooSlowError) as error:
                failed(f"{_name(node)}: {str(error) or 'the store does not answer'}")
            if self._nodes[0] == node:
                self._nodes.append(self._nodes.pop(0))
            # What a cluster told is kept; what it told earlier is not worth a list that grows.
            most = len(self._address.nodes) + _MOST_LEARNED
            self._nodes = list(dict.fromkeys(self._nodes))[:most]
            self.tried.set()
            await trio.sleep(_MOVED_SECONDS if self._nodes[0] != node else TURN_SECONDS)

    def judge(self, link: Link, error: Exception) -> None:
        """End a link to a node that is the wrong one, or has become so."""
        if not isinstance(error, ServerError):
            return
        if error.code == "MOVED":
            host, _, port = error.rest.split(" ")[1].rpartition(":")
            # A node that does not know its own name means the one that was asked.
            self._nodes.insert(0, (host or self._nodes[0][0], int(port)))
            link.end(_MOVED)
        elif error.code in _ELSEWHERE:
            link.end(f"the store said {error.code}")

    async def _use_link(self, node: Node, use: Callable[[Link], Awaitable[None]]) -> None:
        """Use one connection until it ends. Raises LinkBroken, ServerError, TooSlowError."""
        with trio.fail_after(PATIENCE_SECONDS):
            link = Link(await connect(node, self._tls))
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.serve)
            try:
                await self._log_in(link)
                self.link = link
                await use(link)
            except (LinkBroken, ServerError, trio.TooSlowError, LedgerDown) as error:
                failure = error
            finally:
                self.link = None
                nursery.cancel_scope.cancel()
        if has_moved(link):
            raise _Moved
        raise failure if isinstance(failure, ServerError) else LinkBroken(str(failure or link.why))

    async def _log_in(self, link: Link) -> None:
        if self._login.password:
            who = (self._login.username,) if self._login.username else ()
            await link.ask("AUTH", *who, self._login.password, seconds=PATIENCE_SECONDS)
        if self._address.database:
            database = str(self._address.database)
            await link.ask("SELECT", database, seconds=PATIENCE_SECONDS)


def has_moved(link: Link) -> bool:
    """Tell whether a link was ended because another node has the keys, which is no fault."""
    return link.why == _MOVED


def _name(node: Node) -> str:
    return f"unix:{node}" if isinstance(node, str) else f"{node[0]}:{node[1]}"
