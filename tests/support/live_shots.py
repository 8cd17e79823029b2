"""Pictures of the live page while there is traffic, for the documentation.

`python -m tests.support.live_shots --write` puts them into docs/images: light, dark, and a phone's.
"""

import argparse
import random
import tempfile
from functools import partial
from pathlib import Path

import trio

from tests.support.chromium import chromium
from tests.support.live_traffic import LIMITS, Clients, Model
from tests.support.pages import DOCS
from tests.support.running import daemon, write_app
from tests.support.upstream import upstream

APPS = ("chat", "assist", "search")
SHOTS = {
    "live-light.png": ("light", 1440, 1180, False),
    "live-dark.png": ("dark", 1440, 1180, False),
    "live-phone.png": ("light", 412, 915, True),
}
_SERVER = "workers = 2\nadmin_actions = true"


async def _traffic(clients: Clients, chance: random.Random) -> None:
    """Call until cancelled, some days more, some less."""
    async with trio.open_nursery() as nursery:
        while True:
            kind = chance.random()
            if kind < 0.30:
                nursery.start_soon(clients.stream, chance.choice(("chat", "chat", "assist")))
            elif kind < 0.85:
                nursery.start_soon(clients.ask, chance.choice(APPS))
            elif kind < 0.92:
                nursery.start_soon(clients.ask, "chat", "/v1/broken")
            elif kind < 0.97:
                nursery.start_soon(partial(clients.ask, "assist", spoil="0123"))
            else:
                nursery.start_soon(clients.stray)
            await trio.sleep(chance.expovariate(14))


async def shoot(directory: Path, seconds: float) -> None:
    """Take the pictures after so many seconds of traffic."""
    model = Model(pause=0.06, most=420)
    with tempfile.TemporaryDirectory() as work:
        place = Path(work)
        async with (
            upstream(model) as server,
            daemon(place / "daemon", server=_SERVER, app=LIMITS) as running,
            chromium(place) as browser,
            trio.open_nursery() as nursery,
        ):
            for app in APPS:
                write_app(running.work, app=app, more=LIMITS if app != "search" else "")
            (running.work / "apps" / "test-app.toml").unlink()
            running.process.send_signal(1)
            await running.wait_for("reloaded")
            pages = {}
            for name, (scheme, width, height, mobile) in SHOTS.items():
                page = await browser.open(f"http://127.0.0.1:{running.admin_port}/")
                await page.resize(width, height, mobile=mobile)
                media = [{"name": "prefers-color-scheme", "value": scheme}]
                await page.command("Emulation.setEmulatedMedia", features=media)
                pages[name] = page
            clients = Clients(running, server.url, APPS)
            nursery.start_soon(_traffic, clients, random.Random(3))
            await trio.sleep(seconds)
            for name, page in pages.items():
                await page.command("Page.bringToFront")
                await trio.sleep(2)
                await page.screenshot(directory / name)
                print(name, page.complaints(), flush=True)  # noqa: T201
            nursery.cancel_scope.cancel()


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", required=True)
    parser.add_argument("--into", type=Path, default=DOCS / "images")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    trio.run(shoot, options.into, options.seconds)


if __name__ == "__main__":
    main()
