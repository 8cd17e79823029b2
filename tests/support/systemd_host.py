"""A machine for a test: a real systemd as PID 1 of its own namespaces, swproxy installed on it.

Its root is an overlay over this machine's, so every program is there and no change outlives it. It
has a network of its own with nothing but loopback. A process that has entered that network makes
sockets there and hands them to this one; a socket stays in its network wherever it is used, so a
test talks to the machine's ports with the usual libraries.

Needs root, or sudo that asks for no password now; cgroup v2 (alone or beside v1) and overlayfs.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import pytest

from tests.support import ROOT
from tests.support.parts import give_up, require

PATIENCE = 60.0

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
# As switch_root does; pivot_root is not in every util-linux.
mount --move . /
exec chroot . sh -c 'mount --make-rshared / && exec "$@"' sh \
  env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \
  --system --unit=test.target --log-target=journal --show-status=no </dev/null
"""

# Makes sockets in the machine's network for the process that listens on the Unix socket $1.
_MAKE_SOCKETS = r"""
import socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
    door.connect(sys.argv[1])
    while port := int(door.recv(16) or 0):
        try:
            made = (
                socket.create_server(("127.0.0.1", 0), backlog=1024)
                if port < 0
                else socket.create_connection(("127.0.0.1", port), 20)
            )
        except OSError as error:
            door.sendall(str(error.errno).encode())
        else:
            with made:
                socket.send_fds(door, [b"0"], [made.fileno()])
"""


