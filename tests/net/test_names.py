"""Look-ups: shared, kept for a short while, and none of them in the way of another."""

import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from swproxy.net.names import ANSWER_SECONDS, NO_ANSWER_SECONDS, NameNotResolved, Names
from tests.support.resolver import Resolver, resolving


class Slow(Resolver):
    """A resolver of which some domains never answer, until told to."""

    def __init__(self, *domains: str) -> None:
        super().__init__({"good.test": ["192.0.2.1"], "other.test": ["192.0.2.2"]})
        self.domains = domains
        self.release = trio.Event()

    async def getaddrinfo(self, host: bytes | None, *args: Any, **options: Any) -> list[Any]:
        name = (host or b"").decode()
        if name.endswith(self.domains):
            self.asked.append(name)
            await self.release.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return await super().getaddrinfo(host, *args, **options)


@asynccontextmanager
async def running(resolver: Resolver) -> AsyncIterator[Names]:
    before = trio.socket.set_custom_hostname_resolver(resolver)
    names = Names()
    async with trio.open_nursery() as nursery:
        await nursery.start(names.run)
        yield names
        nursery.cancel_scope.cancel()
    trio.socket.set_custom_hostname_resolver(before)


async def test_an_answer_is_kept_for_a_while(autojump_clock: MockClock) -> None:
    resolver = Slow()
    async with running(resolver) as names:
        for _ in range(3):
            assert await names.look_up("good.test") == ("192.0.2.1",)
        assert resolver.asked == ["good.test"]
        await trio.sleep(ANSWER_SECONDS)
        resolver.names["good.test"] = ["192.0.2.3", "192.0.2.4"]
        assert await names.look_up("good.test") == ("192.0.2.3", "192.0.2.4")


async def test_that_there_is_none_is_kept_for_a_moment(autojump_clock: MockClock) -> None:
    resolver = Slow()
    async with running(resolver) as names:
        for _ in range(3):
            with pytest.raises(NameNotResolved):
                await names.look_up("no.test")
        assert resolver.asked == ["no.test"]
        await trio.sleep(NO_ANSWER_SECONDS)
        resolver.names["no.test"] = ["192.0.2.3"]
        assert await names.look_up("no.test") == ("192.0.2.3",)


async def test_all_who_wait_for_a_name_share_one_look_up() -> None:
    resolver, failed = Slow("slow.test"), []

    async def ask(names: Names) -> None:
        with pytest.raises(NameNotResolved):
            await names.look_up("slow.test")
        failed.append(True)

    async with running(resolver) as names:
        async with trio.open_nursery() as nursery:
            for _ in range(120):
                nursery.start_soon(ask, names)
            await wait_all_tasks_blocked()
            assert await names.look_up("good.test") == ("192.0.2.1",)
            assert resolver.asked == ["slow.test", "good.test"]
            resolver.release.set()
        assert len(failed) == 120


class System:
    """The operating system's resolver, whose servers do not answer for slow domains until told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.answer = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", self.ask)

    def ask(self, host: bytes, *args: Any) -> list[Any]:
        if args[-1] & socket.AI_NUMERICHOST:  # trio asks whether it is a name at all
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self.asked.append(host.decode())
        if b"slow" in host:
            self.answer.wait(10)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]


@asynccontextmanager
async def running_on(system: System) -> AsyncIterator[tuple[Names, trio.Nursery]]:
    try:
        names = Names()
        async with trio.open_nursery() as nursery:
            await nursery.start(names.run)
            yield names, nursery
            nursery.cancel_scope.cancel()
    finally:
        system.answer.set()


async def test_the_system_is_asked_in_threads_that_nothing_else_uses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = System(monkeypatch)
    async with running_on(system) as (names, nursery):
        for number in range(120):
            nursery.start_soon(names.look_up, f"a{number}.slow{number % 4}.test")
        await wait_all_tasks_blocked(0.01)
        assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
        with trio.fail_after(5):
            assert await names.look_up("good.test") == ("192.0.2.1",)


async def test_names_of_one_domain_have_few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have not been asked for are forgotten with the last who waited for them."""
    system = System(monkeypatch)
    async with running_on(system) as (names, _):
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(names.look_up, f"{number}.slow.test")
            await wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            assert await names.look_up("good.test") == ("192.0.2.1",)
        assert len(system.asked) == 9
        system.answer.set()
        with trio.fail_after(5), pytest.raises(NameNotResolved):
            await names.look_up("new.slow.test")
        assert len(system.asked) == 10


async def test_whoever_leaves_takes_nothing_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often somebody asks and leaves, the name is being asked for once."""
    system = System(monkeypatch)
    async with running_on(system) as (names, _):
        for _ in range(20):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(names.look_up, "api.slow.test")
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            while not system.asked:  # a thread asks, when it comes to it
                await trio.sleep(0.01)
        assert system.asked == ["api.slow.test"]
        system.answer.set()
        with trio.fail_after(5), pytest.raises(NameNotResolved):
            await names.look_up("api.slow.test")


async def test_a_resolver_that_is_there_already_stays() -> None:
    with resolving({"good.test": ["192.0.2.1"]}) as resolver:
        names = Names()
        async with trio.open_nursery() as nursery:
            await nursery.start(names.run)
            assert await names.look_up("good.test") == ("192.0.2.1",)
            nursery.cancel_scope.cancel()
        assert trio.socket.set_custom_hostname_resolver(resolver) is resolver
