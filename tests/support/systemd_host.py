"""A machine for a test: a real systemd as PID 1 of its own namespaces, swproxy installed on it.

Its root is an overlay over this machine's, so every program is there and no change outlives it. It
has a network of its own with nothing but loopback. A thread of this process that has entered that
network makes sockets there; a socket stays in its network wherever it is used, so a test talks to
the machine's ports with the usual libraries.

Needs root, cgroup v2 (alone or beside v1) and overlayfs.
"""

import concurrent.futures
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import pytest

from tests.support import ROOT
from tests.support.parts import require

PATIENCE = 20.0
_CLONE_NEWNET = 0x40000000

T = TypeVar("T")

# Runs as PID 1 of the new namespaces and ends by becoming systemd. $1: a directory on a tmpfs to
# work in, $2: this Python's prefix, $3: its site-packages, $4: swproxy's source.
_BOOT = r"""
set -eu
work=$1
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$work"
mkdir "$work/changes" "$work/scratch" "$work/root"
mount -t overlay -o "lowerdir=/,upperdir=$work/changes,workdir=$work/scratch" overlay "$work/root"
cd "$work/root"
for each in python:"$2" site:"$3" source:"$4"; do
  mkdir -p "opt/${each%%:*}"; mount --bind "${each#*:}" "opt/${each%%:*}"
done
mount -t proc proc proc
mount --bind proc/sys proc/sys; mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=1777 tmpfs var/tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
  : > "dev/$device"; mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s /proc/self/fd dev/fd; ln -s pts/ptmx dev/ptmx
: > etc/machine-id; rm -rf var/log/journal
# Only the journal and what a test starts: nothing of this machine's own services.
units=etc/systemd/system
rm -rf "$units"; mkdir -p "$units"
printf '[Unit]\nRequires=systemd-journald.service\nAfter=systemd-journald.service\n' \
  > "$units/test.target"
for unit in sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount \
    dev-mqueue.mount systemd-udevd.service systemd-journal-flush.service; do
  ln -s /dev/null "$units/$unit"
done
mkdir run/before
pivot_root . run/before
umount -l run/before
mount --make-rshared /
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \
  --system --unit=test.target --log-target=journal --show-status=no </dev/null >/dev/null 2>&1
"""


