"""A socket that the service manager handed over, and that strangers reach: told in the log."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT


def test_a_socket_on_all_addresses_without_tls_is_told(tmp_path: Path) -> None:
    config = tmp_path / "swproxy.toml"
    config.write_text('[server]\nlisten = []\nworkers = 1\nlog_format = "json"\n')
    with socket.create_server(("0.0.0.0", 0)) as sock:
        port, descriptor = sock.getsockname()[1], sock.fileno()
        # As systemd does: from 3 on, for the process that this is.
        begin = f'exec 3<&{descriptor}; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
        command = ["bash", "-c", begin, "-", sys.executable, "-m", "swproxy", "serve"]
        with subprocess.Popen(
            [*command, "--config", str(config)],
            cwd=ROOT,
            pass_fds=[descriptor],
            stderr=subprocess.PIPE,
        ) as process:
            told = []
            try:
                assert process.stderr
                for line in process.stderr:
                    told.append(json.loads(line))
                    if told[-1]["event"] == "serving":
                        break
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(20)
    details = [each["detail"] for each in told if each["event"] == "configuration"]
    assert any(f"socket 0.0.0.0:{port}" in each and "without TLS" in each for each in details)
