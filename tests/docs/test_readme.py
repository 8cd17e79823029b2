"""The README is short, and its commands do what it says, from an empty directory on."""

import contextlib
import json
import os
import re
import shutil
import urllib.request
from pathlib import Path

import pytest
import trio

from swproxy.demo.answers import compose
from swproxy.demo.model import Model
from tests.support import ROOT
from tests.support.pages import README, block, blocks
from tests.support.stage import API_KEY, PATIENCE, Stage, credentials, free_port, let_in, listens
from tests.support.terminal import terminal


def test_it_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 250


def test_first_screen_has_the_two_commands_and_then_the_screenshot() -> None:
    text = README.read_text()
    screen = text[: text.index("## ")]
    assert [each.name for each in blocks(README)[:2]] == ["demo", "tests"]
    assert screen.index(block("demo")) < screen.index(block("tests")) < screen.index("![")
    for name in ("demo", "tests"):
        assert os.access(ROOT / block(name).strip(), os.X_OK)


def said(printed: str) -> str:
    """Return what the model said, given the events that curl printed."""
    events = re.findall(r"^data: (.*)$", printed, re.MULTILINE)
    assert events.pop() == "[DONE]"
    assert len(events) > 20
    chunks = [json.loads(event) for event in events]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


def fetch(url: str, data: bytes | None = None) -> bytes:
    with urllib.request.urlopen(url, data, timeout=PATIENCE) as answer:
        body: bytes = answer.read()
        return body


async def test_five_minutes_in_three_terminals(tmp_path: Path) -> None:
    """Types every line as it stands there; what this environment has is not downloaded again."""
    shutil.copytree(ROOT / "swproxy", tmp_path / "swproxy" / "swproxy")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "swproxy")
    work = tmp_path / "work"
    work.mkdir()
    async with contextlib.AsyncExitStack() as stack, trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        model = Model(API_KEY, pace=trio.lowlevel.checkpoint, report=lambda _: None)
        await nursery.start(model.serve, listeners)
        port = listeners[0].socket.getsockname()[1]
        on = Stage(work, free_port(), free_port(), port, {})
        one, two, three = [
            await stack.enter_async_context(terminal(tmp_path, work)) for _ in range(3)
        ]
        with trio.fail_after(180):
            make, *rest = block("install").splitlines()
            await one.run(make)
            here = Path(pytest.__file__).parent.parent
            [site] = (work / ".venv/lib").glob("python*/site-packages")
            (site / "here.pth").write_text(str(here))
            await one.run("\n".join(rest))
            assert str(work / ".venv/bin/swproxy") in await one.run("command -v swproxy")
            on.environ |= credentials(await one.run(block("init")))
            let_in(on)
            await one.type(on.put_in(block("serve")))
            await until_it_listens(on.swproxy_port)

            assert said(await two.run(on.put_in(block("curl")))) == compose("A haiku, please", ())

            on.save("backend.py")
            on.save("page.html")
            await three.type(on.put_in(block("uvicorn")))
            await until_it_listens(on.backend_port)
            page = await trio.to_thread.run_sync(fetch, on.backend_url)
            assert page == (work / "page.html").read_bytes()
            signed = json.loads(await trio.to_thread.run_sync(fetch, f"{on.backend_url}/sign", b""))
            assert signed["url"].startswith(f"http://127.0.0.1:{on.swproxy_port}/?X-Sw-")

            for each in (three, one):
                await each.interrupt()
                await each.run("true")
        nursery.cancel_scope.cancel()


async def until_it_listens(port: int) -> None:
    while not await listens(port):
        await trio.sleep(0.02)
