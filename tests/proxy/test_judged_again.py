"""A body that is held takes its time; meanwhile its URL expires, or its application is gone.

It is held because it is signed, or because terms are about it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import trio

from swproxy.config.config import App, Config, Upstream
from swproxy.config.listen_address import TcpAddress
from swproxy.daemon.listeners import close_listeners, open_listeners
from swproxy.daemon.service import Service
from swproxy.policy.destination import Pattern
from swproxy.quota import accounts as quota
from swproxy.quota import checks
from swproxy.quota.ledger import NoLedger, Used
from swproxy.quota.revocations import Revocation, Revocations
from swproxy.quota.windows import FOREVER
from swproxy.sw1.terms import read_pairs
from tests.support.proxy import Recorder, sign
from tests.support.upstream import take_and_answer
from tests.support.upstream import upstream as upstream_server
from tests.support.wire import APP_ID, SECRET, End, Response

BODY = b"a body that takes its time"
EXPIRY = 3
"""Seconds; enough to arrive in on a busy machine, as dates are cut to whole ones."""


def app(key: str = "old", secret: str = SECRET, allow: str = "*") -> App:
    headers = ((b"X-Key", key.encode()),)
    return App(APP_ID, (secret,), (Pattern.parse(allow),), headers)


def config(*apps: App) -> Config:
    opened = Upstream.model_validate({"private_networks": ["127.0.0.0/8"]})
    return Config(upstream=opened, apps={each.id: each for each in apps})


@dataclass
class Running:
    service: Service
    place: tuple[str, int]

    @property
    def held(self) -> int:
        return self.service.worker.spools.held

    def reload(self, after: Config) -> None:
        self.service.worker.config = after


@asynccontextmanager
async def service() -> AsyncIterator[Running]:
    listeners = open_listeners([TcpAddress("127.0.0.1", 0)])
    running = Service(config(app()), listeners, Recorder())
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(running.run)
            yield Running(running, listeners[0].sock.getsockname())
            nursery.cancel_scope.cancel()
    finally:
        close_listeners(listeners)


async def meanwhile(
    running: Running, url: str, then: Callable[[], float | None], **options: int
) -> Response:
    """Send a request with all of its body but a byte, let `then` happen, and send the byte."""
    signed = sign("http://a", url, "POST", body=BODY, **options).removeprefix("http://a")
    client = End(await trio.open_tcp_stream(*running.place))
    head = f"POST {signed} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n\r\n"
    await client.send(head.encode() + BODY[:-1])
    while not running.held:
        await trio.sleep(0.002)
    await trio.sleep(then() or 0)
    await client.send(BODY[-1:])
    try:
        return await client.read_response()
    finally:
        await client.aclose()


@pytest.mark.parametrize(
    ("after", "code"),
    [
        (config(), b"signature-mismatch"),
        (config(app(secret="another secret")), b"signature-mismatch"),
        (config(app(allow="https://elsewhere.example/*")), b"destination-not-allowed"),
        (replace(config(app()), limits=config().limits.model_copy(update={"expiry_seconds": 1})),
         b"expiry-too-long"),
    ],
    ids=["removed", "secret replaced", "no more allowed", "limits"],
)  # fmt: skip
async def test_what_a_reload_takes_away_makes_no_call(after: Config, code: bytes) -> None:
    async with upstream_server(take_and_answer) as server, service() as running:
        answer = await meanwhile(running, server.url, lambda: running.reload(after))
        assert (answer.status, code in answer.body) == (403 if b"not-al" in code else 400, True)
        assert server.connections == []
        assert running.held == 0


async def test_a_url_that_expires_makes_no_call() -> None:
    async with upstream_server(take_and_answer) as server, service() as running:
        answer = await meanwhile(running, server.url, lambda: EXPIRY + 0.1, expiry=EXPIRY)
        assert b'"expired"' in answer.body
        assert server.connections == []


JSON = b'{"model":"small"}'


async def checked(
    running: Running, url: str, then: Callable[[], float | None], expiry: int = 60
) -> Response:
    """Do as `meanwhile` does, with a body that terms are about and that is not signed."""
    signed = sign("http://a", url, "POST", expiry=expiry, terms={"body.model": "small"})
    client = End(await trio.open_tcp_stream(*running.place))
    head = (
        f"POST {signed.removeprefix('http://a')} HTTP/1.1\r\nHost: a\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(JSON)}\r\n\r\n"
    )
    await client.send(head.encode() + JSON[:-1])
    while not running.held:
        await trio.sleep(0.002)
    await trio.sleep(then() or 0)
    await client.send(JSON[-1:])
    try:
        return await client.read_response()
    finally:
        await client.aclose()


async def test_a_body_that_terms_are_about_is_judged_by_what_holds_then() -> None:
    stricter = config(replace(app(), terms=read_pairs("body.model=large")))
    async with upstream_server(take_and_answer) as server, service() as running:
        answer = await checked(running, server.url, lambda: running.reload(config(app())))
        assert answer.status == 200
        for then, code in (
            (lambda: running.reload(stricter), b'"terms-not-met"'),
            (lambda: running.reload(config()), b'"signature-mismatch"'),
            (lambda: EXPIRY + 0.1, b'"expired"'),
        ):
            running.reload(config(app()))
            before = len(server.received)
            expiry = EXPIRY if code == b'"expired"' else 60
            assert code in (await checked(running, server.url, then, expiry)).body
            assert len(server.received) == before
            assert running.held == 0


async def test_a_replaced_key_is_the_new_one() -> None:
    both = replace(app("new"), secrets=("another secret", SECRET))
    async with upstream_server(take_and_answer) as server, service() as running:
        answer = await meanwhile(running, server.url, lambda: running.reload(config(both)))
        assert answer.status == 200
        assert b"X-Key: new\r\n" in server.received
        assert server.received.endswith(BODY)


async def test_an_application_that_is_there_by_then_makes_it() -> None:
    async with upstream_server(take_and_answer) as server, service() as running:
        running.reload(config())
        answer = await meanwhile(running, server.url, lambda: running.reload(config(app())))
        assert answer.status == 200


class SlowLedger(NoLedger):
    """A ledger that takes every call, once it is told to."""

    def __init__(self) -> None:
        self.asked, self.go = trio.Event(), trio.Event()
        self.ends: list[checks.End] = []

    async def admit(self, call: quota.Call) -> quota.Taken:
        self.asked.set()
        await self.go.wait()
        return quota.Taken(call, "holder", ())

    def settle(self, taken: quota.Taken, end: checks.End, used: Used | None = None) -> None:
        self.ends.append(end)


@pytest.mark.parametrize("how", ["removed", "secret replaced", "revoked"])
async def test_a_call_that_waits_to_be_counted_is_ended_like_any(how: str) -> None:
    async with upstream_server(take_and_answer) as server, service() as running:
        worker = running.service.worker
        ledger = worker.ledger = SlowLedger()
        signed = sign("http://a", server.url, terms={"uses": 1}).removeprefix("http://a")
        client = End(await trio.open_tcp_stream(*running.place))
        await client.send(f"GET {signed} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await ledger.asked.wait()
        if how == "revoked":
            ledger.revocations = Revocations([Revocation(APP_ID, FOREVER, FOREVER)])
            worker.end_revoked(ledger.revocations)
        else:
            running.reload(config() if how == "removed" else config(app(secret="another secret")))
            worker.end_orphaned()
        ledger.go.set()
        answer = await client.read_response()
        await client.aclose()
        assert (answer.status, b'"revoked"' in answer.body) == (403, True)
        assert server.connections == []
        assert ledger.ends == [checks.End(returned=True)]
