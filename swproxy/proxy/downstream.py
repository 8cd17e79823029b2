"""What the life of a request needs to know of the connection that it came on."""

from typing import Protocol

from swproxy.net.flow import Endpoint
from swproxy.net.stream import SocketStream
from swproxy.proxy.body import ByteSource

__all__ = ["Downstream"]


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
    def draining(self) -> bool:
        """Tell whether this connection is to end with the present request."""
