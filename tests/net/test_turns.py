"""Turns of the event loop: who has to wait, for how long, and behind whom."""

import math
import time

import trio
import trio.lowlevel

from swproxy.net.turns import TURN_SECONDS, Turns


def work() -> None:
    """Keep the loop for longer than a turn is to last."""
    until = time.perf_counter() + TURN_SECONDS
    while time.perf_counter() < until:
        pass


class Loop(trio.abc.Instrument):
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.turn = 0
        trio.lowlevel.add_instrument(self)

    def after_io_wait(self, timeout: float) -> None:
        self.turn += 1


async def test_nobody_waits_before_the_queue_is_served() -> None:
    turns = Turns()
    work()
    with trio.CancelScope(deadline=-math.inf):
        await turns.take()  # it is no checkpoint


async def test_who_works_long_has_a_turn_to_himself() -> None:
    turns, loop, done = Turns(), Loop(), []

    async def step(number: int) -> None:
        await turns.take()
        done.append((loop.turn, number))
        work()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as working:
            for number in range(20):
                working.start_soon(step, number)
        nursery.cancel_scope.cancel()
    assert sorted(number for _, number in done) == list(range(20))
    assert len({turn for turn, _ in done}) == 20


async def test_short_steps_share_a_turn() -> None:
    turns, loop, done = Turns(), Loop(), []

    async def step() -> None:
        await turns.take()
        done.append(loop.turn)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await trio.lowlevel.checkpoint()
        work()
        async with trio.open_nursery() as working:
            for _ in range(100):
                working.start_soon(step)
        nursery.cancel_scope.cancel()
    assert len(done) == 100
    assert len(set(done)) < 50


async def test_who_gives_up_leaves_the_queue_and_nobody_is_left_in_it() -> None:
    turns, done = Turns(), []

    async def step(number: int) -> None:
        await turns.take()
        done.append(number)
        work()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as leaving:
            for number in range(10):
                leaving.start_soon(step, number)
            await trio.lowlevel.checkpoint()
            leaving.cancel_scope.cancel()
        assert len(done) < 10
        await step(10)
        assert done[-1] == 10
        async with trio.open_nursery() as waiting:
            for number in range(11, 31):
                waiting.start_soon(step, number)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert len(done) < 30
