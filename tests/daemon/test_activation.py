"""Sockets handed over at descriptor 3 and on, taken by a process of their own."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.wire import PATIENCE

_TAKER = """
import json, os, sys
from swproxy.daemon.activation import take_sockets
os.environ["LISTEN_PID"] = os.environ["LISTEN_PID"] or str(os.getpid())
try:
    taken = take_sockets(os.environ)
except ValueError as error:
    print(json.dumps(str(error)))
else:
    print(json.dumps([[name, str(sock.getsockname()[1] if sock.family == 2 else sock.getsockname()),
                       sock.get_inheritable(), sock.getblocking()] for name, sock in taken]))
"""


def take(sockets: list[socket.socket], *, names: str, pid: str = "", count: int = -1) -> object:
    """Return what a process that is started with `sockets` from descriptor 3 on takes of them."""
    # A shell moves the descriptors to where the service manager would put them.
    high = [os.dup(sock.fileno()) for sock in sockets]
    try:
        high = [os.dup2(each, 50 + index) for index, each in enumerate(high)]
        moves = " ".join(f"{3 + index}<&{each} {each}<&-" for index, each in enumerate(high))
        environ = os.environ | {
            "LISTEN_PID": pid,
            "LISTEN_FDS": str(len(sockets) if count < 0 else count),
            "LISTEN_FDNAMES": names,
        }
        done = subprocess.run(
            ["bash", "-c", f'exec "$0" -c "$1" {moves}', sys.executable, _TAKER],
            pass_fds=high,
            env=environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    finally:
        for each in high:
            os.close(each)
    return json.loads(done.stdout)


def test_sockets_are_taken_with_their_names(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"{tmp_path}/s")
        unix.listen()
        port = str(tcp.getsockname()[1])
        assert take([tcp, unix], names="public:admin") == [
            ["public", port, False, False],
            ["admin", f"{tmp_path}/s", False, False],
        ]
        assert take([tcp, unix], names="one") == [
            ["one", port, False, False],
            ["", f"{tmp_path}/s", False, False],
        ]


def test_sockets_for_another_process_are_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        assert take([tcp], names="public", pid="1") == []


def test_what_does_not_listen_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        with socket.create_connection(tcp.getsockname()) as connected:
            found = take([connected], names="accepted")
        assert "('accepted') is no listening stream socket" in str(found)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(("127.0.0.1", 0))
            assert "no listening stream socket" in str(take([tcp, datagrams], names="a:b"))
        assert "is no socket" in str(take([tcp], names="a", count=40))
