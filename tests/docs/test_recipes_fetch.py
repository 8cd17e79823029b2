"""The README's page in real Chromium: answers that grow, errors that can be read, fixed bodies."""

from functools import partial
from pathlib import Path

import trio

from swproxy.demo.answers import compose, tokens
from tests.support.chromium import Page, chromium
from tests.support.pages import block
from tests.support.stage import API_KEY, backend, stage

ANSWER = compose("Who saw the API key?", ())


async def shows(page: Page, text: str) -> None:
    await page.until(f"document.querySelector('#answer').textContent.startsWith({text!r})")


async def test_the_answer_grows_on_the_page_as_it_is_said(tmp_path: Path) -> None:
    let = trio.Semaphore(0)
    async with stage(tmp_path, pace=let.acquire) as on, backend(on):
        async with chromium(tmp_path) as browser:
            page = await browser.open(on.backend_url)
            await page.resize(360, 640, mobile=True)
            await page.click("button")
            said = ""
            for token in tokens(ANSWER)[:12]:
                said += token
                await shows(page, said)
                assert await page.text("#answer") == said
                let.release()
            for _ in range(1000):  # more than it will say: it goes on to name the headers it got
                let.release()
            await page.until("document.querySelector('#answer').textContent.endsWith('with you.')")
            whole = await page.text("#answer")
            assert whole.startswith(ANSWER.partition("For the record")[0])
            assert page.complaints() == []
        assert on.said[0].startswith("model: said all")
        traffic = browser.traffic()
        assert b"X-Sw-Signature" in traffic
        for secret in (API_KEY, on.environ["SW_SECRET"]):
            assert secret.encode() not in traffic


async def test_what_is_refused_is_shown_with_its_reason(tmp_path: Path) -> None:
    async with stage(tmp_path) as on, chromium(tmp_path) as browser:
        secret = on.environ["SW_SECRET"]
        on.environ["SW_SECRET"] = "another"
        async with backend(on):
            page = await browser.open(on.backend_url)
            await page.click("button")
            await shows(page, " [Signature does not match: ")
        on.environ["SW_SECRET"] = secret
        async with backend(on):
            # What the API refuses is the API's to say.
            await page.evaluate("document.querySelector('#answer').textContent = ''")
            await page.evaluate(
                "window.fetch = ((real) => (url, call) =>"
                " real(url, call?.body ? {...call, body: '{}'} : call))(fetch)"
            )
            await page.click("button")
            await shows(page, " [API: 400]")


async def test_an_answer_that_breaks_off_does_not_pass_for_whole(tmp_path: Path) -> None:
    shown = trio.Event()

    async def pace() -> None:
        await shown.wait()
        raise trio.BrokenResourceError

    async with stage(tmp_path, pace=pace) as on, backend(on), chromium(tmp_path) as browser:
        page = await browser.open(on.backend_url)
        await page.click("button")
        await shows(page, tokens(ANSWER)[0])
        shown.set()
        await page.until("document.querySelector('#answer').textContent.endsWith(']')")
        assert await page.text("#answer") == f"{tokens(ANSWER)[0]} [network error]"


async def test_only_the_signed_body_is_let_through(tmp_path: Path) -> None:
    async with stage(tmp_path) as on, backend(on, block("body.py")), chromium(tmp_path) as browser:
        page = await browser.open(on.backend_url)
        await page.evaluate(f"{block('body.js')}; globalThis.haiku = haiku; 0")
        answer = await page.evaluate("haiku()")
        assert answer["choices"][0]["message"]["content"] == compose("A haiku, please", ())

        another = partial(str.replace, block("body.js"))
        await page.evaluate(f"globalThis.greedy = {another('    body,', '    body: body + 1,')}; 0")
        refused = await page.evaluate("greedy()")
        assert refused["code"] == "signature-mismatch"
