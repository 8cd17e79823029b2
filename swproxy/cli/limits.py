"""What was used, what is left, and URLs that are to end before their time.

These commands open the store that the daemon uses, beside it, so they see what it sees and need no
word with it; what they write, every worker finds within a second.
"""

# ruff: noqa: PLC0415 - what only these commands need is loaded by them
from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from swproxy.cli.options import app_id_argument, complete_app, config_option, example
from swproxy.cli.terminal import is_terminal, print_table

if TYPE_CHECKING:
    from swproxy.config.config import App, Config
    from swproxy.quota.ledger import Ledger, UsedBy
    from swproxy.quota.valkey import ValkeyLedger

__all__ = ["check_store", "limits", "revoke", "usage"]

_WATCH_SECONDS = 1.0
_CLEAR = "\033[H\033[2J"


@click.command(
    "revoke",
    short_help="End URLs before they expire.",
    epilog=example("swproxy revoke chat --user 42"),
)
@app_id_argument
@config_option
@click.option("--user", metavar="USER", help="All URLs that name this user.")
@click.option("--url", metavar="URL", help="One signed URL.")
@click.option("--all", "every", is_flag=True, help="All URLs of the application.")
def revoke(app_id: str, config: Path, user: str | None, url: str | None, *, every: bool) -> None:
    """Revoke URLs that were signed up to now: a user's, one, or all of an application.

    Every worker that uses the store refuses them within a second, and ends calls under way. What
    the backend signs afterwards is good again.
    """
    from swproxy.daemon.revoking import revocation_of

    if (user is not None) + (url is not None) + every != 1:
        raise click.UsageError("give one of --user, --url and --all.")
    loaded, _ = _application(config, app_id)
    name = "" if url is None else _signature(url, app_id)
    revocation = revocation_of(loaded, app_id, user=user or "", signature=name)

    async def do(ledger: Ledger) -> None:
        await ledger.revoke(revocation)

    _ask(loaded, do)
    whose = f"What was signed for user {user}" if user else "All that was signed"
    what = "The URL" if url else whose
    click.echo(f"{what} is revoked.")


