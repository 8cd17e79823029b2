"""The shipped units under a real systemd: installed as the guide says, then lived through a day."""

import json
import re
import subprocess
from pathlib import Path

from swproxy import sign_url
from tests.support import ROOT
from tests.support.installed import (
    SECRET,
    Client,
    Load,
    Upstream,
    main_pid,
    restarts,
    signed,
    wait_until,
    write_app,
)
from tests.support.pages import block
from tests.support.parts import require
from tests.support.systemd_host import SystemdHost

UNITS = ROOT / "systemd"


def test_the_unit_is_hardened(tmp_path: Path) -> None:
    analyze = require("systemd-analyze", "systemd")
    command = [analyze, "security", "--offline=true", "--no-pager", str(UNITS / "swproxy.service")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    exposure = re.search(r"Overall exposure level for swproxy.service: ([\d.]+)", said)
    assert exposure
    assert float(exposure[1]) <= 1.5


def test_the_guide_leads_to_a_serving_unit(host: SystemdHost, upstream: Upstream) -> None:
    assert Client(host).get(upstream, "test") == (200, b"ok")
    assert Client(host).admin("/readyz") == (200, "ready\n")
    assert host.show("swproxy.service", "ActiveState") == "active"
    user = host.run("stat", "-c", "%U", f"/proc/{main_pid(host)}").strip()
    assert user == "swproxy"
    assert host.run("/usr/local/bin/swproxy", "--version").startswith("swproxy ")
    for page in re.findall(r"man:([\w.-]+)\((\d)\)", host.show("swproxy.service", "Documentation")):
        host.run("test", "-s", f"/usr/local/share/man/man{page[1]}/{page[0]}.{page[1]}.gz")
    host.run("test", "-s", "/usr/local/share/bash-completion/completions/swproxy")
    wait_until(lambda: "serving: " in host.show("swproxy.service", "StatusText"))
    assert "applications 2" in host.show("swproxy.service", "StatusText")
    # Neither command lines nor environments of any process tell a secret.
    told = host.run("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'")
    assert "-m\nswproxy\nserve\n" in told
    assert SECRET not in told
    assert "canary-key" not in told


def test_the_journal_can_be_read_without_a_tool(host: SystemdHost, upstream: Upstream) -> None:
    assert Client(host).get(upstream, "test")[0] == 200

    def lines() -> list[dict[str, str]]:
        told = host.journal("swproxy.service", "-o", "json").splitlines()
        return [json.loads(line) for line in told]

    def requests() -> list[dict[str, str]]:
        return [line for line in lines() if line["MESSAGE"].startswith("event=request ")]

    wait_until(requests)
    last = requests()[-1]
    assert last["PRIORITY"] == "6"
    assert last["MESSAGE"].startswith(
        f"event=request app=test method=GET origin={upstream.url} path=/ok status=200"
        " outcome=complete bytes_up=0 bytes_down=2 "
    )
    # As the documentation searches it.
    with host.listen() as closed_soon:
        gone = f"http://127.0.0.1:{closed_soon.getsockname()[1]}"
    write_app(host, "gone", gone)
    host.run("systemctl", "reload", "swproxy")
    url = sign_url("gone", SECRET, "http://edge", f"{gone}/x", 600, "GET").removeprefix(
        "http://edge"
    )
    wait_until(lambda: Client(host).open(url).status == 502)

    def found() -> list[str]:
        said = host.run("sh", "-c", block("journal"), check=False)
        return [line for line in said.splitlines() if " event=request " in f" {line}"]

    wait_until(found)
    assert all("outcome=upstream-failed" in line and "app=gone" in line for line in found())
    host.run("rm", "/etc/swproxy/apps/gone.toml")
    host.run("systemctl", "reload", "swproxy")


def test_a_connection_starts_the_service(host: SystemdHost, upstream: Upstream) -> None:
    host.run("systemctl", "stop", "swproxy.service")
    assert host.show("swproxy.service", "ActiveState") == "inactive"
    assert Client(host).get(upstream, "test") == (200, b"ok")
    host.wait_for("swproxy.service", ActiveState="active")


def test_a_reload_rotates_a_key_and_keeps_streams(host: SystemdHost, upstream: Upstream) -> None:
    host.write("/etc/swproxy/keys/api", "one\n", owner="root:swproxy", mode=0o640)
    write_app(host, "rotating", upstream.url, "Bearer ${file:/etc/swproxy/keys/api}")
    host.run("systemctl", "reload", "swproxy")
    wait_until(lambda: Client(host).get(upstream, "rotating")[0] == 200)
    upstream.go_on.clear()
    stream = Client(host).open(signed(upstream, "rotating", "/stream"))
    assert stream.read(5) == b"first"
    pid = main_pid(host)

    host.write("/etc/swproxy/keys/api", "two\n", owner="root:swproxy", mode=0o640)
    host.run("systemctl", "reload", "swproxy")

    def key_in_use() -> str:
        Client(host).get(upstream, "rotating")
        return upstream.authorizations[-1]

    wait_until(lambda: key_in_use() == "authorization: Bearer two".replace("a", "A", 1))
    upstream.go_on.set()
    assert stream.read() == b"-last"
    assert main_pid(host) == pid
    host.run("rm", "/etc/swproxy/apps/rotating.toml")


def test_a_broken_file_changes_nothing_and_says_why(host: SystemdHost, upstream: Upstream) -> None:
    host.write("/etc/swproxy/apps/broken.toml", "allow = 1\n", owner="root:swproxy", mode=0o640)
    try:
        said = host.run("systemctl", "reload", "swproxy", check=False)
        assert "failed" in said
        assert "broken.toml" in host.journal()
        # Whoever signals the daemon without asking first is told by the status.
        host.run("systemctl", "kill", "--kill-whom=main", "-s", "HUP", "swproxy")
        wait_until(lambda: "reload refused" in host.show("swproxy.service", "StatusText"))
        assert "broken.toml" in host.show("swproxy.service", "StatusText")
        assert Client(host).get(upstream, "test") == (200, b"ok")
    finally:
        host.run("rm", "/etc/swproxy/apps/broken.toml")
    host.run("systemctl", "reload", "swproxy")
    wait_until(lambda: host.show("swproxy.service", "StatusText").startswith("serving: "))


def test_a_crash_is_followed_by_a_start(host: SystemdHost, upstream: Upstream) -> None:
    before, count = main_pid(host), restarts(host)
    # All of it at once: workers whose supervisor is gone would still take a connection or two.
    host.run("systemctl", "kill", "--signal=KILL", "swproxy.service")
    assert Client(host).get(upstream, "test") == (200, b"ok")  # it waited in the socket's queue
    wait_until(lambda: restarts(host) == count + 1)
    host.wait_for("swproxy.service", ActiveState="active", SubState="running")
    assert main_pid(host) != before


def test_a_stopped_process_trips_the_watchdog(host: SystemdHost, upstream: Upstream) -> None:
    host.run("mkdir", "-p", "/run/systemd/system/swproxy.service.d")
    drop_in = "/run/systemd/system/swproxy.service.d/test.conf"
    host.write(drop_in, "[Service]\nWatchdogSec=1s\nTimeoutAbortSec=1s\n")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "swproxy")
    count = restarts(host)
    host.run("kill", "-STOP", main_pid(host))
    wait_until(lambda: restarts(host) > count)
    assert Client(host).get(upstream, "test") == (200, b"ok")
    assert "Watchdog timeout" in host.run("journalctl", "--no-pager", "-u", "swproxy.service")
    host.run("rm", drop_in)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "swproxy")