class SystemdHost:
    """A booted machine. Use it as a context manager."""

    def __init__(self, work: Path) -> None:
        for binary, package in (("unshare", "util-linux"), ("nsenter", "util-linux")):
            require(binary, package)
        if not Path("/lib/systemd/systemd").exists():
            give_up("a machine with systemd needs systemd to be installed")
        self._as_root = _as_root()
        self._work = work
        self._boot_log = work / "boot.log"
        self._cgroup = _cgroup_root() / f"swproxy-test-{os.getpid()}"
        self._pid = 0
        self._outer: subprocess.Popen[bytes] | None = None
        self._maker: subprocess.Popen[bytes] | None = None
        self._door: socket.socket | None = None
        self._one_at_the_door = threading.Lock()

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

    def install(self, version: str) -> None:
        """Put swproxy where the guide has the virtual environment of a version."""
        place = f"/opt/swproxy-{version}"
        site = f"{place}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        python = Path(os.path.realpath(sys.executable)).name
        self.run("mkdir", "-p", f"{place}/bin", site)
        self.run("ln", "-s", f"/opt/python/bin/{python}", f"{place}/bin/python")
        self.write(f"{place}/pyvenv.cfg", "home = /opt/python/bin\n")
        self.write(f"{site}/test.pth", "/opt/source\n/opt/site\n")
        self.write(
            f"{place}/bin/swproxy",
            # A Python built with a shared library looks for it where it was installed at first.
            "#!/bin/sh\nexport LD_LIBRARY_PATH=/opt/python/lib\n"
            f'exec {place}/bin/python -m swproxy "$@"\n',
            mode=0o755,
        )

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

    def connect(self, port: int) -> socket.socket:
        """Open a connection to a port of the machine's loopback address."""
        connection = self._make_socket(port)
        connection.settimeout(PATIENCE)
        return connection

    def listen(self) -> socket.socket:
        """Listen on a free port of the machine's loopback address."""
        return self._make_socket(-1)

    def _make_socket(self, port: int) -> socket.socket:
        assert self._door is not None
        with self._one_at_the_door:
            self._door.sendall(str(port).encode())
            said, descriptors, _, _ = socket.recv_fds(self._door, 16, 1)
        if not descriptors:
            raise OSError(int(said), f"port {port}: {os.strerror(int(said))}")
        return socket.socket(fileno=descriptors[0])

    def _enter(self) -> list[str]:
        spaces = ["-m", "-u", "-i", "-n", "-p", "-C"]
        return [*self._as_root, "nsenter", "-t", str(self._pid), *spaces, "--"]

    def _outside(self, *command: str) -> None:
        """Run a command as root, beside the machine."""
        subprocess.run([*self._as_root, *command], stdin=subprocess.DEVNULL, check=True)

    def _boot(self) -> None:
        self._outside("mkdir", str(self._cgroup))
        script = self._work / "boot"
        script.write_text(_BOOT)
        overlay = self._work / "machine"
        overlay.mkdir()
        site = Path(pytest.__file__).parent.parent
        own = f'echo $$ > {self._cgroup}/cgroup.procs; exec "$@"'
        spaces = ["--fork", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--net"]
        program = ["bash", str(script), str(overlay), sys.base_prefix, str(site), str(ROOT)]
        with self._boot_log.open("wb") as log:
            self._outer = subprocess.Popen(
                [
                    *self._as_root, "sh", "-c", own, "sh",
                    "unshare", *spaces, "--kill-child=SIGKILL", *program,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # of this session still: sudo knows its user by the terminal
            )  # fmt: skip
        self._pid = self._await(self._find_systemd)
        self._await(lambda: self.run("test", "-e", "/run/systemd/private") == "")
        self._open_door()
        self._await(lambda: self.show("test.target", "ActiveState") == "active")

    def _find_systemd(self) -> int:
        assert self._outer is not None
        if self._outer.poll() is not None:
            raise AssertionError(f"the machine did not boot: {self._boot_log.read_text()}")
        for pid in self._processes():
            status = Path(f"/proc/{pid}/status").read_text()
            if status.startswith("Name:\tsystemd\n") and re.search(
                r"^NSpid:.*\t1$", status, re.MULTILINE
            ):
                return int(pid)
        return 0

    def _processes(self) -> list[str]:
        """Return the processes of the machine, and what started it."""
        groups = self._cgroup.rglob("cgroup.procs")
        return [pid for group in groups for pid in group.read_text().split()]

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
                raise AssertionError("the machine did not come up, or not go down")
            time.sleep(0.02)

    def _open_door(self) -> None:
        path = str(self._work / "door")
        enter = [*self._as_root, "nsenter", "-t", str(self._pid), "-n", "--"]
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.settimeout(PATIENCE)
            listener.bind(path)
            listener.listen()
            self._maker = subprocess.Popen(
                [*enter, sys.executable, "-c", _MAKE_SOCKETS, path],
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
            self._door, _ = listener.accept()
            self._door.settimeout(PATIENCE)

    def _shut_down(self) -> None:
        if self._door is not None:
            self._door.close()
        if self._maker is not None:
            self._maker.wait(PATIENCE)
        if self._outer is not None:
            # PID 1 of a namespace takes all of it along.
            if pids := [str(self._pid)] if self._pid else self._processes():
                self._outside("kill", "-KILL", *pids)
            self._outer.wait(PATIENCE)
        self._await(self._remove_cgroup)

    def _remove_cgroup(self) -> bool:
        """Try to; a group is busy until the last of its processes is gone."""
        remove = ["find", str(self._cgroup), "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]
        subprocess.run([*self._as_root, *remove], stderr=subprocess.DEVNULL, check=False)
        return not self._cgroup.exists()


def _as_root() -> list[str]:
    """Return what makes a command behind it one of root's."""
    if os.geteuid() == 0:
        return []
    prefix = ["sudo", "-n"]
    if (
        shutil.which("sudo") is None
        or subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL, check=False).returncode
    ):
        give_up("a machine with systemd needs root, or sudo without a password (sudo -v)")
    return prefix


def _cgroup_root() -> Path:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    places = [place for _, place, kind, *_ in mounts if kind == "cgroup2"]
    if not places:
        give_up("a machine with systemd needs cgroup v2")
    return Path(places[0])
