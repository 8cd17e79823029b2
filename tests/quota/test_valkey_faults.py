"""A server down, killed, hung, full, replaced or closed to us: nobody waits, nothing is lost.

All of it with real servers and the real clock.
"""

import random
import re
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trustme

from swproxy.config.store_address import StoreAddress, parse_store_url
from swproxy.quota.accounts import Account, Refused, Taken
from swproxy.quota.checks import Budget, Check, End, Moment, Places, Rate, Uses
from swproxy.quota.ledger import LedgerDown
from swproxy.quota.revocations import Revocation
from swproxy.quota.valkey import Login, ValkeyLedger
from swproxy.quota.windows import MICROS, Period
from tests.support.ledgers import Note, call, url, user
from tests.support.redis_server import NEWEST, RedisServer, free_ports
from tests.support.slow_relay import slow_relay
from tests.support.wire import PATIENCE

ALL = Moment(2**52, "", lambda _: True)
ALWAYS = 2**52
SOMEONE = user(Rate(10**6, 86400, 10**6), Places(10**6))

Make = Callable[..., RedisServer]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    servers: list[RedisServer] = []

    def make_one(*settings: str, port: int = 0) -> RedisServer:
        directory = tmp_path / f"server{len(servers)}"
        directory.mkdir()
        servers.append(RedisServer(directory, *settings, port=port, program=NEWEST))
        return servers[-1]

    yield make_one
    for each in servers:
        each.stop()


@asynccontextmanager
async def ledger(
    address: StoreAddress,
    login: Login | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    note: Note | None = None,
    seconds: float = PATIENCE,
) -> AsyncIterator[ValkeyLedger]:
    made = ValkeyLedger(address, login or Login(), tls, note, seconds=seconds)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.run)
        yield made
        nursery.cancel_scope.cancel()


async def taken(ledger: ValkeyLedger, *accounts: Account) -> Taken:
    """Return a call that is taken, as soon as the store is there."""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                outcome = await ledger.admit(call(*(accounts or (SOMEONE,))))
            except LedgerDown:
                await trio.sleep(0.05)
                continue
            assert isinstance(outcome, Taken), outcome
            return outcome


async def left(ledger: ValkeyLedger, account: Account, check: Check) -> int:
    states = await ledger.parts([account.key])
    return check.left(states.get(account.key, {}).get(check.name), ALL)


async def test_down_at_the_start(make: Make) -> None:
    server, note = make(), Note()
    async with ledger(server.address, note=note) as one:
        for _ in range(5):
            with pytest.raises(LedgerDown):
                await one.admit(call(SOMEONE))
        with pytest.raises(LedgerDown):
            await one.revoke(Revocation("chat", 1, 2))
        assert note.events == ["ledger-down"]
        server.start()
        await taken(one)
        assert note.events == ["ledger-down", "ledger-up"]


async def test_killed_under_load_and_empty_when_it_comes_back(make: Make) -> None:
    server = make().start()
    once = url(Uses(1), signed=ALWAYS - MICROS, expires=ALWAYS)
    async with ledger(server.address) as one:
        outcomes: list[object] = []

        async def ask() -> None:
            while True:
                try:
                    outcomes.append(await one.admit(call(SOMEONE)))
                except LedgerDown:
                    outcomes.append(None)
                    await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
            await taken(one, once)
            server.stop()
            with trio.fail_after(PATIENCE):
                while outcomes[-20:] != [None] * 20:
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        server.start()
        await taken(one)
        # Nobody knows any more whether a URL from before has been used; one signed now is new.
        with pytest.raises(LedgerDown, match="lost"):
            await one.admit(call(url(Uses(1), name="cd" * 32, signed=1, expires=ALWAYS)))
        await taken(one, once)


async def test_a_store_that_was_emptied_is_told_again_what_is_revoked(make: Make) -> None:
    server = make().start()
    async with ledger(server.address) as one:
        for name in ("8", "9"):
            await one.revoke(Revocation("chat", 5, ALWAYS, user=name))
        server.stop()
        server.start()
        await taken(one)
        assert await one.tend()
        async with ledger(server.address) as other:
            await other.revoke(Revocation("chat", 5, ALWAYS, user="10"))
            assert await one.tend()
            for each in (one, other):
                for name in ("8", "9", "10"):
                    assert each.revocations.revoked("chat", name, "", 5)
                assert not each.revocations.revoked("chat", "9", "", 6)


async def test_what_is_kept_on_disk_is_known_after_a_restart(make: Make) -> None:
    server = make("--appendonly", "yes", "--appendfsync", "always").start()
    once = url(Uses(1), signed=ALWAYS - MICROS, expires=ALWAYS)
    async with ledger(server.address) as one:
        await taken(one, once)
        server.stop()
        server.start()
        await taken(one)
        assert isinstance(await one.admit(call(once)), Refused)