class SystemdHost:
    """A booted machine. Use it as a context manager."""

    def __init__(self, work: Path) -> None:
        for binary, package in (("unshare", "util-linux"), ("nsenter", "util-linux")):
            require(binary, package)
        if os.geteuid() != 0 or not Path("/lib/systemd/systemd").exists():
            _give_up("a machine with systemd needs root, and systemd to be installed")
        self._work = work
        self._cgroup = _cgroup_root() / f"swproxy-test-{os.getpid()}"
        self._pid = 0
        self._outer: subprocess.Popen[bytes] | None = None
        self._inside: concurrent.futures.ThreadPoolExecutor | None = None

    def __enter__(self) -> "SystemdHost":
        try:
            self._boot()
        except BaseException:
            self._shut_down()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shut_down()

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command on the machine; return what it printed, errors included."""
        done = subprocess.run(
            [*self._enter(), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command on the machine, its output in a pipe."""
        return subprocess.Popen(
            [*self._enter(), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def write(self, path: str, text: str, *, owner: str = "root", mode: int = 0o644) -> None:
        """Write a file on the machine."""
        subprocess.run(
            [*self._enter(), "sh", "-c", f"umask 077 && cat > {path} && chown {owner} {path}"],
            input=text,
            text=True,
            check=True,
        )
        self.run("chmod", f"{mode:o}", path)

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).strip()

    def wait_for(self, unit: str, **properties: str) -> None:
        """Wait until properties of a unit have these values."""
        until = time.monotonic() + PATIENCE
        while any(self.show(unit, name) != value for name, value in properties.items()):
            if time.monotonic() > until:
                raise AssertionError(self.run("systemctl", "status", "-n50", unit, check=False))
            time.sleep(0.05)

    def journal(self, unit: str = "swproxy.service", *more: str) -> str:
        """Return what a unit has logged."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit, *more)

    def inside(self, work: Callable[[], T]) -> T:
        """Do `work`, which makes sockets, in the machine's network."""
        assert self._inside is not None
        return self._inside.submit(work).result(PATIENCE)

    def connect(self, port: int) -> socket.socket:
        """Open a connection to a port of the machine's loopback address."""
        return self.inside(lambda: socket.create_connection(("127.0.0.1", port), PATIENCE))

    def listen(self) -> socket.socket:
        """Listen on a free port of the machine's loopback address."""
        return self.inside(lambda: socket.create_server(("127.0.0.1", 0), backlog=1024))

    def _enter(self) -> list[str]:
        return ["nsenter", "-t", str(self._pid), "-m", "-u", "-i", "-n", "-p", "-C", "--"]

    def _boot(self) -> None:
        self._cgroup.mkdir()
        script = self._work / "boot"
        script.write_text(_BOOT)
        overlay = self._work / "machine"
        overlay.mkdir()
        site = Path(pytest.__file__).parent.parent
        own = f'echo $$ > {self._cgroup}/cgroup.procs; exec "$@"'
        spaces = ["--fork", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--net"]
        program = ["bash", str(script), str(overlay), sys.base_prefix, str(site), str(ROOT)]
        self._outer = subprocess.Popen(
            ["sh", "-c", own, "sh", "unshare", *spaces, "--kill-child=SIGKILL", *program],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._pid = self._await(self._find_systemd)
        executor = concurrent.futures.ThreadPoolExecutor(1, initializer=self._enter_network)
        self._inside = executor
        self._await(lambda: Path(f"/proc/{self._pid}/root/run/systemd/private").exists())
        self._await(lambda: self.show("test.target", "ActiveState") == "active")
        self._install()

    def _install(self) -> None:
        """Put swproxy where a virtual environment of its own would have it."""
        site = f"opt/swproxy/lib/python{sys.version_info.major}.{sys.version_info.minor}"
        python = Path(os.path.realpath(sys.executable)).name
        self.run("mkdir", "-p", "/opt/swproxy/bin", f"/{site}/site-packages")
        self.run("ln", "-s", f"/opt/python/bin/{python}", "/opt/swproxy/bin/python")
        self.write("/opt/swproxy/pyvenv.cfg", "home = /opt/python/bin\n")
        self.write(f"/{site}/site-packages/test.pth", "/opt/source\n/opt/site\n")
        self.write(
            "/opt/swproxy/bin/swproxy",
            # A Python built with a shared library looks for it where it was installed at first.
            "#!/bin/sh\nexport LD_LIBRARY_PATH=/opt/python/lib\n"
            'exec /opt/swproxy/bin/python -m swproxy "$@"\n',
            mode=0o755,
        )

    def _find_systemd(self) -> int:
        assert self._outer is not None
        if self._outer.poll() is not None:
            raise AssertionError("the machine did not boot")
        for line in (self._cgroup / "cgroup.procs").read_text().split():
            if Path(f"/proc/{line}/comm").read_text().strip() == "systemd":
                return int(line)
        for each in self._cgroup.rglob("cgroup.procs"):
            for line in each.read_text().split():
                status = Path(f"/proc/{line}/status").read_text()
                if "\nNSpid:" in status:
                    inner = status.split("\nNSpid:")[1].split("\n")[0].split()
                    if inner[-1] == "1" and status.startswith("Name:\tsystemd\n"):
                        return int(line)
        return 0

    def _await(self, probe: Callable[[], T]) -> T:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                found = probe()
            except FileNotFoundError:
                found = None
            except AssertionError:
                if time.monotonic() > until:
                    raise
                found = None
            if found:
                return found
            if time.monotonic() > until:
                raise AssertionError("the machine did not come up")
            time.sleep(0.02)

    def _enter_network(self) -> None:
        with Path(f"/proc/{self._pid}/ns/net").open() as space:
            if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def _shut_down(self) -> None:
        if self._inside is not None:
            self._inside.shutdown()
        if self._outer is not None:
            # PID 1 of a namespace takes all of it along.
            if self._pid:
                os.kill(self._pid, signal.SIGKILL)
            else:
                self._outer.kill()
            self._outer.wait(PATIENCE)
        until = time.monotonic() + PATIENCE
        while self._cgroup.exists() and time.monotonic() < until:
            for directory, _, _ in os.walk(self._cgroup, topdown=False):
                try:
                    Path(directory).rmdir()
                except OSError:
                    time.sleep(0.02)
        shutil.rmtree(self._work / "machine", ignore_errors=True)


def _cgroup_root() -> Path:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    _give_up("a machine with systemd needs cgroup v2")
    raise AssertionError


def _give_up(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