@click.command(
    "usage",
    short_help="Show what was used.",
    epilog=example("swproxy usage chat --since 2026-01-01"),
)
@click.argument("app_id", metavar="[ID]", required=False, default="", shell_complete=complete_app)
@config_option
@click.option("--user", metavar="USER", default="", help="This user's alone.")
@click.option(
    "--since",
    metavar="DAY",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The first day, in UTC, as 2026-01-31; today is the default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a row for each day and user.")
@click.option("--watch", is_flag=True, help="Print again every second, until Ctrl-C.")
def usage(
    app_id: str, config: Path, user: str, since: datetime | None, *, as_json: bool, watch: bool
) -> None:
    """Show what was used of applications with limits, by application and user.

    Requests, those refused by a limit, calls under way now; and tokens where they are metered.
    """
    import trio

    day = since.date() if since else datetime.now(UTC).date()
    loaded = _loaded(config)

    nothing = False

    async def show(ledger: Ledger) -> None:
        nonlocal nothing
        found = await ledger.usage(day, app_id, user)
        nothing = not found
        if watch and is_terminal(sys.stdout):
            click.echo(_CLEAR, nl=False)
        _print_usage(found, as_json=as_json)

    async def follow(ledger: Ledger) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            while True:
                await show(ledger)
                with trio.move_on_after(_WATCH_SECONDS):
                    await anext(signals)
                    return

    _ask(loaded, follow if watch else show)
    if nothing and not watch and not as_json:
        _tell_of_nothing(loaded, app_id, day.isoformat())


@click.command(
    "limits",
    short_help="Show what is left of limits.",
    epilog=example("swproxy limits chat --user 42"),
)
@app_id_argument
@config_option
@click.option("--user", metavar="USER", help="What is left for this user as well.")
@click.option("--plan", metavar="PLAN", help="As a URL with this plan counts.")
def limits(app_id: str, config: Path, user: str | None, plan: str | None) -> None:
    """Show what is left now of the limits of an application, and of one of its users."""
    loaded, app = _application(config, app_id)
    if plan is not None and plan not in app.plans:
        raise click.UsageError(f"{app_id} has no plan {plan}.")

    async def do(ledger: Ledger) -> None:
        rows = await _left(ledger, app, user, plan)
        if not rows:
            click.echo("Nothing is limited.", err=True)
            return
        print_table(["WHOSE", "LIMIT", "LEFT", "OF", "AGAIN IN"], rows)

    _ask(loaded, do)


def _tell_of_nothing(config: Config, app_id: str, day: str) -> None:
    """Say why there is no row. An application may have figures that is not there any more."""
    if app_id and app_id not in config.apps:
        raise click.UsageError(
            f"there is no application {app_id}, and nothing is recorded of one since {day}."
        )
    click.echo(f"Nothing is recorded of that since {day}.", err=True)


def _loaded(config: Path) -> Config:
    from swproxy.config.loader import load_to_sign

    # The API's keys may be out of reach of whoever looks, and are not needed for it.
    return load_to_sign(config, os.environ)


def _application(config: Path, app_id: str) -> tuple[Config, App]:
    loaded = _loaded(config)
    app = loaded.apps.get(app_id)
    if app is None:
        raise click.UsageError(f"there is no application {app_id}.")
    return loaded, app


def _signature(url: str, app_id: str) -> str:
    """Return what a signed URL is known by."""
    from urllib.parse import urlsplit

    from swproxy.proxy.charge import url_name
    from swproxy.sw1.claims import parse_target
    from swproxy.sw1.refusal import Refusal

    parts = urlsplit(url.strip())
    try:
        claims = parse_target(f"{parts.path or '/'}?{parts.query}".encode())
    except (Refusal, ValueError) as fault:
        reason = fault.detail if isinstance(fault, Refusal) else "It cannot be read."
        raise click.UsageError(f"--url is no signed URL: {reason}") from None
    if claims.app_id != app_id:
        raise click.UsageError(f"--url is one of {claims.app_id}, not of {app_id}.")
    return url_name(claims.signature)


def check_store(config: Config) -> None:
    """Ask the server of `store.url`, print what it lacks, and exit with 1 if it can't be asked."""
    from swproxy.daemon.ledgers import valkey_ledger

    if config.store.url is None:
        click.echo("store.url names no server: what is limited is counted in a file.")
        return

    async def do(ledger: ValkeyLedger) -> None:
        for lack in await ledger.examine():
            click.echo(f"Warning: {config.store.url}: {lack}.", err=True)
        click.echo(f"{config.store.url} answers.")

    _use(valkey_ledger(config.store), do)


def _ask(config: Config, do: Callable[[Ledger], Awaitable[None]]) -> None:
    """Do something with the store, or say why that can't be."""
    from swproxy.daemon.ledgers import make_ledger

    _use(make_ledger(config, at_once=True), do)


L = TypeVar("L", bound="Ledger")


def _use(ledger: L, do: Callable[[L], Awaitable[None]]) -> None:
    import trio

    from swproxy.daemon.ledgers import use_ledger
    from swproxy.quota.ledger import LedgerDown

    try:
        trio.run(use_ledger, ledger, do)
    except LedgerDown as down:
        click.echo(f"swproxy: the store of limits cannot be asked: {down}", err=True)
        sys.exit(1)


def _print_usage(found: Sequence[UsedBy], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "day": each.day.isoformat(),
                "app": each.app,
                "user": each.user,
                "requests": each.used.requests,
                "refused": each.used.refused,
                "streams": each.used.streams,
                "tokens_in": each.used.tokens_in,
                "tokens_out": each.used.tokens_out,
                "unknown": each.used.unknown,
            }
            for each in found
        ]
        click.echo(json.dumps(rows))
        return
    from swproxy.quota.ledger import Used

    sums: dict[tuple[str, str], Used] = {}
    for each in found:
        sums.setdefault((each.app, each.user), Used()).add(each.used)
    head = ["APP", "USER", "REQUESTS", "REFUSED", "NOW", "TOKENS IN", "TOKENS OUT", "UNKNOWN"]
    print_table(
        head,
        [
            [
                app,
                user or "-",
                *map(
                    str,
                    (
                        used.requests,
                        used.refused,
                        used.streams,
                        used.tokens_in,
                        used.tokens_out,
                        used.unknown,
                    ),
                ),
            ]
            for (app, user), used in sorted(sums.items())
        ],
    )


async def _left(ledger: Ledger, app: App, user: str | None, plan: str | None) -> list[list[str]]:
    """Return a row for each limit: whose, what of, what is left, and when there is more."""
    from swproxy.proxy.charge import checks_of, limits_of_user
    from swproxy.quota.accounts import account_key
    from swproxy.quota.checks import Moment
    from swproxy.quota.windows import MICROS

    kinds = [("application", account_key("app", app.id), app.limits)]
    if user is not None:
        kinds.append((f"user {user}", account_key("user", app.id, user), limits_of_user(app, plan)))
    states = await ledger.parts([key for _, key, _ in kinds])
    at = Moment(time.time_ns() // 1000, "", lambda _: True, tokens=1)
    rows = []
    for whose, key, allowance in kinds:
        state = states.get(key, {})
        for check in checks_of(allowance):
            part = state.get(check.name)
            wait, _ = check.take(part, at)
            again = "" if not wait else f"{math.ceil(wait / MICROS)} s"
            left = check.left(part, at)
            rows.append([whose, check.label, str(left), str(check.count), again])
    return rows
