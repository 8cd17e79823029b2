"""What commands print: aligned and coloured for people, plain for programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

import click

from swproxy.config.faults import ConfigError, Fault

if TYPE_CHECKING:
    from swproxy.config.diagnosis import Report
    from swproxy.sw1.explain import Candidate
    from swproxy.sw1.refusal import Refusal

__all__ = [
    "Commands",
    "is_terminal",
    "print_faults",
    "print_report",
    "print_secret",
    "print_table",
    "print_tries",
]


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


def is_terminal(stream: IO[str]) -> bool:
    """Whether a person reads what is written to the stream."""
    return stream.isatty()


def print_secret(app_id: str, secret: str) -> None:
    """Print an application's id and its new secret."""
    click.echo(f"  id      {app_id}")
    click.echo(f"  secret  {click.style(secret, bold=True)}")
    click.echo("\nThe backend signs with them. The secret is shown only this once.")


def print_faults(faults: Sequence[Fault], *, warning: bool = False, err: bool = False) -> None:
    """Print a line for each fault: file, key, reason."""
    word, colour = ("warning: ", "yellow") if warning else ("", "red")
    if not is_terminal(sys.stderr if err else sys.stdout):
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
    if not is_terminal(sys.stdout):
        for row in rows:
            click.echo("\t".join(row))
        return
    lines = [head, *rows] if head else list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        cells = [f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)]
        text = "  ".join(cells).rstrip()
        click.echo(click.style(text, bold=True) if head and not number else text)


_VERDICTS = {"ok": "green", "bad": "red", "unknown": "yellow"}
_FIELD = 20
# A signed body may be long, and its end is seldom where the difference is.
_REQUEST_CHARACTERS = 4000


def print_report(report: Report, *, every: bool) -> None:
    """Print a judgement on a signed URL: its fields, what is hashed, the refusal and what to do.

    What is hashed is of interest when the signature does not match, or when `every` spelling of
    it is asked for.
    """
    for row in report.rows:
        verdict = click.style(f"{row.verdict:7}", fg=_VERDICTS[row.verdict])
        click.echo(f"{verdict}  {row.field:{_FIELD}}  {_printable(row.value)}".rstrip())
        if row.note:
            click.echo(f"{'':{7 + 2 + _FIELD + 2}}{_printable(row.note)}")
    for candidate in report.canonical if every else report.canonical[: 0 if report.matched else 1]:
        _print_canonical(candidate)
    for hint in report.hints:
        click.echo(f"\nLikely mistake: {_printable(hint)}")
    if report.refusal is not None:
        _print_refusal(report.refusal)
    else:
        known = report.verdict == "ok"
        click.echo("\nAccepted." if known else "\nNot known: no secret is at hand to check with.")
        if known and any(row.verdict == "unknown" for row in report.rows):
            click.echo("  If what is unknown here is as it has to be.")


def print_tries(report: Report, method: str | None) -> None:
    """Say which options may be missing, if `report` is of a request that was not told whole.

    `method` is the one that was judged by, if none was given.
    """
    options = []
    if method is not None:
        options.append(f"-X {report.method or 'METHOD'} (it was judged as {method})")
    for name in report.missing:
        options += ["--body (it is signed)" if name == "body" else f"-H '{name}: ...'"]
    if options:
        click.echo(f"  The call may be another than was told here; try {', '.join(options)}")


def _print_canonical(candidate: Candidate) -> None:
    text = candidate.request
    if len(text) > _REQUEST_CHARACTERS:
        more = len(text) - _REQUEST_CHARACTERS
        text = f"{text[:_REQUEST_CHARACTERS]}\n... and {more} characters more"
    for title, block in (
        (f"Canonical request, {candidate.description}", text),
        ("String to sign, which ends with the hash of it", candidate.string_to_sign),
    ):
        click.echo(f"\n{title}:")
        for line in block.split("\n"):
            click.echo(f"  | {_printable(line)}".rstrip())


def _print_refusal(refusal: Refusal) -> None:
    from swproxy.policy.problems import PROBLEMS  # noqa: PLC0415 - of no use to other commands

    problem = PROBLEMS[refusal.code]
    click.echo(f"\n{click.style('Refused', fg='red', bold=True)}: {refusal.code}")
    click.echo(f"  {_printable(refusal.detail)}")
    click.echo(f"  Usual cause: {problem.cause}")
    click.echo(f"  What to do: {problem.remedy}")


def _printable(line: str) -> str:
    """Escape what could move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
