"""Which worker takes a connection: the one that has fewer, unless it is too busy to come for it."""

import os
from collections.abc import Iterator

import pytest

from swproxy.daemon.balance import HOLD_SECONDS, LOAD_BYTES, MARGIN, Share
from swproxy.daemon.tally import shared_memory


@pytest.fixture
def shares() -> Iterator[list[Share]]:
    descriptor = shared_memory(LOAD_BYTES * 3)
    yield [Share(descriptor, 3, place) for place in range(3)]
    os.close(descriptor)


def test_a_worker_on_its_own_never_waits() -> None:
    share = Share()
    share.tell(1000)
    assert share.hold() == 0


def test_who_is_ahead_of_the_least_loaded_waits(shares: list[Share]) -> None:
    for share, connections in zip(shares, (2, 1, 3), strict=True):
        share.tell(connections)
    assert [share.hold() for share in shares] == [HOLD_SECONDS, 0, HOLD_SECONDS]
    shares[1].tell(4)
    assert [share.hold() for share in shares] == [0, HOLD_SECONDS, HOLD_SECONDS]


def test_nobody_waits_for_one_that_does_not_accept(shares: list[Share]) -> None:
    for share, connections in zip(shares, (2, 0, 2), strict=True):
        share.tell(connections)
    shares[1].leave()
    assert shares[0].hold() == shares[2].hold() == 0


@pytest.mark.parametrize(
    ("least", "lead", "waits"),
    [
        (7, 1, True),
        (8, 1, False),
        (8, 2, True),
        (80, 10, False),
        (80, 11, True),
        (9999, MARGIN, False),
        (9999, MARGIN + 1, True),
    ],
)
def test_a_small_lead_is_not_worth_a_wait(
    shares: list[Share], least: int, lead: int, waits: bool
) -> None:
    for share in shares:
        share.tell(least)
    shares[0].tell(least + lead)
    assert (shares[0].hold() > 0) == waits
