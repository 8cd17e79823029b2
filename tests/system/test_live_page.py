"""The live page in real Chromium, over a whole daemon with two workers, while there is traffic."""

import json
import re
import signal
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from swproxy import sign_url
from swproxy.policy.problems import PROBLEMS
from tests.support.chromium import Browser, Page, chromium
from tests.support.live_traffic import LIMITS, Clients, Model
from tests.support.running import Daemon, daemon
from tests.support.upstream import upstream
from tests.support.wire import API_KEY, APP_ID, PATIENCE, SECRET, End, Response

STREAMS, ASKED, SPOILED, BROKEN = 20, 40, 5, 2
TOKEN = "canary-admin-token-5a6b"


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with chromium(tmp_path) as browser:
        yield browser


async def open_page(browser: Browser, running: Daemon, **size: int) -> Page:
    return await browser.open(f"http://localhost:{running.admin_port}/", **size)


async def table(page: Page, name: str) -> list[list[str]]:
    """Return a table's cells, row by row."""
    found: list[list[str]] = await page.evaluate(
        f"[...document.querySelectorAll('#{name} tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.innerText.trim()))"
    )
    return found


async def metrics(running: Daemon) -> Mapping[str, float]:
    _, text = await running.ask("/metrics")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def total(found: Mapping[str, float], name: str, label: str = "") -> int:
    return int(sum(n for key, n in found.items() if key.startswith(name + "{") and label in key))


def histogram_quantile(found: Mapping[str, float], share: float) -> float:
    """Return a quantile of the time to first byte, as PromQL's function of that name does."""
    series = re.compile(r'swproxy_time_to_first_byte_seconds_bucket\{le="(.*)"\}')
    buckets = [(float(m[1]), n) for key, n in found.items() if (m := series.fullmatch(key))]
    rank, below, least = share * buckets[-1][1], 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            return least + (bound - least) * (rank - below) / (count - below)
        below, least = count, bound
    raise AssertionError


def in_seconds(text: str) -> float:
    found = re.fullmatch(r"([\d.]+)\s*(m?s)", text)
    assert found, text
    return float(found[1]) * {"ms": 0.001, "s": 1}[found[2]]


async def load(nursery: trio.Nursery, clients: Clients) -> None:
    """Have answers stream without an end, and ask well and badly meanwhile."""
    for _ in range(STREAMS):
        nursery.start_soon(clients.stream, APP_ID)
    async with trio.open_nursery() as asking:
        for _ in range(ASKED):
            asking.start_soon(clients.ask, APP_ID)
        for _ in range(SPOILED):
            asking.start_soon(partial(clients.ask, APP_ID, spoil="0123"))
        for _ in range(BROKEN):
            asking.start_soon(clients.ask, APP_ID, "/v1/broken")
    with trio.fail_after(PATIENCE):
        while len(clients.streaming) < STREAMS:
            await trio.sleep(0.01)


