"""Real headless Chromium, driven from trio.

It speaks the DevTools protocol over the pipe that Chromium offers for it (JSON messages, each
ended by a NUL, on file descriptors 3 and 4), so it takes neither a WebSocket nor a driver program
nor a browser that some package downloads. All that crossed the browser's sockets is in its own
network log, written when it ends: see `Browser.traffic`.
"""

import base64
import itertools
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from tests.support.parts import require

ANSWER_SECONDS = 30.0
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    "--net-log-capture-mode=Everything",
)


class DevToolsError(Exception):
    """Chromium refused a command, or the page threw."""


@dataclass
class Browser:
    """A running Chromium."""

    home: Path
    _stream: trio.SocketStream
    _ids: Any = field(default_factory=itertools.count)
    _answers: dict[int, trio.MemorySendChannel[dict[str, Any]]] = field(default_factory=dict)
    _pages: dict[str, "Page"] = field(default_factory=dict)

    async def open(self, url: str, *, width: int = 1200, height: int = 800) -> "Page":
        """Open a tab, load `url` in it, and return when its scripts have run."""
        target = await self.command("Target.createTarget", url="about:blank")
        attached = await self.command(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page = self._pages[attached["sessionId"]] = Page(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log"):
            await page.command(f"{domain}.enable")
        await page.resize(width, height)
        await page.command("Page.navigate", url=url)
        await page.until("document.readyState === 'complete'")
        return page

    async def command(self, method: str, session: str = "", **params: object) -> dict[str, Any]:
        """Send a DevTools command and return its result."""
        message: dict[str, Any] = {"id": next(self._ids), "method": method, "params": params}
        if session:
            message["sessionId"] = session
        send, receive = trio.open_memory_channel[dict[str, Any]](1)
        self._answers[message["id"]] = send
        with trio.fail_after(ANSWER_SECONDS):
            await self._stream.send_all(json.dumps(message).encode() + b"\0")
            answer = await receive.receive()
        if "error" in answer:
            raise DevToolsError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def listen(self) -> None:
        """Hand out what Chromium says, until it closes the pipe."""
        rest = b""
        async for data in self._stream:
            *messages, rest = (rest + data).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._answers.pop(message["id"]).send_nowait(message)
                elif message.get("sessionId") in self._pages:
                    self._pages[message["sessionId"]].events.append(message)
        for waiting in self._answers.values():
            waiting.close()

    def traffic(self) -> bytes:
        """Every byte that the browser's sockets sent and received; only after it has ended."""
        log = json.loads((self.home / "net.json").read_bytes())
        passed = (event.get("params", {}).get("bytes", "") for event in log["events"])
        return b"".join(map(base64.b64decode, passed))


@dataclass
class Page:
    """A tab. `events` is all that its enabled DevTools domains have said, in order."""

    browser: Browser
    session: str
    events: list[dict[str, Any]] = field(default_factory=list)

    async def command(self, method: str, **params: object) -> dict[str, Any]:
        """Send a DevTools command about this tab and return its result."""
        return await self.browser.command(method, self.session, **params)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        answer = await self.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"]
            raise DevToolsError(thrown.get("exception", {}).get("description", thrown["text"]))
        return answer["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        again = "await new Promise(resolve => setTimeout(resolve, 10))"
        try:
            await self.evaluate(f"(async () => {{ while (!({condition})) {again}; }})()")
        except trio.TooSlowError:
            raise DevToolsError(f"never came true: {condition}") from None

    async def text(self, selector: str) -> str:
        """Return an element's text."""
        found = await self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")
        return str(found)

    async def click(self, selector: str) -> None:
        """Click into the middle of an element, with a real mouse event."""
        box = await self.evaluate(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.command(
                "Input.dispatchMouseEvent",
                type=kind,
                x=box[0],
                y=box[1],
                button="left",
                clickCount=1,
            )

    async def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Give the tab a viewport."""
        await self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    async def screenshot(self, path: Path) -> None:
        """Save what the viewport shows as a PNG."""
        picture = await self.command("Page.captureScreenshot", format="png")
        await trio.Path(path).write_bytes(base64.b64decode(picture["data"]))

    async def heap(self) -> str:
        """Return a snapshot of the page's JavaScript heap: every string it can reach."""
        await self.command("HeapProfiler.takeHeapSnapshot", reportProgress=False)
        chunks = (e for e in self.events if e["method"] == "HeapProfiler.addHeapSnapshotChunk")
        return "".join(chunk["params"]["chunk"] for chunk in chunks)

    def complaints(self) -> list[str]:
        """Return the errors in the console: exceptions, violations of the policy, failed loads."""
        logged = [e["params"]["entry"] for e in self.events if e["method"] == "Log.entryAdded"]
        thrown = [e for e in self.events if e["method"] == "Runtime.exceptionThrown"]
        return [entry["text"] for entry in logged if entry["level"] == "error"] + [
            event["params"]["exceptionDetails"]["text"] for event in thrown
        ]


@asynccontextmanager
async def chromium(home: Path) -> AsyncIterator[Browser]:
    """Run Chromium with a fresh profile in `home`; skip the test if there is no Chromium."""
    program = require("chromium", "chromium")
    ours, theirs = socket.socketpair()  # only our end may be non-blocking, Chromium's may not
    # The pipe comes in as the shell's standard input and output, whatever numbers are in use here.
    command = ["sh", "-c", 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null', program, *FLAGS]
    command += [f"--user-data-dir={home / 'profile'}", f"--log-net-log={home / 'net.json'}"]
    if os.geteuid() == 0:
        command.append("--no-sandbox")  # Chromium's sandbox refuses to be set up by root
    async with trio.open_nursery() as nursery:
        with (home / "chromium.log").open("wb") as log, theirs:
            process = await trio.lowlevel.open_process(
                command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=log
            )
        browser = Browser(home, trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        nursery.start_soon(browser.listen)
        try:
            yield browser
            with suppress(trio.EndOfChannel):  # it may be gone before it has said so
                await browser.command("Browser.close")
            with trio.fail_after(ANSWER_SECONDS):
                await process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
            nursery.cancel_scope.cancel()
            ours.close()
