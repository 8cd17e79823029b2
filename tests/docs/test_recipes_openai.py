"""OpenAI's own clients, as the README has them: through swproxy, and without the key."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from swproxy.demo.answers import compose
from tests.support.chromium import chromium
from tests.support.pages import block
from tests.support.stage import API_KEY, backend, stage

ANSWER = compose("A haiku, please", ())

# Where the README's reader has a bundler, the browser is told where the package is.
PAGE = """<!doctype html>
<link rel="icon" href="data:,">
<script type="importmap">{{"imports": {{"openai": "/openai/index.mjs"}}}}</script>
<script type="module">
{script}
document.title = "done";
</script>
"""
SERVE = """
from fastapi.staticfiles import StaticFiles

app.mount("/openai", StaticFiles(directory="{package}"))
app.mount("/", StaticFiles(directory="."))
"""


@pytest.fixture
def openai_package(request: pytest.FixtureRequest) -> Path:
    """Have npm install the client, once and for all runs; skip, but not under CI, if it cannot."""
    assert request.config.cache is not None
    home = request.config.cache.mkdir("npm")
    installed = home / "node_modules" / "openai"
    if not (installed / "index.mjs").exists():
        npm = Path(sys.executable).parent / "npm"
        done = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--loglevel=error", "openai@6"],
            cwd=home,
            env={
                **os.environ,
                "PATH": f"{npm.parent}:{os.environ['PATH']}",
                # As pip does: a network that reads along has its authority there.
                "NODE_OPTIONS": "--use-system-ca",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0 and not os.environ.get("CI"):
            pytest.skip(f"npm cannot install openai: {done.stderr}")
        assert done.returncode == 0, done.stderr
    return installed


async def test_the_javascript_client_in_a_page(tmp_path: Path, openai_package: Path) -> None:
    async with stage(tmp_path) as on, chromium(tmp_path) as browser:
        script = on.put_in(block("openai.js"))
        (tmp_path / "client.html").write_text(PAGE.format(script=script))
        async with backend(on, SERVE.format(package=openai_package)):
            page = await browser.open(f"{on.backend_url}/client.html")
            await page.until("document.title === 'done'")
            assert (await page.text("body")).strip() == ANSWER
            assert page.complaints() == []
            assert API_KEY not in await page.heap()


async def test_the_python_client(tmp_path: Path) -> None:
    async with stage(tmp_path) as on, backend(on):
        on.save("ask.py")
        del on.environ["SW_SECRET"]
        assert await on.run_text("python -W error ask.py") == ANSWER
