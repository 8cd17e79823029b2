"""The demonstration, whole: page, backend, swproxy and a stand-in model in one process.

    page --1 sign--> backend     http://127.0.0.1:PORT
    page --2 call--> swproxy     http://127.0.0.1:<free port>, another origin: CORS is exercised
    swproxy --3----> model       https://127.0.0.1:<free port>

Nothing leaves the machine. Each party is given only what it would have in real life; the secrets
are made afresh at every start and are gone with the process.
"""

import secrets
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import click
import trio

from swproxy.config.config import App, Config, Server, Upstream
from swproxy.daemon.serve import serve
from swproxy.demo.backend import Backend
from swproxy.demo.model import CA_FILE, Model
from swproxy.policy.cors import CorsPolicy
from swproxy.policy.destination import Pattern

__all__ = ["Running", "main", "run"]

APP_ID = "demo"
HOST = "127.0.0.1"
TOKEN_SECONDS = 0.03  # a little over 30 tokens a second: the pace of a large hosted model
Pace = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Running:
    """A demo that has started: its addresses, and the secrets that no page may see."""

    page_url: str
    swproxy_url: str
    model_url: str
    api_key: str = field(repr=False)
    signing_secret: str = field(repr=False)


def run(port: int) -> int:
    """Run the demo until SIGINT or SIGTERM, its page on `port` of the loopback address.

    Returns the process's exit code: 0 ended by the user, 1 when the port cannot be had.
    """
    try:
        return trio.run(_until_interrupted, port)
    except KeyboardInterrupt:  # so early that there was nothing to end yet
        return 0


async def main(
    port: int,
    *,
    pace: Pace = partial(trio.sleep, TOKEN_SECONDS),  # noqa: B008 - holds no state
    report: Callable[[str], None] = click.echo,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the demo until cancelled. Raises OSError when `port` cannot be had; 0 is any."""
    pages = await trio.open_tcp_listeners(port, host=HOST)
    await _serve(pages, pace, report, task_status=task_status)


async def _until_interrupted(port: int) -> int:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        try:
            pages = await trio.open_tcp_listeners(port, host=HOST)
        except OSError as error:
            click.echo(
                f"swproxy demo: cannot listen on {HOST}:{port}: {error.strerror}."
                " Choose another with --port.",
                err=True,
            )
            return 1
        async with trio.open_nursery() as nursery:
            running: Running = await nursery.start(
                _serve, pages, partial(trio.sleep, TOKEN_SECONDS), click.echo
            )
            click.echo(f"The swproxy demo runs at {running.page_url}")
            click.echo("Open it in a browser and press the button. Ctrl-C ends it all.")
            async for _ in signals:
                nursery.cancel_scope.cancel()
    return 0


async def _serve(
    pages: list[trio.SocketListener],
    pace: Pace,
    report: Callable[[str], None],
    *,
    task_status: trio.TaskStatus[Running],
) -> None:
    api_key = f"sk-demo-{secrets.token_hex(24)}"
    signing_secret = secrets.token_hex(32)
    page_port = _port_of(pages)
    async with trio.open_nursery() as nursery:
        models = await trio.open_tcp_listeners(0, host=HOST)
        model_url = f"https://{HOST}:{_port_of(models)}"
        model = Model(api_key, pace=pace, report=report)
        await nursery.start(model.serve, models)

        config = _config(signing_secret, api_key, model_url, page_port)
        [(_, swproxy_port)] = await nursery.start(partial(serve, config))
        swproxy_url = f"http://{HOST}:{swproxy_port}"

        backend = Backend(APP_ID, signing_secret, swproxy_url, model_url)
        await nursery.start(backend.serve, pages)
        task_status.started(
            Running(_origin(HOST, page_port), swproxy_url, model_url, api_key, signing_secret)
        )


def _config(signing_secret: str, api_key: str, model_url: str, page_port: int) -> Config:
    """Return what `swproxy serve` would read from swproxy.toml and apps/demo.toml."""
    # The page may have been opened under either name of the loopback address.
    cors = CorsPolicy((_origin(HOST, page_port), _origin("localhost", page_port)))
    app = App(
        id=APP_ID,
        secrets=(signing_secret,),
        allow=(Pattern.parse(f"{model_url}/v1/*"),),
        headers=((b"Authorization", f"Bearer {api_key}".encode()),),
        cors=cors,
    )
    return Config(
        server=Server.model_validate({"listen": [f"{HOST}:0"], "log_format": "console"}),
        # The model is on this very machine, where by default no signed URL can lead.
        upstream=Upstream.model_validate(
            {"ca_file": str(CA_FILE), "private_networks": ["127.0.0.0/8"]}
        ),
        cors=cors,
        apps={APP_ID: app},
    )


def _origin(host: str, port: int) -> str:
    """Return the origin as browsers write it: without HTTP's own port."""
    return f"http://{host}" if port == 80 else f"http://{host}:{port}"


def _port_of(listeners: list[trio.SocketListener]) -> int:
    port: int = listeners[0].socket.getsockname()[1]
    return port
