"""What happens to a ledger in SQLite when its file, its disk or its neighbours fail."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from swproxy.quota import livefile
from swproxy.quota.accounts import Account, Refused, Taken
from swproxy.quota.checks import Budget, End, Places, Rate, Uses
from swproxy.quota.figures import Figures
from swproxy.quota.keeper import Keeper
from swproxy.quota.ledger import Ledger, LedgerDown, Used
from swproxy.quota.livefile import current
from swproxy.quota.revocations import Revocation
from swproxy.quota.sqlite import SqliteLedger
from swproxy.quota.windows import MICROS, Period
from tests.support.ledgers import NOON, Note, SqliteStore, app, call, url, user
from tests.support.parts import require

FIVE = user(Rate(5, 86400, 5))


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path)


async def take(ledger: Ledger, *accounts: Account, tokens: int = 0) -> Taken:
    outcome = await ledger.admit(call(*accounts, tokens=tokens))
    assert isinstance(outcome, Taken), outcome
    return outcome


async def is_refused(ledger: Ledger, *accounts: Account) -> bool:
    return isinstance(await ledger.admit(call(*accounts)), Refused)


async def is_down(ledger: Ledger, *accounts: Account) -> bool:
    try:
        await ledger.admit(call(*accounts or [FIVE]))
    except LedgerDown:
        return True
    return False


@contextlib.contextmanager
def small_disk(at: Path, size: str) -> Iterator[None]:
    """Mount a file system of its own, or skip where that is not permitted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(at)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def fill(directory: Path) -> Path:
    """Fill a file system to the last byte."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return ballast


@contextlib.contextmanager
def unchangeable(*paths: Path) -> Iterator[None]:
    """Have the kernel refuse every write to files, those of who has them open included."""
    chattr = require("chattr", "e2fsprogs")
    if subprocess.run([chattr, "+i", *paths], capture_output=True, check=False).returncode:
        pytest.skip("no right to make a file immutable, or a file system without")
    try:
        yield
    finally:
        subprocess.run([chattr, "-i", *paths], check=True)


def spoil(path: Path, *, start: int = 0) -> None:
    """Overwrite all pages of a database, and make sure that they are what is read."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * (size - start))
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def test_whoever_ends_while_the_last_snapshot_is_written_is_in_one(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers end together, and leave the snapshot to the one that has the lock."""
    assert store.place.snapshot
    clock = store.clock

    def keeper() -> Keeper:
        return Keeper(store.place, lambda: clock.now, lambda: clock.ticks, lambda *_: None)

    one, two, first, later = keeper(), keeper(), Figures(), Figures()
    for each in (one, two):
        db, _ = each.open("", corrupted=False)
        db.close()
        each.turn("holder", Figures(), renew=False)
    first.of(NOON, "chat", "41").add(Used(refused=1))
    later.of(NOON, "chat", "42").add(Used(refused=1))
    ends = [lambda: two.close("two", later)]

    def write(db: sqlite3.Connection, snapshot: Path) -> None:
        livefile.write_snapshot(db, snapshot)
        while ends:
            ends.pop()()

    monkeypatch.setattr("swproxy.quota.housekeeping.write_snapshot", write)
    one.close("one", first)
    assert not ends
    with contextlib.closing(sqlite3.connect(store.place.snapshot)) as db:
        assert db.execute("SELECT user, refused FROM used").fetchall() == [("41", 1), ("42", 1)]


async def test_after_a_restart_of_the_machine_counts_go_on_from_the_snapshot(
    store: SqliteStore,
) -> None:
    once = url(Uses(2))
    async with store.ledger() as ledger:
        for _ in range(4):
            ledger.settle(await take(ledger, FIVE, user(Places(1), name="held")), End())
        await take(ledger, once, user(Places(1), name="held"))
        await ledger.revoke(Revocation("chat", NOON, NOON + 600 * MICROS))
    shutil.rmtree(store.place.live.parent)
    store.place.live.parent.mkdir()
    store.clock.ticks = 5 * MICROS
    # Even where nothing waits to be counted, it is known from the first request on.
    lazy = SqliteLedger(store.place, clock=lambda: NOON, at_once=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(lazy.run)
        assert lazy.revocations
        nursery.cancel_scope.cancel()
    shutil.rmtree(store.place.live.parent)
    store.place.live.parent.mkdir()
    note = Note()
    async with store.ledger(note) as ledger:
        await take(ledger, FIVE)
        assert await is_refused(ledger, FIVE)
        # Whoever held a place is gone, with the machine's last start.
        await take(ledger, user(Places(1), name="held"))
        await take(ledger, once)
        assert await is_refused(ledger, once)
        assert ledger.revocations.revoked("chat", "", "ab" * 32, NOON)
    assert note.failures == 0
    assert set(note.events) <= {"ledger-up"}


async def test_a_live_file_of_an_earlier_start_is_not_trusted(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with store.ledger() as ledger:
        await take(ledger, FIVE)
    path = current(store.place)
    assert path
    # Who is not told when the machine was started, as a hardened service, takes it for the same.
    boot = tmp_path / "boot_id"
    monkeypatch.setattr(livefile, "_BOOT_ID", boot)
    async with store.ledger() as ledger:
        assert ledger
    assert current(store.place) == path
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM accounts")  # as if the disk had not got it
        db.commit()
    boot.write_text("12345678-0000-0000-0000-000000000000\n")
    async with store.ledger() as ledger:
        for _ in range(4):
            await take(ledger, FIVE)
        assert await is_refused(ledger, FIVE)
    assert current(store.place) not in (None, path)


async def test_a_file_that_is_removed_while_in_use_is_written_again_and_nothing_is_lost(
    store: SqliteStore,
) -> None:
    note, someone = Note(), user(Places(2), name="held")
    async with store.ledger(note) as one, store.ledger() as other:
        held = await take(other, FIVE, someone)
        for path in store.place.live.parent.iterdir():
            path.unlink()
        await take(one, FIVE, someone)
        await take(other, FIVE)
        assert await is_refused(other, someone)
        assert await one.tend()
        # The old file is of no use any more: a decision waits for the other one.
        await take(other, FIVE)
        await take(one, FIVE)
        assert await is_refused(one, FIVE)
        assert await is_refused(other, FIVE)
        assert await is_refused(one, someone)
        other.settle(held, End())
        await take(one, someone)
        async with store.ledger() as third:
            assert await is_refused(third, FIVE)
            assert await is_refused(third, someone)
    assert note.events == ["ledger-up", "ledger-removed"]


async def test_with_its_directory_gone_the_open_file_serves_on(store: SqliteStore) -> None:
    note = Note()
    async with store.ledger(note) as ledger:
        await take(ledger, FIVE)
        shutil.rmtree(store.place.live.parent)
        assert not await ledger.tend()
        for _ in range(3):
            await take(ledger, FIVE)
        store.place.live.parent.mkdir()
        assert await ledger.tend()
        await take(ledger, FIVE)
        assert await is_refused(ledger, FIVE)
    assert note.events == ["ledger-up", "ledger-down", "ledger-removed", "ledger-up"]


@pytest.mark.parametrize("running", [True, False])
async def test_a_corrupted_file_is_moved_aside_and_one_time_urls_of_before_are_refused(
    store: SqliteStore, running: bool
) -> None:
    note = Note()
    before, after = url(Uses(1)), url(Uses(1), name="cd" * 32, signed=NOON + 12 * MICROS)
    budget = url(Budget(10, Period.LIFE), name="ef" * 32)
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(store.ledger(note))
        await take(first, before, FIVE)
        store.clock.pass_by(11)
        await first.tend()
        await take(first, FIVE)
        path = current(store.place)
        assert path
        if not running:
            await stack.aclose()
            first = await stack.enter_async_context(broken(store, path, note))
        else:
            spoil(path)
            await first.tend()
            await first.tend()
        other = await stack.enter_async_context(store.ledger())
        for ledger in (first, other):
            assert await is_down(ledger, before)
            assert await is_down(ledger, budget)
        store.clock.pass_by(1)
        await take(first, after)
        assert await is_refused(other, after)
        # What the snapshot knew is known still: one call of two, or both that the end wrote down.
        for _ in range(4 if running else 3):
            await take(other, FIVE)
        assert await is_refused(first, FIVE)
    aside = list(store.place.live.parent.glob("*.corrupted-*"))
    assert len(aside) == 1
    assert "ledger-corrupted" in note.events
    assert any(str(aside[0]) in detail for detail in note.details)


def broken(
    store: SqliteStore, path: Path, note: Note
) -> contextlib.AbstractAsyncContextManager[SqliteLedger]:
    spoil(path)
    return store.ledger(note)


async def test_a_file_broken_in_the_middle_is_found_when_it_is_opened(store: SqliteStore) -> None:
    async with store.ledger() as ledger:
        for i in range(200):
            await take(ledger, user(Rate(5, 60, 5), name=f"user-{i}"))
    path = current(store.place)
    assert path
    spoil(path, start=path.stat().st_size // 2)
    note = Note()
    async with store.ledger(note) as ledger:
        await take(ledger, FIVE)
    assert note.events == ["ledger-corrupted", "ledger-up"]


async def test_with_the_snapshot_broken_too_counts_begin_anew_and_it_is_told(
    store: SqliteStore,
) -> None:
    once = url(Uses(1))
    async with store.ledger() as ledger:
        await take(ledger, once)
    shutil.rmtree(store.place.live.parent)
    store.place.live.parent.mkdir()
    assert store.place.snapshot
    spoil(store.place.snapshot)
    note = Note()
    async with store.ledger(note) as ledger:
        assert await is_down(ledger, once)
        await take(ledger, FIVE)
    assert note.events == ["ledger-corrupted", "ledger-up"]
    assert len(list(store.place.snapshot.parent.glob("*.corrupted-*"))) == 1


@pytest.mark.parametrize("kept", ["live", "snapshot"])
async def test_a_file_of_a_newer_version_is_left_as_it_is(store: SqliteStore, kept: str) -> None:
    async with store.ledger() as ledger:
        await take(ledger, FIVE)
    path = current(store.place)
    assert path
    assert store.place.snapshot
    if kept == "snapshot":
        shutil.rmtree(store.place.live.parent)
        store.place.live.parent.mkdir()
        path = store.place.snapshot
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    content = path.read_bytes()
    note = Note()
    async with store.ledger(note) as ledger:
        assert await is_down(ledger)
    assert note.events == ["ledger-down"]
    assert "newer version" in note.details[0]
    assert path.read_bytes() == content


async def test_somebody_elses_database_is_left_as_it_is(store: SqliteStore) -> None:
    with contextlib.closing(sqlite3.connect(store.place.live)) as db:
        db.execute("CREATE TABLE accounts (id INTEGER)")
    content = store.place.live.read_bytes()
    note = Note()
    async with store.ledger(note) as ledger:
        assert await is_down(ledger)
    assert "not one of swproxy's" in note.details[0]
    assert store.place.live.read_bytes() == content


async def test_a_file_that_is_no_database_is_moved_aside(store: SqliteStore) -> None:
    store.place.live.write_bytes(b"no database at all, but a text of some length\n" * 9)
    note = Note()
    async with store.ledger(note) as ledger:
        await take(ledger, FIVE)
    assert note.events[0] == "ledger-corrupted"


async def test_a_full_disk_refuses_what_it_can_not_write_and_serves_when_there_is_room(
    store: SqliteStore,
) -> None:
    note = Note()
    with small_disk(store.place.live.parent, "600k"):
        async with store.ledger(note) as ledger:
            held = await take(ledger, user(Places(1), name="held"))
            await take(ledger, FIVE)
            ballast = fill(store.place.live.parent)
            downs = 0
            for i in range(60):
                downs += await is_down(ledger, user(Rate(5, 60, 5), name=f"user-{i}" * 10))
            assert downs
            ledger.settle(held, End(), Used(tokens_in=1))
            await ledger.tend()
            ballast.unlink()
            assert await ledger.tend()
            for _ in range(4):
                await take(ledger, FIVE)
            assert await is_refused(ledger, FIVE)
            await trio.sleep(0.01)
            await take(ledger, user(Places(1), name="held"))
    assert note.failures


async def test_a_snapshot_that_can_not_be_written_is_told_once_and_tried_again(
    store: SqliteStore,
) -> None:
    note, snapshot = Note(), store.place.snapshot
    assert snapshot
    with small_disk(snapshot.parent, "100k"):
        async with store.ledger(note) as ledger:
            old = snapshot.read_bytes()
            ballast = fill(snapshot.parent)
            for i in range(3):
                await take(ledger, user(Rate(1, 1, 1), name=str(i)))
                store.clock.pass_by(11)
                assert await ledger.tend()
            assert snapshot.read_bytes() == old
            assert {path.name for path in snapshot.parent.iterdir()} == {snapshot.name, "ballast"}
            ballast.unlink()
            store.clock.pass_by(11)
            await ledger.tend()
            assert snapshot.read_bytes() != old
            await trio.run_process(["mount", "-o", "remount,ro", snapshot.parent])
            await take(ledger, FIVE)
            store.clock.pass_by(11)
            assert await ledger.tend()
            await take(ledger, FIVE)
    assert note.events == ["ledger-up", "snapshot-failed", "snapshot-written", "snapshot-failed"]


async def test_made_read_only_while_in_use_it_refuses_and_serves_again(store: SqliteStore) -> None:
    note = Note()
    async with store.ledger(note) as ledger:
        await take(ledger, FIVE)
        path = current(store.place)
        assert path
        with unchangeable(path, path.with_name(path.name + "-wal")):
            assert await is_down(ledger)
            assert not await ledger.tend()
        assert await ledger.tend()
        for _ in range(4):
            await take(ledger, FIVE)
        assert await is_refused(ledger, FIVE)
    assert note.events == ["ledger-up", "ledger-down", "ledger-up"]


@contextlib.contextmanager
def held_by_another(store: SqliteStore) -> Iterator[None]:
    """Keep the file to write to, as a process does that hangs in the middle of it."""
    path = current(store.place)
    assert path
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as hung:
        hung.execute("BEGIN IMMEDIATE")
        yield
        hung.execute("ROLLBACK")


async def test_while_another_process_holds_the_file_decisions_give_up_and_nothing_stands_still(
    store: SqliteStore,
) -> None:
    async with store.ledger() as ledger, store.ledger() as other:
        places = user(Places(1), name="held")
        held = await take(ledger, places)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await trio.sleep(0.001)
                turns += 1

        with held_by_another(store):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(count)
                assert await is_down(ledger)
                nursery.cancel_scope.cancel()
            ledger.settle(held, End())
        assert turns > 10
        # Settled late, but settled: seen by this worker at once, and by others in a moment.
        await take(ledger, app(Rate(1, 1, 1)))
        await take(other, places)


async def test_a_settlement_that_finds_the_file_busy_is_applied_without_another_decision(
    store: SqliteStore,
) -> None:
    async with store.ledger() as ledger, store.ledger() as other:
        places = user(Places(1), name="held")
        held = await take(ledger, places)
        with held_by_another(store):
            ledger.settle(held, End())
            await trio.sleep(0.01)
        with trio.fail_after(5):
            while await is_refused(other, places):
                await trio.sleep(0.001)


async def test_nobody_but_the_owner_may_read_the_files(store: SqliteStore) -> None:
    async with store.ledger() as ledger:
        await take(ledger, FIVE)
        names = set()
        for directory in (store.place.live.parent, store.place.live.parent.parent / "state"):
            for path in directory.iterdir():
                names.add(path.name.replace(str(current(store.place)), "live"))
                assert path.is_symlink() or path.stat().st_mode & 0o077 == 0, path
        assert len(names) >= 6


async def test_what_former_live_files_leave_behind_is_removed(store: SqliteStore) -> None:
    old = store.place.live.with_name("ledger.sqlite.0123abcd")
    young = store.place.live.with_name("ledger.sqlite.0123abce")
    for path in (old, old.with_name(old.name + "-wal"), young):
        path.write_bytes(b"")
    os.utime(old, (1, 1))
    async with store.ledger() as ledger:
        await take(ledger, FIVE)
        store.clock.pass_by(61)
        await ledger.tend()
        assert not old.exists()
        assert not old.with_name(old.name + "-wal").exists()
        assert young.exists()
