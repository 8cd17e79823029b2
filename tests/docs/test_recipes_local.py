"""The recipe for a model server of your own: the line that `check` names opens the way to it."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.pages import block
from tests.support.shell import shell
from tests.support.stage import free_port

PATIENCE = 20.0
WORDS = ["Three", " lines", " of", " rain"]


class Ollama(BaseHTTPRequestHandler):
    """Streams an answer to a chat, over plain HTTP and to anybody."""

    def do_POST(self) -> None:
        assert self.path == "/v1/chat/completions"
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for word in WORDS:
            self.wfile.write(f"data: {word}\n\n".encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def model_server() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Ollama) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@contextmanager
def serving(directory: Path, port: int) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "swproxy", "serve"],
        cwd=directory,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        until = time.monotonic() + PATIENCE
        while "serving" not in (line := process.stderr.readline()):
            assert line, "it did not start"
            assert time.monotonic() < until
        yield
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def test_a_local_model_server(tmp_path: Path) -> None:
    init = shell(tmp_path, "swproxy init --app first --allow 'https://api.example/*'")
    assert init.returncode == 0, init.stderr
    config = tmp_path / "swproxy.toml"
    port = free_port()
    config.write_text(
        config.read_text().replace("\n#listen =", f'\nlisten = ["127.0.0.1:{port}"] #')
    )
    with model_server() as model:

        def put_in(text: str) -> str:
            return text.replace(":11434", f":{model}")

        added = shell(tmp_path, put_in(block("local")))
        assert added.returncode == 2
        line = block("local.toml").strip()
        network = line.removeprefix("private_networks = [").removesuffix("]")
        assert "apps/local.toml: allow[0]: " in added.stdout
        assert f"add {network} to upstream.private_networks" in added.stdout
        config.write_text(config.read_text().replace("\n[upstream]\n", f"\n[upstream]\n{line}\n"))
        checked = shell(tmp_path, "swproxy check")
        assert checked.returncode == 0, checked.stdout
        with serving(tmp_path, port):
            called = shell(tmp_path, put_in(block("local-call")))
    assert called.returncode == 0, called.stderr
    assert called.stdout == "".join(f"data: {word}\n\n" for word in WORDS)