async def test_hung(make: Make) -> None:
    server, note = make().start(), Note()
    once = url(Uses(10**6), signed=ALWAYS - MICROS, expires=ALWAYS)
    async with ledger(server.address, note=note, seconds=0.1) as one:
        await taken(one, once)
        server.send_signal(signal.SIGSTOP)
        for _ in range(10):
            with pytest.raises(LedgerDown):
                await one.admit(call(once))
        assert "ledger-down" in note.events
        server.send_signal(signal.SIGCONT)
        await taken(one, once)
        # What was asked for in vain has not been taken, or is given back.
        with trio.fail_after(PATIENCE):
            while await left(one, once, Uses(10**6)) != 10**6 - 2:
                await trio.sleep(0.1)


async def test_slower_than_a_decision_waits_for(make: Make, tmp_path: Path) -> None:
    server, note = make().start(), Note()
    places = user(Places(5))
    async with (
        slow_relay(tmp_path / "slow", server.path) as relay,
        ledger(StoreAddress(path=str(relay.path)), note=note, seconds=0.1) as one,
    ):
        held = await taken(one, places)
        relay.seconds = 0.3
        for _ in range(3):
            with pytest.raises(LedgerDown):
                await one.admit(call(places))
        # It answers, and is told what has ended, but nobody waits for it or is told that it is up.
        one.settle(held, End())
        for _ in range(4):
            assert await one.tend()
            with pytest.raises(LedgerDown):
                await one.admit(call(places))
        assert note.events == ["ledger-up", "ledger-down", "ledger-down"]
        assert "too slowly" in note.details[-1]
        relay.seconds = 0
        await taken(one, places)
        assert note.events[3:] == ["ledger-up"]
        with trio.fail_after(PATIENCE):
            while await left(one, places, Places(5)) != 4:
                await trio.sleep(0.1)


async def test_a_worker_that_is_late_itself_does_not_take_the_store_for_down(make: Make) -> None:
    server, note = make().start(), Note()

    async def hog() -> None:
        while True:
            time.sleep(0.06)  # noqa: ASYNC251 - so long each turn of the loop takes
            await trio.lowlevel.checkpoint()

    async with ledger(server.address, note=note, seconds=0.05) as one, trio.open_nursery() as work:
        await taken(one)
        work.start_soon(hog)
        for _ in range(5):
            assert isinstance(await one.admit(call(SOMEONE)), Taken)
        work.cancel_scope.cancel()
    assert note.events == ["ledger-up"]


async def test_out_of_memory(make: Make) -> None:
    server = make("--maxmemory-policy", "noeviction").start()
    async with ledger(server.address) as one:
        await taken(one)
        server.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(LedgerDown, match="OOM"):
            await one.admit(call(SOMEONE))
        server.command("CONFIG", "SET", "maxmemory", "0")
        await taken(one)


def _offset(server: RedisServer, name: str) -> int:
    found = re.search(rf"^{name}:(\d+)", server.command("INFO", "replication"), re.MULTILINE)
    assert found is not None
    return int(found[1])


async def test_a_replica_takes_over(make: Make) -> None:
    ports = free_ports(2)
    at_once = ("--repl-diskless-sync-delay", "0")
    primary, replica = (make(*at_once, port=port).start() for port in ports)
    replica.command("REPLICAOF", "127.0.0.1", str(ports[0]))
    nodes = ",".join(f"127.0.0.1:{port}" for port in ports)
    once = url(Uses(1), signed=ALWAYS - MICROS, expires=ALWAYS)
    with trio.fail_after(PATIENCE):
        while "master_link_status:up" not in replica.command("INFO", "replication"):
            await trio.sleep(0.05)
    async with ledger(parse_store_url(f"redis://{nodes}")) as one:
        await taken(one, once)
        # Not by WAIT, which waits for what its own connection has written.
        written = _offset(primary, "master_repl_offset")
        with trio.fail_after(PATIENCE):
            while _offset(replica, "slave_repl_offset") < written:
                await trio.sleep(0.01)
        primary.stop()
        replica.command("REPLICAOF", "NO", "ONE")
        await taken(one)
        assert isinstance(await one.admit(call(once)), Refused)
        # Demoted while it is in use: it says so, and the other is asked.
        primary.start()
        replica.command("REPLICAOF", "127.0.0.1", str(ports[0]))
        await taken(one)


async def test_a_primary_that_is_cut_off_from_its_replicas_and_is_to_have_one(make: Make) -> None:
    server = make().start()
    async with ledger(server.address) as one:
        await taken(one)
        server.command("CONFIG", "SET", "min-replicas-to-write", "1")
        with pytest.raises(LedgerDown, match="NOREPLICAS"):
            await one.admit(call(SOMEONE))
        server.command("CONFIG", "SET", "min-replicas-to-write", "0")
        await taken(one)