async def test_its_numbers_are_those_of_metrics_and_of_the_load(
    browser: Browser, tmp_path: Path
) -> None:
    model = Model(pause=0.02, most=1 << 20)
    async with (
        upstream(model) as server,
        daemon(tmp_path / "daemon", server="workers = 2", app=LIMITS) as running,
        trio.open_nursery() as nursery,
    ):
        page = await open_page(browser, running, width=1440, height=1180)
        await page.until("document.body.dataset.link === 'live'")
        clients = Clients(running, server.url, (APP_ID,))
        await load(nursery, clients)
        asked = ASKED + SPOILED + BROKEN
        assert clients.statuses == {200: ASKED, 400: SPOILED, 502: BROKEN}

        await page.until(f"document.querySelector('#streams').textContent === '{STREAMS}'")
        await page.until(f"document.querySelector('#about').textContent.includes(' {asked} req')")
        await page.until("parseInt(document.querySelector('#tokens').textContent) > 0")
        assert await running.metric('swproxy_active_streams{kind="http"}') == STREAMS
        shown = await table(page, "running")
        assert len(shown) == STREAMS
        assert {row[1] for row in shown} == {APP_ID}
        assert all(f"POST {server.url}/v1/chat/completions" in row[3] for row in shown)
        assert "End" not in repr(shown)  # nobody has allowed it
        (app,) = await table(page, "apps")
        assert app[:2] == [APP_ID, f"{STREAMS}"]
        workers = await table(page, "workers")
        assert [row[0] for row in workers] == ["worker 0", "worker 1", "supervisor"]
        assert sum(int(row[4] or 0) for row in workers) == STREAMS
        await look_good(page, tmp_path)

        model.finish.set()
        await page.until("document.querySelector('#streams').textContent === '0'")
        ended = asked + STREAMS
        await page.until(f"document.querySelector('#about').textContent.includes(' {ended} req')")
        with trio.fail_after(PATIENCE):
            while clients.statuses.total() < ended:
                await trio.sleep(0.01)
        found = await metrics(running)
        assert total(found, "swproxy_requests_total") == ended == clients.statuses.total()
        assert total(found, "swproxy_bytes_total", 'direction="down"') == clients.received.total()
        for name in (APP_ID, ""):
            key = f'swproxy_bytes_total{{app="{name}",direction="down"}}'
            assert found[key] == clients.received[name]
        answered = await page.evaluate("document.querySelector('#down').title")
        assert answered == f"{clients.received.total():,} bytes since the start"
        read, written = model.used["prompt_tokens"], model.used["completion_tokens"]
        assert total(found, "swproxy_tokens_total", 'kind="input"') == read
        assert total(found, "swproxy_tokens_total", 'kind="output"') == written
        assert await page.text("#tokens-total") == f"{read:,} read, {written:,} written"
        p50 = in_seconds(await page.text("#p50"))
        assert p50 == pytest.approx(histogram_quantile(found, 0.5), rel=0.06)
        refusals = await page.evaluate(
            "[...document.querySelectorAll('#refusals li')].map((each) =>"
            " ['code', '.count', '.remedy'].map((part) =>"
            " each.querySelector(part).firstChild.textContent))"
        )
        assert {(each[0].split()[1], int(each[1])) for each in refusals} == {
            (code, int(found[f'swproxy_refusals_total{{code="{code}"}}']))
            for code in ("signature-mismatch", "upstream-closed")
        }
        for code, _, remedy in refusals:
            assert remedy == PROBLEMS[code.split()[1]].remedy
        logged = await running.wait_for("request", ended)
        shown = await table(page, "ended")
        assert {row[9] for row in shown} == {each["request_id"] for each in logged}
        assert len(shown) == ended
        await reveals_nothing(page)
        assert page.complaints() == []


async def look_good(page: Page, directory: Path) -> None:
    """Have a look in all circumstances: nothing sticks out, and the dark is dark."""
    grounds = []
    for scheme in ("light", "dark"):
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        await page.command("Emulation.setEmulatedMedia", features=media)
        for width in (1440, 1024, 412):
            await page.resize(width, 900, mobile=width < 500)
            wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, width
            await page.screenshot(directory / f"{scheme}-{width}.png")
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        grounds.append(sum(map(int, re.findall(r"\d+", ground))))
    assert grounds[0] > 600 > 200 > grounds[1]
    await page.resize(1440, 1180)


async def reveals_nothing(page: Page) -> None:
    seen = await page.evaluate("document.documentElement.outerHTML") + await page.heap()
    assert APP_ID in seen
    for secret in (SECRET, API_KEY, "X-Sw-", "Signature="):
        assert secret not in seen


async def begin(end: End) -> None:
    """Begin an answer that has no end, however long a busy machine takes."""
    await end.read_head()
    await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst")
    await trio.sleep_forever()


HOSTILE = "<img/src=x/onerror=document.title='caught'>"


async def test_what_comes_from_outside_is_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    async with upstream(begin) as server, daemon(tmp_path / "daemon") as running:
        client = await running.connect()
        url = f"{server.url}/{HOSTILE}?q=canary-query"
        signed = sign_url(APP_ID, SECRET, "http://edge", url, 60, "GET", terms={"user": HOSTILE})
        target = signed.removeprefix("http://edge").encode()
        await client.send(b"GET %b HTTP/1.1\r\nHost: edge\r\n\r\n" % target)
        await client.read_until(b"first")
        page = await open_page(browser, running)
        await page.until("document.querySelector('#running tbody tr')")
        ((_, app, user, call, *_),) = await table(page, "running")
        assert (app, user) == (APP_ID, HOSTILE)
        assert "onerror" in call
        await client.aclose()
        await page.until("document.querySelector('#ended tbody tr')")
        assert HOSTILE in repr(await table(page, "ended"))
        assert await page.evaluate("document.querySelectorAll('main img, main script').length") == 0
        assert "caught" not in await page.evaluate("document.title")
        assert "canary-query" not in await page.evaluate("document.documentElement.outerHTML")
        assert page.complaints() == []


