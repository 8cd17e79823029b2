"""The shipped units when things go wrong and when they end, by the guide's own commands."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from swproxy import __version__
from tests.support.installed import (
    PORT,
    Client,
    Load,
    Upstream,
    do,
    guide,
    main_pid,
    restarts,
    signed,
    wait_until,
)
from tests.support.pages import block
from tests.support.systemd_host import PATIENCE, SystemdHost

SOCKETS = ("swproxy.socket", "swproxy-admin.socket")
NEXT = "0.2.0"


@contextmanager
def hurried(host: SystemdHost) -> Iterator[None]:
    """Let failed starts follow each other ten times faster than the unit has it."""
    drop_in = "/run/systemd/system/swproxy.service.d/hurry.conf"
    host.run("mkdir", "-p", "/run/systemd/system/swproxy.service.d")
    host.write(drop_in, "[Service]\nRestartSec=100ms\n")
    host.run("systemctl", "daemon-reload")
    yield
    host.run("rm", "-r", "/run/systemd/system/swproxy.service.d")
    host.run("systemctl", "daemon-reload")


class Visitor:
    """A client that connects and waits for its answer, however long that takes."""

    def __init__(self, host: SystemdHost, upstream: Upstream) -> None:
        self.answer: object = None
        self._thread = threading.Thread(target=self._ask, args=(host, upstream))
        self._thread.start()

    def _ask(self, host: SystemdHost, upstream: Upstream) -> None:
        try:
            self.answer = Client(host).get(upstream, "test")
        except OSError as error:
            self.answer = error

    def wait(self) -> object:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.answer


def test_a_faulty_configuration_does_not_take_the_sockets_down(
    host: SystemdHost, upstream: Upstream
) -> None:
    file = "/etc/swproxy/apps/broken.toml"
    host.write(file, "allow = 1\n", owner="root:swproxy", mode=0o640)
    with hurried(host):
        said = host.run("systemctl", "restart", "swproxy", check=False)
        assert "failed" in said
        visitors = [Visitor(host, upstream) for _ in range(3)]
        # systemd's own limit is five starts in ten seconds, and the sockets were gone with it.
        wait_until(lambda: restarts(host) > 5)
        for each in SOCKETS:
            assert host.show(each, "ActiveState") == "active"
        assert "broken.toml: allow: expects a list" in host.journal()
        assert [each.answer for each in visitors] == [None] * 3
        host.run("rm", file)
        # Mended is enough: nobody has to start anything.
        assert [each.wait() for each in visitors] == [(200, b"ok")] * 3
    host.wait_for("swproxy.service", ActiveState="active", SubState="running")


def test_a_stop_as_the_guide_has_it_holds(host: SystemdHost, upstream: Upstream) -> None:
    with Load(host, upstream) as load:
        load.wait_for(5)
        do(host, block("stop"))
        wait_until(lambda: load.failures)
        for unit in ("swproxy.service", *SOCKETS):
            assert host.show(unit, "ActiveState") == "inactive"
    assert {type(each) for each in load.failures} <= {ConnectionRefusedError, ConnectionResetError}
    with pytest.raises(ConnectionRefusedError):
        host.connect(PORT)
    host.run("systemctl", "start", "swproxy")
    for each in SOCKETS:
        assert host.show(each, "ActiveState") == "active"
    assert Client(host).get(upstream, "test") == (200, b"ok")


def running_version(host: SystemdHost) -> str:
    command = host.run("cat", f"/proc/{main_pid(host)}/cmdline")
    return command.removeprefix("/opt/swproxy-").partition("/")[0]


def test_an_upgrade_and_the_way_back_cut_nothing_and_refuse_nobody(
    host: SystemdHost, upstream: Upstream
) -> None:
    host.install(NEXT)
    assert "no fault" in do(host, guide("upgrade"))
    assert running_version(host) == __version__
    for change, version in (("switch", NEXT), ("back", __version__)):
        upstream.go_on.clear()
        stream = Client(host).open(signed(upstream, "test", "/stream"))
        assert stream.read(5) == b"first"
        changing = host.start("bash", "-euc", f"cd /opt/source\n{block(change)}")
        host.wait_for("swproxy.service", ActiveState="deactivating")
        visitor = Visitor(host, upstream)
        wait_until(lambda: "draining: streams 1" in host.show("swproxy.service", "StatusText"))
        assert visitor.answer is None
        upstream.go_on.set()
        assert stream.read() == b"-last"
        assert visitor.wait() == (200, b"ok")
        said, _ = changing.communicate(timeout=PATIENCE)
        assert changing.returncode == 0, said
        assert running_version(host) == version


def test_nothing_is_left_behind(host: SystemdHost, upstream: Upstream) -> None:
    assert "/etc/swproxy\n" in traces(host)
    do(host, block("uninstall"))
    assert traces(host) == ""
    assert "swproxy" not in host.run("getent", "passwd")
    assert "swproxy" not in host.run("getent", "group")
    assert "swproxy" not in host.run("systemctl", "list-units", "--all", "--no-legend")
    with pytest.raises(ConnectionRefusedError):
        host.connect(PORT)


def traces(host: SystemdHost) -> str:
    places = ("/etc", "/opt", "/run", "/usr/local", "/usr/share/man", "/usr/share/bash-completion",
              "/var/lib", "/var/cache", "/tmp", "/var/tmp")  # fmt: skip
    # The cache of continuous integration is this machine's, not swproxy's.
    names = ("-iname", "*swproxy*", "-not", "-name", "swproxy-ci*")
    return host.run("find", *places, "-xdev", *names, check=False)
