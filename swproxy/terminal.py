"""What commands print: aligned and coloured for people, plain for programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import IO

import click

from swproxy.policy.faults import ConfigError, Fault

__all__ = ["Commands", "print_faults", "print_secret", "print_table"]


class Commands(click.Group):
    """A group whose commands may fail with a ConfigError or OSError: told plainly, no traceback.

    Exit codes: 2 for a configuration that cannot be used, 1 for the machine's refusal.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands as they are met: first tried, then set up, used and run."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            print_faults(error.faults, err=True)
            raise click.exceptions.Exit(2) from None
        except BrokenPipeError:  # `| head`: click ends quietly
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"swproxy: {where}{error.strerror or 'input or output failed'}", err=True)
            raise click.exceptions.Exit(1) from None


def print_secret(app_id: str, secret: str) -> None:
    """Print an application's id and its new secret."""
    click.echo(f"  id      {app_id}")
    click.echo(f"  secret  {click.style(secret, bold=True)}")
    click.echo("\nThe backend signs with them. The secret is shown only this once.")


def print_faults(faults: Sequence[Fault], *, warning: bool = False, err: bool = False) -> None:
    """Print a line for each fault: file, key, reason."""
    word, colour = ("warning: ", "yellow") if warning else ("", "red")
    stream: IO[str] = sys.stderr if err else sys.stdout
    if not stream.isatty():
        for fault in faults:
            click.echo(f"{word}{fault}", err=err)
        return
    files = max((len(str(fault.file)) for fault in faults), default=0)
    keys = max((len(fault.key) for fault in faults), default=0)
    for fault in faults:
        file, key = f"{fault.file!s:{files}}", click.style(f"{fault.key:{keys}}", fg=colour)
        click.echo(f"{word}{file}  {key}  {fault.reason}", err=err)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows: aligned under a head, if there is one, or separated by tabs for a program."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(row))
        return
    lines = [head, *rows] if head else list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        cells = [f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)]
        text = "  ".join(cells).rstrip()
        click.echo(click.style(text, bold=True) if head and not number else text)
