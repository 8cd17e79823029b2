"""The demo's realtime stand-in: called by a real library, and from the page in real Chromium."""

import json
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.trio.client import connect

from swproxy.demo.answers import tokens
from swproxy.demo.main import Running, main
from swproxy.demo.model import CA_FILE
from tests.support.chromium import Page, chromium

PROMPT = "What happened when I pressed the button?"


@pytest.fixture
def reports() -> list[str]:
    """What the model reported."""
    return []


@pytest.fixture
async def running(nursery: trio.Nursery, reports: list[str]) -> Running:
    started: Running = await nursery.start(
        partial(main, 0, pace=trio.lowlevel.checkpoint, report=reports.append)
    )
    return started


@pytest.fixture
async def page(running: Running, tmp_path: Path) -> AsyncIterator[Page]:
    async with chromium(tmp_path) as browser:
        yield await browser.open(running.page_url)


async def says(page: Page, state: str) -> None:
    await page.until(f"document.querySelector('#state').textContent === '{state}'")


def call(running: Running, key: str) -> Any:
    url = running.model_url.replace("https", "wss") + "/v1/realtime"
    context = ssl.create_default_context(cafile=CA_FILE)
    headers = {"Authorization": f"Bearer {key}"}
    return connect(url, ssl=context, additional_headers=headers, proxy=None)


async def ask(client: Any, text: str) -> list[str]:
    """Return the tokens of one answer."""
    await client.send(json.dumps({"type": "response.create", "text": text}))
    said = []
    while (event := json.loads(await client.recv()))["type"] != "response.done":
        assert event["type"] == "response.output_text.delta"
        said.append(event["delta"])
    return said


async def test_it_repeats_whatever_it_hears(running: Running, reports: list[str]) -> None:
    async with call(running, running.api_key) as client:
        for text in ("one", "two words", "é" * 9000, PROMPT):
            assert await ask(client, text) == tokens(text)
        pong = await client.ping(b"there?")
        with trio.fail_after(10):
            await pong.wait()
        await client.aclose(4000)
        assert client.close_code == 4000
    with trio.fail_after(10):
        while not reports:
            await trio.sleep(0.01)
    assert "the caller left" in reports[0]


async def test_it_wants_the_key(running: Running) -> None:
    with pytest.raises(InvalidStatus, match="401"):
        async with call(running, "wrong"):
            pass


@pytest.mark.parametrize("message", ["no JSON", "[1]", "x" * 70000])
async def test_what_it_does_not_understand_ends_it(running: Running, message: str) -> None:
    async with call(running, running.api_key) as client:
        await client.send(message)
        with pytest.raises(ConnectionClosed):
            await client.recv()


async def test_the_second_button_talks_over_a_websocket(
    page: Page, running: Running, reports: list[str]
) -> None:
    await page.click("#talk")
    await says(page, "complete")
    assert await page.text("#answer") == PROMPT
    assert await page.text("#tokens") == str(len(tokens(PROMPT)))
    for figure in ("#first-byte", "#total"):
        assert (await page.text(figure)).endswith("s")
    rows = await page.text("#signed")
    assert running.swproxy_url.replace("http", "ws") in rows
    assert running.model_url.replace("https", "wss") + "/v1/realtime" in rows
    assert page.complaints() == []
    assert await page.evaluate("!document.querySelector('#go').disabled")
    assert await page.evaluate("document.activeElement.id") == "talk"
    await page.click("#go")
    await says(page, "complete")


async def test_a_tampered_websocket_url_shows_why_it_was_refused(
    page: Page, reports: list[str]
) -> None:
    await page.click("#tamper")
    await page.click("#talk")
    await says(page, "failed")
    assert "signature" in await page.text("#problem-detail")
    assert await page.text("#problem-code") == "400 signature-mismatch"
    assert reports == []


async def test_stop_ends_the_websocket(
    nursery: trio.Nursery, reports: list[str], tmp_path: Path
) -> None:
    silent = partial(main, 0, pace=trio.sleep_forever, report=reports.append)
    running: Running = await nursery.start(silent)
    async with chromium(tmp_path) as browser:
        page = await browser.open(running.page_url)
        await page.click("#talk")
        await says(page, "talking")
        await page.click("#stop")
        await says(page, "stopped")
        with trio.fail_after(10):
            while not reports:
                await trio.sleep(0.01)
        assert reports == ["realtime: the caller left after I had said 1 tokens"]
        assert await page.text("#answer") == tokens(PROMPT)[0]


async def test_both_buttons_fit_a_phone(page: Page) -> None:
    await page.resize(360, 740, mobile=True)
    await page.click("#talk")
    await says(page, "complete")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
