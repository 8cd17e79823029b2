"""The demo as its user meets it: all of it running, its page open in real Chromium."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from swproxy.demo.answers import compose, tokens
from swproxy.demo.main import Running, main
from tests.support.chromium import Browser, Page, chromium

PROMPT = "What happened when I pressed the button?"
ANSWER = compose(PROMPT, ())

Start = Callable[[Callable[[], Awaitable[object]]], Awaitable[Running]]


class Gate:
    """The model's pace in the test's hands: it says one token for each that is let through."""

    def __init__(self) -> None:
        self._tokens = trio.Semaphore(0)

    def let(self, count: int) -> None:
        for _ in range(count):
            self._tokens.release()

    async def pace(self) -> None:
        await self._tokens.acquire()


@pytest.fixture
def reports() -> list[str]:
    """What the model reported."""
    return []


@pytest.fixture
def start(nursery: trio.Nursery, reports: list[str]) -> Start:
    async def start(pace: Callable[[], Awaitable[object]]) -> Running:
        running: Running = await nursery.start(partial(main, 0, pace=pace, report=reports.append))
        return running

    return start


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with chromium(tmp_path) as browser:
        yield browser


async def shows(page: Page, text: str) -> None:
    await page.until(f"document.querySelector('#answer').textContent === {json.dumps(text)}")


async def says(page: Page, state: str) -> None:
    await page.until(f"document.querySelector('#state').textContent === '{state}'")


async def budget_says(page: Page, used: int, of: int) -> None:
    text = f"{used:,} used, {of - used:,} left"
    await page.until(f"document.querySelector('#budget').textContent === '{text}'")


async def test_each_token_is_shown_before_the_next_is_said(start: Start, browser: Browser) -> None:
    gate = Gate()
    page = await browser.open((await start(gate.pace)).page_url)
    await page.click("#go")
    said = 1  # the model waits after a token
    for step in (1, 1, 2, 5, 20, 40):
        await shows(page, "".join(tokens(ANSWER)[:said]))
        assert await page.text("#state") == "streaming"
        gate.let(step)
        said += step
    gate.let(len(tokens(ANSWER)))
    await says(page, "complete")

    assert await page.text("#answer") == ANSWER
    assert await page.text("#tokens") == f"{len(tokens(ANSWER))} + {len(tokens(PROMPT))}"
    for figure in ("#first-byte", "#total"):
        assert (await page.text(figure)).endswith("s")
    assert page.complaints() == []


async def test_no_secret_reaches_the_page_or_its_traffic(start: Start, tmp_path: Path) -> None:
    running = await start(trio.lowlevel.checkpoint)
    async with chromium(tmp_path) as browser:
        page = await browser.open(running.page_url)
        await page.evaluate("document.querySelector('#prompt').value = 'Who saw the API key?'")
        await page.click("#go")
        await says(page, "complete")
        signature = await page.text("#signed div:last-child dd")
        shown = await page.evaluate("document.documentElement.outerHTML")
        heap = await page.heap()
        await page.click("#tamper")
        await page.click("#go")
        await says(page, "failed")
    traffic = browser.traffic()

    # First that these are the places to look: what the page was meant to get is there.
    assert len(signature) == 64
    assert all(signature in place for place in (shown, heap, traffic.decode("latin-1")))
    assert b"[DONE]" in traffic
    assert b"Access-Control-Allow-Headers".lower() in traffic.lower()
    for secret in (running.api_key, running.signing_secret):
        for place in (shown, heap, traffic.decode("latin-1")):
            assert secret not in place


async def test_a_tampered_url_shows_a_readable_error(
    start: Start, browser: Browser, reports: list[str]
) -> None:
    page = await browser.open((await start(trio.lowlevel.checkpoint)).page_url)
    await page.click("#tamper")
    await page.click("#go")
    await says(page, "failed")
    assert await page.evaluate("document.querySelector('#problem').checkVisibility()")
    assert await page.text("#problem-title")
    assert "signature" in await page.text("#problem-detail")
    assert await page.text("#problem-code") == "400 signature-mismatch"
    assert await page.text("#answer") == ""
    assert reports == []

    await page.click("#tamper")
    await page.click("#go")
    await says(page, "complete")
    assert await page.text("#answer") == ANSWER
    assert not await page.evaluate("document.querySelector('#problem').checkVisibility()")


async def test_the_page_says_in_plain_words_what_its_url_allows(
    start: Start, browser: Browser
) -> None:
    page = await browser.open((await start(trio.lowlevel.checkpoint)).page_url)
    await page.evaluate("document.querySelector('#user').value = 'grace'")
    await page.click("#go")
    await says(page, "complete")
    shown = await page.evaluate(
        "[...document.querySelectorAll('#terms li')].map((e) => e.textContent)"
    )
    told = next(each for each in shown if each.startswith("told from others by "))
    shown.remove(told)
    assert shown == [
        "for grace, and nobody else",
        "works once",
        "a call lasts 60 seconds at most",
        "asks stand-in-1",
        "for 300 tokens at most",
        "the first message is the user's",
        "the answer is streamed",
        "and says what it used",
        "nothing else in the request",
    ]
    await page.click("#talk")
    await says(page, "complete")
    shown = await page.evaluate(
        "[...document.querySelectorAll('#terms li')].map((e) => e.textContent)"
    )
    assert shown == [
        "for grace, and nobody else",
        "a call lasts 60 seconds at most",
        "uses 100 tokens at most",
        "for a WebSocket only",
    ]
    assert page.complaints() == []


async def test_a_cheating_page_is_refused_and_told_why(
    start: Start, browser: Browser, reports: list[str]
) -> None:
    page = await browser.open((await start(trio.lowlevel.checkpoint)).page_url)
    await page.click("#cheat")
    await page.click("#go")
    await says(page, "failed")
    assert await page.evaluate("document.querySelector('#problem').checkVisibility()")
    assert await page.text("#problem-title") == "Terms of the URL are not met"
    assert await page.text("#problem-detail") == (
        "The term 'body.model' is not met: it has to be 'stand-in-1'."
    )
    assert await page.text("#problem-code") == "403 terms-not-met"
    assert await page.text("#answer") == ""
    assert reports == []

    await page.click("#cheat")
    await page.click("#go")
    await says(page, "complete")
    assert await page.text("#answer") == ANSWER


async def test_stop_silences_the_model(start: Start, browser: Browser, reports: list[str]) -> None:
    gate = Gate()
    page = await browser.open((await start(gate.pace)).page_url)
    await page.click("#go")
    await shows(page, tokens(ANSWER)[0])
    await page.click("#stop")
    await says(page, "stopped")
    with trio.fail_after(10):
        while not reports:
            gate.let(1)
            await trio.sleep(0.01)
    assert "the caller left" in reports[0]
    assert await page.text("#answer") == tokens(ANSWER)[0]
    assert await page.evaluate("!document.querySelector('#go').disabled")


async def test_a_cut_answer_does_not_look_complete(start: Start, browser: Browser) -> None:
    said = 0

    async def pace() -> None:
        nonlocal said
        said += 1
        await trio.lowlevel.checkpoint()
        if said == 5:
            raise trio.BrokenResourceError

    page = await browser.open((await start(pace)).page_url)
    await page.click("#go")
    await says(page, "failed")
    assert await page.text("#problem-title") == "The connection failed"


async def test_an_example_prompt_asks_at_once_and_fits_a_phone(
    start: Start, browser: Browser
) -> None:
    page = await browser.open((await start(trio.lowlevel.checkpoint)).page_url)
    await page.resize(360, 740, mobile=True)
    await page.click(".chip:last-child")
    await says(page, "complete")
    assert await page.text("#answer") == compose("haiku", ())
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_a_url_works_once(start: Start, browser: Browser) -> None:
    page = await browser.open((await start(trio.lowlevel.checkpoint)).page_url)
    await page.click("#go")
    await says(page, "complete")
    assert "works once" in await page.text("#terms")
    signature = await page.text("#signed div:last-child dd")
    await page.click("#again")
    await page.click("#go")
    await says(page, "failed")
    assert await page.text("#problem-code") == "403 already-used"
    assert await page.text("#problem-detail") == "The URL may begin one call, and has."
    assert await page.text("#signed div:last-child dd") == signature
    assert not await page.evaluate("document.querySelector('#problem-wait').checkVisibility()")
    await page.click("#again")
    await page.click("#go")
    await says(page, "complete")


async def test_who_asks_too_often_is_told_when_to_ask_again(start: Start, browser: Browser) -> None:
    page = await browser.open((await start(trio.lowlevel.checkpoint)).page_url)
    for _ in range(60):  # seven would do, if the machine is quick
        await page.click("#go")
        await page.until("document.querySelector('#stop').disabled")
        if await page.text("#state") == "failed":
            break
    assert await page.text("#problem-code") == "429 rate-limited"
    assert "'ada' may make 12 requests a minute" in await page.text("#problem-detail")
    assert (await page.text("#problem-wait")).startswith("again in ")
    await page.until(
        "document.querySelector('#problem-wait').textContent === 'now it would be taken'"
    )
    await page.click("#go")
    await says(page, "complete")


async def test_what_was_used_and_what_is_left_is_shown_until_it_is_spent(
    start: Start, browser: Browser, monkeypatch: pytest.MonkeyPatch, reports: list[str]
) -> None:
    """By the month, since a minute may end in the middle of any test."""
    monkeypatch.setattr("swproxy.demo.main.USER_TOKENS", "500/month")
    used = len(tokens(PROMPT)) + len(tokens(ANSWER))
    page = await browser.open((await start(trio.lowlevel.checkpoint)).page_url)
    await budget_says(page, 0, 500)
    assert await page.text("#budget-title") == "ada's tokens this month, by swproxy's count"
    await page.click("#go")
    await says(page, "complete")
    await budget_says(page, used, 500)
    # What the next one may use, 300 and its prompt, is more than is left.
    await page.click("#go")
    await says(page, "failed")
    assert await page.text("#problem-code") == "429 budget-spent"
    assert f"of which {500 - used} are left" in await page.text("#problem-detail")
    assert len(reports) == 1
    await page.evaluate(
        "const user = document.querySelector('#user'); user.value = 'grace';"
        "user.dispatchEvent(new Event('change'))"
    )
    await budget_says(page, 0, 500)
    # On a WebSocket nobody counts, so all that it may use is charged.
    await page.click("#talk")
    await says(page, "complete")
    await budget_says(page, 100, 500)
