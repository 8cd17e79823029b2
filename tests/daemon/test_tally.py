"""Numbers in shared memory: kept apart, added to, and read by others while they change."""

import os
from collections.abc import Iterator

import pytest

from swproxy.daemon import tally as module
from swproxy.daemon.tally import MEMORY_BYTES, OVERFLOW, Tally, shared_memory


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = shared_memory(MEMORY_BYTES)
    yield descriptor
    os.close(descriptor)


def test_a_series_keeps_its_place(memory: int) -> None:
    tally = Tally(memory)
    first, second = tally.slots([("a", "x"), ("a", "y")])
    assert first != second
    tally.values[first] += 2
    tally.values[second] += 0.5
    assert tally.slot(("a", "x")) == first
    assert dict(tally.read()) == {("a", "x"): 2, ("a", "y"): 0.5}
    tally.close()


def test_another_mapping_sees_every_change(memory: int) -> None:
    writer, reader = Tally(memory), Tally(memory)
    assert dict(reader.read()) == {}
    writer.values[writer.slot(("one",))] += 1
    assert dict(reader.read()) == {("one",): 1}
    writer.values[writer.slot(("two", 'an "app" ü'))] += 2
    writer.values[writer.slot(("one",))] += 1
    assert dict(reader.read()) == {("one",): 2, ("two", 'an "app" ü'): 2}
    writer.close()
    reader.close()


def test_a_successor_counts_on(memory: int) -> None:
    before = Tally(memory)
    before.values[before.slot(("one",))] += 3
    before.close()
    after = Tally(memory)
    after.values[after.slot(("one",))] += 1
    after.values[after.slot(("two",))] += 1
    assert dict(after.read()) == {("one",): 4, ("two",): 1}
    after.close()


def test_what_there_is_no_room_for_is_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SERIES", 3)
    monkeypatch.setattr(module, "MEMORY_BYTES", 3 * (8 + module.KEY_BYTES))
    tally = Tally()
    for name in "abcd":
        tally.values[tally.slot((name,))] += 1
    assert dict(tally.read()) == {("a",): 1, ("b",): 1, OVERFLOW: 2}
    tally.close()


def test_a_name_that_is_too_long_is_an_error() -> None:
    tally = Tally()
    with pytest.raises(ValueError, match="too long"):
        tally.slot(("x" * 600,))
    tally.close()
