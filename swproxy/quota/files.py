"""Files and directories of a ledger: nobody's but their owner's, whoever makes them.

What root makes by a command has to be usable by the service, whose directory it is.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["companions", "create", "link_to", "make_directories_of", "open_lock", "sync"]


def make_directories_of(paths: Iterable[Path]) -> None:
    """Make the directories of files where they are missing, but not those above them."""
    for path in paths:
        directory = path.parent
        with contextlib.suppress(OSError):
            directory.mkdir(mode=0o700)
            if os.geteuid() == 0:
                owner = directory.parent.stat()
                os.chown(directory, owner.st_uid, owner.st_gid)


def create(path: Path, *, exclusive: bool) -> None:
    """Make an empty file that only its directory's owner may read."""
    flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if exclusive else os.O_TRUNC)
    descriptor = os.open(path, flags, 0o600)
    try:
        _give_to_owner(path.parent, descriptor)
    finally:
        os.close(descriptor)


def _give_to_owner(directory: Path, descriptor: int) -> None:
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def link_to(path: Path, live: Path) -> None:
    """Have the symbolic link `live` lead to `path`, from one moment to the next."""
    link = live.with_name(f"{path.name}.link")
    link.symlink_to(path.name)
    if os.geteuid() == 0:
        owner = link.parent.stat()
        os.chown(link, owner.st_uid, owner.st_gid, follow_symlinks=False)
    link.replace(live)


def open_lock(live: Path, name: str) -> int:
    """Return a descriptor of a file beside `live` that is there to be locked."""
    path = live.with_name(f"{live.name}.{name}")
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _give_to_owner(path.parent, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def companions(path: Path) -> tuple[Path, ...]:
    """Return the names of what SQLite may keep beside a file."""
    return tuple(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal"))


def sync(path: Path) -> None:
    """Have a file or a directory outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