async def test_wrong_password_and_then_the_right_one(make: Make) -> None:
    server, note = make("--requirepass", "the-other-password").start(), Note()
    async with ledger(server.address, Login(password="canary-password"), note=note) as one:
        with pytest.raises(LedgerDown, match="WRONGPASS"):
            await one.admit(call(SOMEONE))
        server.command(
            "-a", "the-other-password", "CONFIG", "SET", "requirepass", "canary-password"
        )
        await taken(one)
    assert note.events[-1] == "ledger-up"
    assert not any("canary" in detail for detail in note.details)


async def test_a_user_who_may_do_no_more_than_is_needed(make: Make) -> None:
    server = make().start()
    allowed = "+@read +@write +@scripting +select +time -@dangerous"
    server.command("ACL", "SETUSER", "swproxy", "on", ">word", "~{swproxy}:*", *allowed.split())
    async with ledger(server.address, Login("swproxy", "word")) as one:
        held = await taken(one)
        await one.revoke(Revocation("chat", 1, ALWAYS, user="42"))
        one.settle(held, End())
        assert await one.tend()
        assert one.revocations.revoked("chat", "42", "", 1)


async def test_a_storm_of_cancelled_requests_leaves_nothing_behind(make: Make) -> None:
    server = make().start()
    places = Places(10**6)
    async with ledger(server.address, seconds=0.1) as one:
        kept: list[Taken] = []

        async def ask(seconds: float) -> None:
            with trio.move_on_after(seconds):
                try:
                    outcome = await one.admit(call(user(places)))
                except LedgerDown:
                    return
                assert isinstance(outcome, Taken)
                kept.append(outcome)

        for _ in range(10):
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(ask, random.random() * 0.02)
        assert len(kept) < 1000
        with trio.fail_after(PATIENCE):
            while await left(one, user(places), places) != 10**6 - len(kept):
                await trio.sleep(0.1)
        for each in kept:
            one.settle(each, End())
        assert await one.tend()
        assert await left(one, user(places), places) == 10**6


async def test_what_has_ended_is_said_before_the_worker_ends(make: Make) -> None:
    server, budget = make().start(), Budget(100, Period.MONTH)
    async with ledger(server.address) as other:
        async with ledger(server.address) as one:
            outcome = await one.admit(call(user(budget), tokens=60))
            assert isinstance(outcome, Taken)
            one.settle(outcome, End(tokens=30))
        state = (await other.parts([user().key]))[user().key]
        assert state[budget.name][2:] == [30, {}]


async def test_tls_with_an_own_authority(make: Make, tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(tmp_path / "cert.pem", append=True)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (port,) = free_ports(1)
    files = ("--tls-cert-file", tmp_path / "cert.pem", "--tls-key-file", tmp_path / "key.pem")
    more = ("--tls-port", str(port), "--tls-ca-cert-file", tmp_path / "ca.pem")
    make(*map(str, (*files, *more)), "--tls-auth-clients", "no").start()
    address = parse_store_url(f"rediss://localhost:{port}")
    trusting, distrusting = ssl.create_default_context(), ssl.create_default_context()
    authority.configure_trust(trusting)
    other.configure_trust(distrusting)
    async with ledger(address, tls=trusting) as one:
        await taken(one)
    note = Note()
    async with ledger(address, tls=distrusting, note=note) as one:
        with pytest.raises(LedgerDown, match="certificate"):
            await one.admit(call(SOMEONE))


async def test_databases_are_apart(make: Make) -> None:
    server = make().start()
    zero = parse_store_url(f"unix://{server.path}")
    five = parse_store_url(f"unix://{server.path}?db=5")
    someone = user(Places(1))
    async with ledger(zero) as one, ledger(five) as other:
        await taken(one, someone)
        await taken(other, someone)
    assert "keys=" in server.command("INFO", "keyspace").partition("db5:")[2]


async def test_a_cluster_is_asked_where_the_keys_are(make: Make) -> None:
    ports = free_ports(3)
    nodes = [make("--cluster-enabled", "yes", port=port).start() for port in ports]
    slots = ((0, 5460), (5461, 10922), (10923, 16383))
    for node, (first, last) in zip(nodes, slots, strict=True):
        node.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        node.command("CLUSTER", "MEET", "127.0.0.1", str(ports[0]))
    with trio.fail_after(PATIENCE):
        while not all("cluster_state:ok" in n.command("CLUSTER", "INFO") for n in nodes):
            await trio.sleep(0.05)
    for port in ports:
        note = Note()
        async with ledger(parse_store_url(f"redis://127.0.0.1:{port}"), note=note) as one:
            held = await taken(one)
            one.settle(held, End())
            assert await one.tend()
            assert note.events == ["ledger-up"]


async def test_something_else_listens_there(tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    note = Note()

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        await sock.bind(path)
        sock.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, answer, [trio.SocketListener(sock)])
            async with ledger(StoreAddress(path=path), note=note) as one:
                with pytest.raises(LedgerDown, match="protocol"):
                    await one.admit(call(SOMEONE))
            nursery.cancel_scope.cancel()