def signed_request(url: str, user: str) -> bytes:
    signed = sign_url(APP_ID, SECRET, "http://edge", url, 600, "GET", terms={"user": user})
    return b"GET %b HTTP/1.1\r\nHost: edge\r\n\r\n" % signed.removeprefix("http://edge").encode()


async def status(running: Daemon, request: bytes) -> int:
    client = await running.connect()
    await client.send(request)
    found = Response.parse(await client.read_head()).status
    await client.aclose()
    return found


async def press(page: Page, user: str, which: int, then: str) -> None:
    """Press a button in the row of a user's call, and then one in what it asks."""
    find = (
        "[...document.querySelectorAll('#running tbody tr')]"
        f".find((row) => row.cells[2].textContent === {json.dumps(user)})"
    )
    await page.until(f"{find}?.querySelectorAll('button').length === 2")
    await page.evaluate(f"{find}.querySelectorAll('button')[{which}].click()")
    await page.until("document.querySelector('#sure').open")
    await page.click(f"#sure button[value={then}]")


@pytest.mark.parametrize("workers", [1, 2])
async def test_its_buttons_end_a_call_and_revoke_a_user(
    browser: Browser, tmp_path: Path, workers: int
) -> None:
    server_lines = f"workers = {workers}\nadmin_actions = true"
    async with (
        upstream(begin) as server,
        daemon(tmp_path / "daemon", server=server_lines) as running,
    ):
        requests = {user: signed_request(server.url, user) for user in ("ada", "grace", "alan")}
        clients: dict[str, End] = {}
        for user, data in requests.items():
            clients[user] = await running.connect()
            await clients[user].send(data)
            await clients[user].read_until(b"first")
        page = await open_page(browser, running)
        await press(page, "ada", 0, "no")
        await press(page, "ada", 0, "yes")
        await clients["ada"].wait_closed()
        (ended,) = await running.wait_for("request")
        assert (ended["user"], ended["outcome"], ended["code"]) == ("ada", "aborted", "ended")
        (told,) = await running.wait_for("call-ended-by-hand")
        assert told["request_id"] == ended["request_id"]

        await press(page, "grace", 1, "yes")
        await clients["grace"].wait_closed()
        _, revoked = await running.wait_for("request", 2)
        assert (revoked["user"], revoked["code"]) == ("grace", "revoked")
        (told,) = await running.wait_for("user-revoked-by-hand")
        assert (told["app"], told["user"]) == (APP_ID, "grace")
        # Every worker knows within a second.
        with trio.fail_after(PATIENCE):
            while await status(running, requests["grace"]) != 403:
                await trio.sleep(0.05)
        # Whom it does not concern goes on.
        await page.until("document.querySelectorAll('#running tbody tr').length === 1")
        assert (await table(page, "running"))[0][2] == "alan"
        again = await running.connect()
        await again.send(requests["ada"])
        await again.read_until(b"first")
        assert page.complaints() == []


async def test_it_asks_for_the_token_once(browser: Browser, tmp_path: Path) -> None:
    lines = 'admin_token = "${ADMIN_TOKEN}"'
    environ = {"ADMIN_TOKEN": TOKEN}
    async with daemon(tmp_path / "daemon", server=lines, environ=environ) as running:
        page = await open_page(browser, running)
        await page.until("document.querySelector('#login').checkVisibility()")
        assert not await page.evaluate("document.querySelector('#live').checkVisibility()")
        for token, outcome in (
            ("wrong", "document.querySelector('#wrong').textContent"),
            (TOKEN, "document.body.dataset.link === 'live'"),
        ):
            await page.evaluate(f"document.querySelector('#token').value = '{token}'")
            await page.click("#login button")
            await page.until(outcome)
        assert await page.evaluate("document.cookie") == ""  # no script sees it
        again = await open_page(browser, running)
        await again.until("document.body.dataset.link === 'live'")
        assert TOKEN not in await again.evaluate("document.documentElement.outerHTML")
        # With another token all are asked again.
        running.process.send_signal(signal.SIGHUP)
        await running.wait_for("reloaded")
        assert (await running.ask("/live"))[0] == 401


async def test_it_goes_on_when_the_daemon_is_back(browser: Browser, tmp_path: Path) -> None:
    place: Any
    async with daemon(tmp_path / "one") as running:
        page = await open_page(browser, running)
        await page.until("document.body.dataset.link === 'live'")
        place = running.admin_port
    await page.until("document.body.dataset.link === 'lost'")
    async with daemon(tmp_path / "two", server="", admin=f"127.0.0.1:{place}"):
        await page.until("document.body.dataset.link === 'live'")
