"""Names of upstreams: who asks for one shares its answer, and waits for no other name.

The operating system's resolver is asked in threads, since it blocks; with a name server that never
answers, for half a minute. A thread can't be called off, so whoever may choose names could have all
of them blocked. Hence the rules:

- The threads are these look-ups' alone: metrics, reloads and files have others.
- A name is asked for once at a time, however many wait for it, and its answer is shared. It is kept
  for a short while, since names are how services move: ANSWER_SECONDS, and where there was none
  NO_ANSWER_SECONDS. (The address is judged anew at each dial.)
- Names under one domain, whose servers may all be slow, have few places among all that there are.
- Who waits no longer just leaves, and the last one calls the look-up off, if it has not begun.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpcore
import trio

__all__ = ["NameNotResolved", "Names", "look_up", "threads_of_their_own"]

ANSWER_SECONDS = 10.0
NO_ANSWER_SECONDS = 1.0

_PLACES = 64
"""Look-ups at a time; each is a thread, whose stack takes some 50 KB."""

_PLACES_A_DOMAIN = 8

_MOST_ANSWERS = 1024


class NameNotResolved(httpcore.ConnectError):
    """The upstream's name has no address."""


async def look_up(host: str) -> tuple[str, ...]:
    """Ask for the addresses of `host`, at least one. Raises NameNotResolved."""
    try:
        found = await trio.socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NameNotResolved("the name does not resolve") from error
    # A link-local answer carries its zone behind a percent sign; it is judged without.
    texts = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
    if not texts:
        raise NameNotResolved("the name has no address")
    return tuple(texts)


@dataclass(slots=True, eq=False)
class _Answer:
    """The addresses of a name, or why there are none."""

    addresses: tuple[str, ...] = ()
    error: Exception | None = None
    until: float = 0.0

    def get(self) -> tuple[str, ...]:
        if self.error is not None:
            # Each who waits has a traceback of his own.
            raise type(self.error)(*self.error.args) from self.error
        return self.addresses


@dataclass(slots=True, eq=False)
class _Lookup:
    """A look-up under way, and how many wait for it."""

    answer: _Answer = field(default_factory=_Answer)
    done: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    waiting: int = 0


class Names:
    """The look-ups of one process; `run` is their nursery."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None
        self._lookups: dict[str, _Lookup] = {}
        self._answers: dict[str, _Answer] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look up names until cancelled."""
        with threads_of_their_own():
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await trio.sleep_forever()

    async def look_up(self, host: str) -> tuple[str, ...]:
        """Return the addresses of `host`, at least one. Raises NameNotResolved."""
        answer = self._answers.get(host)
        if answer is not None and trio.current_time() < answer.until:
            return answer.get()
        lookup = self._lookups.get(host)
        if lookup is None:
            assert self._nursery is not None, "nobody runs these look-ups"
            lookup = self._lookups[host] = _Lookup()
            self._nursery.start_soon(self._ask, host, lookup)
        lookup.waiting += 1
        try:
            await lookup.done.wait()
        finally:
            lookup.waiting -= 1
            if not lookup.waiting:
                self._forget(host, lookup)
                lookup.scope.cancel()
        return lookup.answer.get()

    async def _ask(self, host: str, lookup: _Lookup) -> None:
        lookup.answer.error = NameNotResolved("the look-up was called off")
        try:
            with lookup.scope:
                await self._fill(lookup.answer, host)
        finally:
            lookup.done.set()
            self._forget(host, lookup)

    async def _fill(self, answer: _Answer, host: str) -> None:
        try:
            answer.addresses = await look_up(host)
            answer.error = None
        except Exception as error:  # noqa: BLE001 - it is for those who wait, not for all
            answer.error = error
        kept = NO_ANSWER_SECONDS if answer.error else ANSWER_SECONDS
        answer.until = trio.current_time() + kept
        self._answers.pop(host, None)
        self._answers[host] = answer
        if len(self._answers) > _MOST_ANSWERS:
            del self._answers[next(iter(self._answers))]

    def _forget(self, host: str, lookup: _Lookup) -> None:
        if self._lookups.get(host) is lookup:
            del self._lookups[host]


@dataclass(slots=True, eq=False)
class _Thread:
    """A thread that asks, and what it has found."""

    domain: str
    done: trio.Event = field(default_factory=trio.Event)
    found: list[Any] = field(default_factory=list)
    error: Exception | None = None


class _Threads(trio.abc.HostnameResolver):
    """The operating system's resolver, in threads that nothing else uses.

    A place is taken for as long as its thread lasts, whoever still waits for it, and who asks for
    the same again waits for the same thread.
    """

    def __init__(self) -> None:
        self._places = trio.CapacityLimiter(_PLACES)
        self._domains: dict[str, trio.CapacityLimiter] = {}
        self._threads: dict[tuple[object, ...], _Thread] = {}

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - trio's interface
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """See socket.getaddrinfo."""
        arguments = (host, port, family, type, proto, flags)
        thread = self._threads.get(arguments)
        if thread is None:
            thread = _Thread(_domain(host or b""))
            await self._take_place(thread)
            self._threads[arguments] = thread
            trio.lowlevel.start_thread_soon(
                partial(socket.getaddrinfo, *arguments),
                partial(self._deliver, trio.lowlevel.current_trio_token(), arguments),
                "name",
            )
        await thread.done.wait()
        if thread.error is not None:
            raise thread.error
        return thread.found

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """Refuse: nobody here asks for the name of an address."""
        raise NotImplementedError

    async def _take_place(self, thread: _Thread) -> None:
        domain = self._domains.setdefault(thread.domain, trio.CapacityLimiter(_PLACES_A_DOMAIN))
        try:
            await domain.acquire_on_behalf_of(thread)
            try:
                await self._places.acquire_on_behalf_of(thread)
            except BaseException:
                domain.release_on_behalf_of(thread)
                raise
        finally:
            self._drop_unused(thread.domain)

    def _deliver(
        self,
        token: trio.lowlevel.TrioToken,
        arguments: tuple[object, ...],
        outcome: Any,
    ) -> None:
        """Hand over what was found; this runs in the thread."""
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(self._finish, arguments, outcome)

    def _finish(self, arguments: tuple[object, ...], outcome: Any) -> None:
        thread = self._threads.pop(arguments)
        try:
            thread.found = outcome.unwrap()
        except Exception as error:  # noqa: BLE001 - it is for who waits
            thread.error = error
        thread.done.set()
        self._places.release_on_behalf_of(thread)
        self._domains[thread.domain].release_on_behalf_of(thread)
        self._drop_unused(thread.domain)

    def _drop_unused(self, domain: str) -> None:
        statistics = self._domains[domain].statistics()
        if not (statistics.borrowed_tokens or statistics.tasks_waiting):
            del self._domains[domain]


def _domain(host: bytes) -> str:
    """Return the last two labels of a name: whose servers are asked for it, or near enough."""
    return b".".join(host.rstrip(b".").split(b".")[-2:]).decode("latin-1")


@contextmanager
def threads_of_their_own() -> Iterator[None]:
    """Have names in this event loop looked up in threads that nothing else uses.

    trio has one resolver an event loop. One that somebody has put there stays.
    """
    ours = _Threads()
    before = trio.socket.set_custom_hostname_resolver(ours)
    if before is not None:
        trio.socket.set_custom_hostname_resolver(before)
    try:
        yield
    finally:
        now = trio.socket.set_custom_hostname_resolver(None)
        if now is not ours:
            trio.socket.set_custom_hostname_resolver(now)
