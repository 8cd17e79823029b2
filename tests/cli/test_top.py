"""`swproxy top` without a terminal: one frame, plain or JSON, of whatever the other side says."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import cast

import pytest
import trio
from rich.console import Console

from swproxy.cli.feed import printable
from swproxy.cli.screen import render
from swproxy.daemon.frame import Frame
from tests.support import ROOT
from tests.support.frames import feed, frame, stream
from tests.support.nginx import free_port
from tests.support.upstream import Handler, Upstream, upstream

HOSTILE = "\x1b]0;evil\x07\x1b[2J\x9b31m\u202eabc\r\n\x7f[red]x[/red]:smile:"


async def top(
    *arguments: str, environ: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[bytes]":
    own = ("SWPROXY_CONFIG", "COLUMNS")  # libraries set the latter for the whole process
    given = {name: text for name, text in os.environ.items() if name not in own}
    return await trio.run_process(
        [sys.executable, "-m", "swproxy", "top", *arguments],
        cwd=ROOT,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**given, **(environ or {})},
    )


def admin(server: Upstream) -> tuple[str, str]:
    return "--admin", f"{server.host}:{server.port}"


async def test_no_terminal_gets_one_plain_frame_that_has_rates() -> None:
    first = frame(seconds=None, requests=[{"path": "/one"}])
    second = frame(streams=[stream(user=HOSTILE)], requests=[{"path": "/two", "app": HOSTILE}])
    async with upstream(feed(first, second)) as server:
        done = await top(*admin(server))
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    # Whatever strangers chose is there, and none of it acts.
    assert [line for line in text.split("\n") if not line.isprintable()] == []
    assert text.count("[red]x[/red]:smile:") == 0  # cut, as cells have a width
    assert r"\x1b]0;evil\x07\x1b[2J\x9b31m" in text
    for part in ("swproxy 0.1.0", "up 2h 2m", "2.5 MB", "/one", "/two"):
        assert part in text


async def test_json_is_the_frame_in_characters_that_do_nothing() -> None:
    sent = frame(streams=[stream(user=HOSTILE)])
    async with upstream(feed(sent)) as server:
        done = await top(*admin(server), "--json")
    assert json.loads(done.stdout) == sent
    assert done.stdout.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F for byte in done.stdout[:-1])


async def test_the_token_comes_from_the_configuration_or_the_environment(tmp_path: Path) -> None:
    token = "canary-admin-token-31f0"
    async with upstream(feed(frame())) as server:
        config = tmp_path / "swproxy.toml"
        # What it has no business with may be out of reach.
        config.write_text(
            f'[server]\nadmin_listen = "127.0.0.1:{server.port}"\nadmin_token = "${{file:token}}"\n'
            'tls_key = "${NOT_SET}"\n[apps.a]\nsecrets = ["${NOT_SET}"]\n'
        )
        (tmp_path / "token").write_text(token)
        for done in (
            await top("--config", str(config)),
            await top(*admin(server), environ={"SWPROXY_ADMIN_TOKEN": token}),
        ):
            assert done.returncode == 0, done.stderr
    for connection in server.connections:
        assert f"\r\nAuthorization: Bearer {token}\r\n".encode() in connection.received
    (tmp_path / "token").unlink()
    done = await top("--config", str(config))
    assert done.returncode == 2
    assert b"server.admin_token" in done.stderr


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (feed(status="401 Unauthorized"), "server.admin_token"),
        (feed(status="404 Not Found"), "an older swproxy"),
        (feed(status="503 Service Unavailable"), "as many look as may"),
        (feed(status="418 Teapot"), "answers 418"),
        (feed(frame(v=2)), "another version"),
        (feed({"no": "frame"}), "no frame"),
        (feed(hang_up=True), "hung up"),
    ],
)
async def test_it_says_why_there_is_nothing_to_see(handler: Handler, reason: str) -> None:
    async with upstream(handler) as server:
        done = await top(*admin(server))
    assert (done.returncode, done.stdout) == (1, b"")
    assert reason in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


async def test_nobody_there_and_nowhere_to_look(tmp_path: Path) -> None:
    done = await top("--admin", f"127.0.0.1:{free_port()}")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"Connection refused" in done.stderr
    done = await top("--admin", f"unix:{tmp_path}/none.sock")
    assert b"No such file" in done.stderr
    config = tmp_path / "swproxy.toml"
    config.write_text("")
    done = await top("--config", str(config))
    assert done.returncode == 2
    assert b"server.admin_listen is empty" in done.stderr


async def test_without_the_library_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['rich.console'] = None; from swproxy.cli.main import main"
    async with upstream(feed(frame())) as server:
        done = await trio.run_process(
            [sys.executable, "-c", f"{program}; main()", "top", *admin(server)],
            cwd=ROOT,
            capture_stderr=True,
            capture_stdout=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"pip install 'swproxy[top]'" in done.stderr


def lines(
    shown: dict[str, object], requests: Sequence[dict[str, object]], height: int
) -> list[str]:
    console = Console(file=StringIO(), width=100, color_system=None)
    clean = cast("Frame", printable(shown))
    console.print(render(clean, list(requests), height=height))
    return cast("StringIO", console.file).getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize("height", [3, 8, 12, 24, 50])
def test_a_frame_fits_the_screen_and_each_table_gets_its_share(height: int) -> None:
    shown = frame(
        streams=[stream(path=f"/{n}") for n in range(60)],
        more_streams=900,
        refusals=[{"code": "expired", "status": 403, "remedy": "?", "count": 3, "rate": 0.1}],
    )
    requests: list[dict[str, object]] = [{"path": f"/{n}"} for n in range(100)]
    text = lines(shown, requests, height)
    assert len(text) <= max(height, 5)
    assert all(len(line) <= 100 for line in text)
    if height >= 24:
        assert any(line.startswith("REFUSED ") for line in text)
        named = [line for line in text if line.startswith(("STREAM ", "REQUEST "))]
        counts = [int(line.split()[1].split("/")[0]) for line in named]
        assert [line.split()[1].split("/")[1] for line in named] == ["960", "100"]
        assert abs(counts[0] - counts[1]) <= 1
        # The oldest stream, and the newest request.
        assert sum("/0" in line for line in text) == 1
        assert sum("/99" in line for line in text) == 1
