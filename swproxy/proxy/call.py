"""A call: one request while it is served, with all that whoever works on it needs to know.

`exchange` makes it, `admit` judges it, `forward` takes it up and its answer down.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

from swproxy.config.config import Config
from swproxy.http.request import RequestHead
from swproxy.net.flow import Endpoint
from swproxy.net.stream import SocketStream
from swproxy.policy.clients import client_of_share
from swproxy.policy.cors import CorsPolicy
from swproxy.policy.field_names import Header
from swproxy.proxy.body import ByteSource
from swproxy.proxy.record import Record
from swproxy.proxy.slots import Slot
from swproxy.proxy.worker import Worker

__all__ = ["Call", "Downstream"]


class Downstream(ByteSource, Protocol):
    """A client's connection while one of its requests is served."""

    @property
    def stream(self) -> SocketStream:
        """The connected socket."""

    @property
    def endpoint(self) -> Endpoint:
        """The same socket, as the pump knows it."""

    @property
    def client(self) -> str:
        """The address of the peer."""

    @property
    def slot(self) -> Slot:
        """The connection's place among all."""

    @property
    def draining(self) -> bool:
        """Tell whether this connection is to end with the present request."""

    def prove(self) -> None:
        """Take note that the request is verified, so the connection makes room for no other.

        Raises Refusal ("overloaded") where it had to already.
        """


@dataclass(slots=True)
class Call:
    """One request; `config` is what was configured when it was last judged.

    `cors` is the application's policy once the signature holds, and everybody's until then.
    """

    worker: Worker
    downstream: Downstream
    head: RequestHead
    record: Record
    config: Config = field(init=False)
    cors: CorsPolicy = field(init=False)
    seconds: float = math.inf
    """how long it may last, from its head on"""
    says: tuple[Header, ...] = ()
    """fields of our own for this call's answer alone"""

    def __post_init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Take the configuration that there is now, for a call that is judged again."""
        self.config = self.worker.config
        self.cors = self.config.open_cors

    @property
    def share_of(self) -> str:
        """Whose share of connections and bodies it counts for, or "": a trusted proxy's own."""
        return client_of_share(self.record.client, self.config.server.trusted_proxies)

    @property
    def ends_at(self) -> float:
        """When it has lasted as long as it may, by trio's clock."""
        return self.record.started + self.seconds

    def own_headers(self) -> tuple[Header, ...]:
        """Return the fields that we put into an answer: CORS, and the request's id."""
        request_id = self.record.request_id.encode()
        return (
            *self.cors.response_headers(self.head.get(b"origin")),
            (b"x-request-id", request_id),
            *self.says,
        )
