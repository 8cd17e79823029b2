"""The commands of `swproxy app`: applications, their secrets, and the files they are in."""

# ruff: noqa: PLC0415 - what only one command needs is loaded by it
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from swproxy.cli.options import (
    add_headers_option,
    allow_option,
    app_id_argument,
    config_option,
    example,
    note_typed_keys,
    to_type,
)
from swproxy.cli.terminal import Commands, print_secret, print_table

__all__ = ["app"]

_RELOAD = "A running daemon takes notice with `systemctl reload swproxy`, or SIGHUP."


@click.group("app", cls=Commands, short_help="Manage applications.")
def app() -> None:
    """Manage applications: each has an id, a secret, and a file in apps/."""


@app.command(
    "add",
    short_help="Add an application.",
    epilog=example(
        "swproxy app add chat --allow 'https://api.openai.com/v1/*' \\",
        "    --header 'Authorization: Bearer ${OPENAI_API_KEY}'",
    ),
)
@click.argument("app_id", metavar="[ID]", required=False)
@config_option
@allow_option
@add_headers_option
def app_add(
    app_id: str | None, config: Path, allow: Sequence[str], headers: Sequence[tuple[str, str]]
) -> None:
    """Add an application, with a fresh secret that is shown this once."""
    from swproxy.config import applications, store

    if not allow:
        raise click.UsageError("--allow is needed: say where the application's URLs may lead.")
    app_id, secret = app_id or applications.fresh_id(), applications.fresh_secret()
    table = applications.new_table(secret, allow, headers)
    file = store.add(config, app_id, table)
    note_typed_keys(headers)
    click.echo(f"Wrote {file}.\n")
    print_secret(app_id, secret)
    click.echo(_RELOAD)


@app.command("list", short_help="List applications.", epilog=example("swproxy app list | cut -f 1"))
@config_option
def app_list(config: Path) -> None:
    """List applications: id, number of secrets, where they may lead, and their file."""
    from swproxy.config import applications, loader

    rows = [applications.row(source) for source in loader.applications(config)]
    if rows:
        print_table(("ID", "SECRETS", "ALLOW", "FILE"), rows)
    else:
        click.echo("No applications. Add one with `swproxy app add`.", err=True)


@app.command(
    "show",
    short_help="Show an application, but no secret.",
    epilog=example("swproxy app show chat"),
)
@app_id_argument
@config_option
def app_show(app_id: str, config: Path) -> None:
    """Show an application, without its secrets and without what its headers hold."""
    from swproxy.config import applications, store

    print_table((), applications.shown(store.find(config, app_id)))


@app.command("rotate", short_help="Add a second secret.", epilog=example("swproxy app rotate chat"))
@app_id_argument
@config_option
def app_rotate(app_id: str, config: Path) -> None:
    """Add a second secret, shown this once; the older one holds until it is retired."""
    from swproxy.config import applications, store

    secret = applications.fresh_secret()
    file = store.change(config, app_id, lambda table: applications.rotated(table, secret))
    click.echo(f"Wrote {file}.\n")
    print_secret(app_id, secret)
    click.echo(f"{_RELOAD}\nThen give the secret to the backend, and when no URL that was signed")
    click.echo("with the older one is in use any more:")
    click.echo(f"  {to_type(config, 'app', 'retire', app_id)}")


@app.command(
    "retire", short_help="End the older of two secrets.", epilog=example("swproxy app retire chat")
)
@app_id_argument
@config_option
def app_retire(app_id: str, config: Path) -> None:
    """End the older of an application's two secrets."""
    from swproxy.config import applications, store

    file = store.change(config, app_id, applications.retired)
    click.echo(f"Wrote {file}: the older secret is gone. {_RELOAD}")


@app.command(
    "remove", short_help="Remove an application.", epilog=example("swproxy app remove chat")
)
@app_id_argument
@config_option
def app_remove(app_id: str, config: Path) -> None:
    """Remove an application: its URLs are refused as soon as the daemon reloads."""
    from swproxy.config import store

    click.echo(f"Removed {store.remove(config, app_id)}. {_RELOAD}")
