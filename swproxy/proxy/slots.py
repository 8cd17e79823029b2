"""Who makes room when all connections are taken.

Each connection holds a slot, and a slot has a standing:

    LINGERING   its answer has been given; the client may go on sending for a while
    UNPROVED    nothing that came over it has been verified yet: a handshake, a head, a forged body
    IDLE        a verified call has come over it, and none is under way
    VERIFIED    a verified call is under way

A newcomer who finds all slots taken gets the place of one that lingers, else of one that has proved
nothing, else of an idle one, of each the one that has been so for longest. A slot whose call is
verified is never taken; where all are, the newcomer is turned away.

A share of the slots is the most that one client may have, so that one valid URL is not enough to
take all of them; beyond it the client has to make room itself. What is counted as one client is an
address (of IPv6, a network of 64 bits), as X-Forwarded-For tells it behind a trusted proxy. The
proxy's own connections are nobody's until a request says whose they are.
"""

import enum
from collections.abc import Callable

__all__ = ["Slot", "Slots", "Standing"]


class Standing(enum.IntEnum):
    """What a connection is worth; in the order in which they make room."""

    LINGERING = enum.auto()
    UNPROVED = enum.auto()
    IDLE = enum.auto()
    VERIFIED = enum.auto()


class Slot:
    """One connection's place. `give_way` is called, once, when it has to leave."""

    __slots__ = ("client", "gave_way", "give_way", "own_client", "proved", "standing")

    def __init__(self, client: str, give_way: Callable[[], None]) -> None:
        self.own_client = client
        self.client = client
        self.give_way = give_way
        self.gave_way = False
        self.proved = False
        self.standing = Standing.UNPROVED


class _Group:
    """Slots by their standing, of each the oldest first."""

    __slots__ = ("slots",)

    def __init__(self) -> None:
        self.slots: dict[Standing, dict[Slot, None]] = {standing: {} for standing in Standing}

    def __len__(self) -> int:
        return sum(map(len, self.slots.values()))

    def first(self, but: Slot | None) -> Slot | None:
        """Return the slot that makes room first."""
        for standing, slots in self.slots.items():
            if standing is not Standing.VERIFIED:
                for slot in slots:
                    if slot is not but:
                        return slot
        return None


class Slots:
    """The slots of a worker: `most` in all, and `most_a_client` of one client."""

    def __init__(self, most: int, share: float) -> None:
        self.resize(most, share)
        self._all = _Group()
        self._clients: dict[str, _Group] = {}

    def resize(self, most: int, share: float) -> None:
        """Let there be `most` slots, and for one client a `share` of them; none is taken away."""
        self._most = most
        self._most_a_client = max(1, int(most * share))

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, client: str, give_way: Callable[[], None]) -> Slot | None:
        """Return a slot for a new connection of `client` ("": nobody's yet), or None.

        It has to be given back by `leave`.
        """
        if not self._has_room(client, None):
            return None
        if len(self._all) >= self._most and not self._make_room(self._all, None):
            return None
        slot = Slot(client, give_way)
        self._add(slot)
        return slot

    def leave(self, slot: Slot) -> None:
        """Give a slot back; harmless when it had to give way."""
        if not slot.gave_way:
            self._remove(slot)

    def begin(self, slot: Slot, client: str) -> bool:
        """Let a request of `client` begin; tell whether it has room for one more."""
        if slot.gave_way or client == slot.client:
            return not slot.gave_way
        if not self._has_room(client, slot):
            return False
        self._remove(slot)
        slot.client = client
        self._add(slot)
        return True

    def prove(self, slot: Slot) -> bool:
        """Take note that the request is verified; tell whether the slot is still there."""
        slot.proved = True
        self._put(slot, Standing.VERIFIED)
        return not slot.gave_way

    def end(self, slot: Slot) -> None:
        """Take note that the request is over."""
        if not slot.gave_way and slot.client != slot.own_client:
            self._remove(slot)
            slot.client = slot.own_client
            self._add(slot)
        self._put(slot, Standing.IDLE if slot.proved else Standing.UNPROVED)

    def linger(self, slot: Slot) -> None:
        """Take note that the connection only waits for the client to end."""
        self._put(slot, Standing.LINGERING)

    def _has_room(self, client: str, but: Slot | None) -> bool:
        group = self._clients.get(client) if client else None
        if group is None or len(group) < self._most_a_client:
            return True
        return self._make_room(group, but)

    def _make_room(self, group: _Group, but: Slot | None) -> bool:
        slot = group.first(but)
        if slot is None:
            return False
        self._remove(slot)
        slot.gave_way = True
        slot.give_way()
        return True

    def _put(self, slot: Slot, standing: Standing) -> None:
        if not slot.gave_way and slot.standing is not standing:
            self._remove(slot)
            slot.standing = standing
            self._add(slot)

    def _add(self, slot: Slot) -> None:
        self._all.slots[slot.standing][slot] = None
        if slot.client:
            group = self._clients.setdefault(slot.client, _Group())
            group.slots[slot.standing][slot] = None

    def _remove(self, slot: Slot) -> None:
        del self._all.slots[slot.standing][slot]
        if slot.client:
            group = self._clients[slot.client]
            del group.slots[slot.standing][slot]
            if not len(group):
                del self._clients[slot.client]
