"""Who makes room when all connections are taken, and who never does."""

import pytest

from swproxy.proxy.slots import Slot, Slots


class Hall:
    """Slots by name; `gone` lists those that had to give way, in their order."""

    def __init__(self, most: int, share: float = 1.0) -> None:
        self.slots = Slots(most, share)
        self.gone: list[str] = []
        self.named: dict[str, Slot] = {}

    def enter(self, name: str, client: str = "") -> bool:
        slot = self.slots.enter(client, lambda: self.gone.append(name))
        if slot is not None:
            self.named[name] = slot
        return slot is not None

    def prove(self, *names: str) -> None:
        for name in names:
            assert self.slots.prove(self.named[name])


def test_lingering_ones_go_first_then_the_unproved_then_the_idle() -> None:
    hall = Hall(6)
    for name in ("a", "b", "c", "d", "e", "f"):
        assert hall.enter(name)
    hall.prove("a", "b", "f")
    hall.slots.end(hall.named["b"])
    hall.slots.end(hall.named["a"])
    hall.slots.linger(hall.named["e"])
    for name in "uvwxy":
        assert hall.enter(name)
        hall.prove(name)
    assert hall.gone == ["e", "c", "d", "b", "a"]
    # All that are left carry verified calls.
    assert not hall.enter("z")
    assert len(hall.slots) == 6
    assert not hall.slots.prove(hall.named["c"])
    for name in "abcdef":
        hall.slots.leave(hall.named[name])
    assert len(hall.slots) == 5
    assert hall.enter("z")


def test_one_that_has_proved_something_is_idle_with_the_next_head() -> None:
    hall = Hall(2)
    assert hall.enter("a")
    hall.prove("a")
    hall.slots.end(hall.named["a"])
    assert hall.slots.begin(hall.named["a"], "")
    assert hall.enter("b")
    assert hall.enter("c")
    assert hall.gone == ["b"]


def test_one_client_has_a_share_and_makes_room_himself() -> None:
    hall = Hall(8, 0.25)
    assert hall.enter("a", "192.0.2.1")
    assert hall.enter("b", "192.0.2.1")
    assert hall.enter("other", "192.0.2.2")
    assert hall.enter("c", "192.0.2.1")
    assert hall.gone == ["a"]
    hall.prove("b", "c")
    assert not hall.enter("d", "192.0.2.1")
    assert hall.enter("d", "192.0.2.3")
    hall.slots.leave(hall.named["b"])
    assert hall.enter("e", "192.0.2.1")


def test_a_proxy_s_connection_is_its_client_s_while_there_is_a_request() -> None:
    hall = Hall(8, 0.25)
    for name in ("a", "b", "c", "d"):
        assert hall.enter(name)
    for name in ("a", "b"):
        assert hall.slots.begin(hall.named[name], "192.0.2.1")
        hall.prove(name)
    assert not hall.slots.begin(hall.named["c"], "192.0.2.1")
    assert hall.slots.begin(hall.named["c"], "192.0.2.2")
    hall.slots.end(hall.named["a"])
    assert hall.slots.begin(hall.named["d"], "192.0.2.1")
    assert hall.gone == []


def test_a_client_s_request_never_pushes_out_itself() -> None:
    hall = Hall(2, 0.5)
    assert hall.enter("a")
    assert hall.slots.begin(hall.named["a"], "192.0.2.1")
    assert hall.slots.begin(hall.named["a"], "192.0.2.1")
    assert hall.enter("b")
    assert hall.slots.begin(hall.named["b"], "192.0.2.1")
    assert hall.gone == ["a"]
    assert not hall.slots.begin(hall.named["a"], "192.0.2.2")


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_slots_take_no_one_s_away(count: int) -> None:
    hall = Hall(4)
    for name in "abcd":
        assert hall.enter(name)
    hall.slots.resize(count, 1.0)
    assert hall.gone == []
    assert hall.enter("e")
    assert hall.gone == ["a"]
