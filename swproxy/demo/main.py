"""The demonstration, whole: page, backend, swproxy and a stand-in model in one process.

    page --1 sign--> backend     http://127.0.0.1:PORT
    page --2 call--> swproxy     http://localhost:PORT/sw, another origin: CORS is exercised
    swproxy --3----> model       https://127.0.0.1:<free port>

All of it is behind one port, which can be forwarded from a remote machine: the backend hands on
what is for swproxy, as a web server in front would. Nothing leaves the machine. Each party is given
only what it would have in real life; the secrets are made afresh at every start and are gone with
the process.
"""

import getpass
import os
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click
import trio

from swproxy.config.config import App, Config, Limits, Server, Store, Upstream
from swproxy.daemon.ledgers import make_ledger
from swproxy.daemon.serve import serve
from swproxy.demo.backend import Backend, TokensLeft, swproxy_url_for
from swproxy.demo.model import CA_FILE, Model
from swproxy.policy.allowances import Allowance, parse_pace, parse_token_budget
from swproxy.policy.cors import CorsPolicy
from swproxy.policy.destination import Pattern
from swproxy.policy.weights import Weights
from swproxy.quota.accounts import account_key
from swproxy.quota.checks import Budget, Moment
from swproxy.quota.ledger import Ledger
from swproxy.quota.windows import Period

__all__ = ["Running", "main", "run"]

APP_ID = "demo"
LOOPBACK = "127.0.0.1"
TOKEN_SECONDS = 0.03  # a little over 30 tokens a second: the pace of a large hosted model
USER_PACE = "12/minute burst 6"  # quick to come to, and quick to be over
USER_TOKENS = "2400/minute"  # about eleven answers
Pace = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Running:
    """A demo that has started: its addresses, and the secrets that no page may see."""

    page_url: str
    swproxy_url: str
    model_url: str
    api_key: str = field(repr=False)
    signing_secret: str = field(repr=False)


def run(port: int, host: str = LOOPBACK) -> int:
    """Run the demo until SIGINT or SIGTERM, its page on `port` of `host`, a name or an address.

    Returns the process's exit code: 0 ended by the user, 1 when the port cannot be had.
    """
    try:
        return trio.run(_until_interrupted, port, host)
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
    pages = await trio.open_tcp_listeners(port, host=LOOPBACK)
    await _serve(pages, LOOPBACK, pace, report, task_status=task_status)


async def _until_interrupted(port: int, host: str) -> int:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        try:
            pages = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            click.echo(
                f"swproxy demo: cannot listen on {host}:{port}: {error.strerror}."
                " Choose another with --port.",
                err=True,
            )
            return 1
        async with trio.open_nursery() as nursery:
            running: Running = await nursery.start(
                _serve, pages, _shown(host), partial(trio.sleep, TOKEN_SECONDS), click.echo
            )
            click.echo(f"The swproxy demo runs at {running.page_url}")
            if host == LOOPBACK:
                click.echo(f"If your browser is elsewhere, run there: {_tunnel(_port_of(pages))}")
            click.echo("Open it in a browser and press the button. Ctrl-C ends it all.")
            async for _ in signals:
                nursery.cancel_scope.cancel()
    return 0


def _tunnel(port: int) -> str:
    """Return the command that brings the demo's port to another machine, as far as we know it."""
    here = os.environ.get("SSH_CONNECTION", "").split()
    machine = here[2] if len(here) == 4 else socket.gethostname()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "you"
    return f"ssh -NL {port}:{LOOPBACK}:{port} {user}@{machine}"


def _shown(host: str) -> str:
    """Return what to call an address that is to be listened on; `0.0.0.0` is no place to go."""
    return socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104


async def _serve(
    pages: list[trio.SocketListener],
    host: str,
    pace: Pace,
    report: Callable[[str], None],
    *,
    task_status: trio.TaskStatus[Running],
) -> None:
    api_key = f"sk-demo-{secrets.token_hex(24)}"
    signing_secret = secrets.token_hex(32)
    page_port = _port_of(pages)
    with tempfile.TemporaryDirectory(prefix="swproxy-demo-") as store:
        async with trio.open_nursery() as nursery:
            models = await trio.open_tcp_listeners(0, host=LOOPBACK)
            model_url = f"https://{LOOPBACK}:{_port_of(models)}"
            model = Model(api_key, pace=pace, report=report)
            await nursery.start(model.serve, models)

            config = _config(signing_secret, api_key, model_url, Path(store) / "ledger.sqlite")
            [(_, swproxy_port)] = await nursery.start(partial(serve, config))

            ledger = make_ledger(config, at_once=True)
            await nursery.start(ledger.run)
            backend = Backend(
                APP_ID,
                signing_secret,
                model_url,
                swproxy=partial(trio.open_tcp_stream, LOOPBACK, swproxy_port),
                budget=partial(_budget_of, ledger),
            )
            await nursery.start(backend.serve, pages)
            authority = _authority(host, page_port)
            swproxy_url = swproxy_url_for(authority) or ""
            task_status.started(
                Running(f"http://{authority}", swproxy_url, model_url, api_key, signing_secret)
            )


def _config(signing_secret: str, api_key: str, model_url: str, store: Path) -> Config:
    """Return what `swproxy serve` would read from swproxy.toml and apps/demo.toml."""
    # The page may have been opened by any name that leads here; what counts is who signed.
    cors = CorsPolicy(("*",))
    app = App(
        id=APP_ID,
        secrets=(signing_secret,),
        allow=(Pattern.parse(f"{model_url}/v1/*"),),
        headers=((b"Authorization", f"Bearer {api_key}".encode()),),
        cors=cors,
        user_limits=Allowance(
            requests=parse_pace(USER_PACE), tokens=parse_token_budget(USER_TOKENS)
        ),
        weights=Weights(),
    )
    return Config(
        server=Server.model_validate({"listen": [f"{LOOPBACK}:0"], "log_format": "console"}),
        # Its connections come from the backend, which has another request for each.
        limits=Limits.model_validate({"keepalive_seconds": 0}),
        # The model is on this very machine, where by default no signed URL can lead.
        upstream=Upstream.model_validate(
            {"ca_file": str(CA_FILE), "private_networks": ["127.0.0.0/8"]}
        ),
        cors=cors,
        apps={APP_ID: app},
        store=Store(path=store),
    )


async def _budget_of(ledger: Ledger, user: str) -> TokensLeft:
    """Return what a user may still use, as `swproxy limits demo --user USER` tells it."""
    allowed = parse_token_budget(USER_TOKENS)
    budget = Budget(allowed.count, Period(allowed.window))
    key = account_key("user", APP_ID, user)
    part = (await ledger.parts([key])).get(key, {}).get(budget.name)
    now = Moment(time.time_ns() // 1000, holder="", alive=lambda _: True)
    return TokensLeft(budget.left(part, now), allowed.count, allowed.window)


def _authority(host: str, port: int) -> str:
    """Return host and port as browsers write them: an address of IPv6 in brackets."""
    name = f"[{host}]" if ":" in host else host
    return name if port == 80 else f"{name}:{port}"


def _port_of(listeners: list[trio.SocketListener]) -> int:
    port: int = listeners[0].socket.getsockname()[1]
    return port