def test_reloads_and_restarts_under_load_refuse_nobody(
    host: SystemdHost, upstream: Upstream
) -> None:
    with Load(host, upstream) as load:
        load.wait_for(5)
        for _ in range(2):
            host.run("systemctl", "restart", "swproxy")
            load.wait_for(5)
        for _ in range(2):
            host.run("systemctl", "reload", "swproxy")
            load.wait_for(5)
    assert load.failures == []


def test_a_stop_waits_for_a_stream(host: SystemdHost, upstream: Upstream) -> None:
    upstream.go_on.clear()
    stream = Client(host).open(signed(upstream, "test", "/stream"))
    assert stream.read(5) == b"first"
    host.run("systemctl", "stop", "--no-block", "swproxy.service")
    host.wait_for("swproxy.service", ActiveState="deactivating")
    wait_until(lambda: "draining: streams 1" in host.show("swproxy.service", "StatusText"))
    assert Client(host).admin("/readyz") == (503, "draining\n")
    upstream.go_on.set()
    assert stream.read() == b"-last"
    host.wait_for("swproxy.service", ActiveState="inactive")
    assert host.show("swproxy.service", "Result") == "success"
    assert Client(host).get(upstream, "test") == (200, b"ok")


def test_credentials_of_systemd_serve_as_files(host: SystemdHost, upstream: Upstream) -> None:
    host.run("mkdir", "-p", "/run/systemd/system/swproxy.service.d", "/etc/credentials")
    host.write("/etc/credentials/api", "from-a-credential\n", mode=0o600)
    drop_in = "/run/systemd/system/swproxy.service.d/credential.conf"
    host.write(drop_in, "[Service]\nLoadCredential=api:/etc/credentials/api\n")
    write_app(host, "credential", upstream.url, "Bearer ${file:api}")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "swproxy")
    assert Client(host).get(upstream, "credential") == (200, b"ok")
    assert upstream.authorizations[-1] == "Authorization: Bearer from-a-credential"


def test_no_secret_reached_the_journal(host: SystemdHost, upstream: Upstream) -> None:
    told = host.run("journalctl", "--no-pager", "-o", "export")
    for secret in (SECRET, "canary-key", "from-a-credential", "X-Sw-Signature"):
        assert secret not in told


def test_limits_are_kept_over_a_restart_and_root_may_look(
    host: SystemdHost, upstream: Upstream
) -> None:
    once = sign_url(
        "test", SECRET, "http://edge", f"{upstream.url}/ok", 600, "GET", terms={"uses": 1}
    ).removeprefix("http://edge")

    def status() -> int:
        with Client(host).open(once) as answer:
            return answer.status

    assert [status(), status()] == [200, 403]
    command = ["env", "SWPROXY_CONFIG=/etc/swproxy/swproxy.toml", "/usr/local/bin/swproxy"]
    wait_until(lambda: '"refused": 1' in host.run(*command, "usage", "--json"))
    host.run("systemctl", "restart", "swproxy")
    assert status() == 403
    # Nor does it begin anew when memory is lost, and with it what was not on disk.
    host.run("systemctl", "stop", "swproxy.service")
    host.run("sh", "-c", "rm -r /run/swproxy/store")
    # Whoever comes first makes the files, and root leaves them to the service.
    assert '"refused": 2' in host.run(*command, "usage", "--json")
    assert status() == 403
    host.run(*command, "revoke", "test", "--user", "42")
    owners = host.run("sh", "-c", "stat -c %U:%a /run/swproxy/store/* /var/lib/swproxy/*").split()
    assert set(owners) <= {"swproxy:600", "swproxy:777"}, owners
    assert status() == 403
