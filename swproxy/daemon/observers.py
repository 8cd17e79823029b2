"""One observer made of several."""

from collections.abc import Sequence

from swproxy.proxy.record import Observer, Record

__all__ = ["Observers"]


class Observers:
    """Tells several observers, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers: Sequence[Observer] = observers

    def began(self, record: Record) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.began(record)

    def ended(self, record: Record) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.ended(record)

    def crashed(self, error: BaseException) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.crashed(error)
