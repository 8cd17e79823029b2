"""What several commands take: shared options, and arguments that are more than text."""

# ruff: noqa: PLC0415 - completing an id is rare, and needs what signing should not load
from __future__ import annotations

import re
import secrets as randomness
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from swproxy.config import DEFAULT_CONFIG
from swproxy.config.faults import ConfigError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = [
    "VERBATIM",
    "add_headers_option",
    "allow_option",
    "app_id_argument",
    "app_option",
    "complete_app",
    "config_option",
    "example",
    "note_typed_keys",
    "request_options",
    "terms_option",
    "to_type",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])

VERBATIM = "\b\n"
"""click wraps help texts, but not a paragraph that begins with this mark."""


def example(*lines: str) -> str:
    """Return the part of a command's help that shows it in use."""
    return f"{VERBATIM}Example:\n" + "\n".join(f"  {line}" for line in lines)


_OF_A_KEY = re.compile("auth|cookie|credential|key|password|secret|token", re.IGNORECASE)


def _header(text: str) -> tuple[str, str]:
    """Take `Name: value` apart, as curl's -H does."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter("write it as 'Name: value'.")
    return name.strip(), value.strip()


def _added_header(text: str) -> tuple[str, str]:
    """Take a header that is to be configured apart; `Token ` waits for a key that did not come."""
    name, value = _header(text)
    if text.endswith(" ") and value.isalpha():
        raise click.BadParameter("ends behind its first word: is a variable empty, or not set?")
    return name, value


def _body(text: str) -> bytes:
    """Return text as bytes, or what `@FILE` holds."""
    if not text.startswith("@"):
        return text.encode()
    if text == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{text[1:]}: {error.strerror}.") from None


def complete_app(ctx: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete an application's id."""
    from click.shell_completion import CompletionItem

    from swproxy.config.loader import applications

    try:
        sources = applications(Path(ctx.params.get("config") or DEFAULT_CONFIG))
    except (ConfigError, OSError):
        return []
    return [CompletionItem(each.id) for each in sources if each.id.startswith(typed)]


config_option = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    envvar="SWPROXY_CONFIG",
    show_default=True,
    show_envvar=True,
    help="The configuration; applications are in apps/ beside it.",
)
app_id_argument = click.argument("app_id", metavar="ID", shell_complete=complete_app)
app_option = click.option(
    "--app", "app_id", metavar="ID", shell_complete=complete_app, help="The application."
)
allow_option = click.option(
    "--allow",
    multiple=True,
    metavar="URL",
    help="Where signed URLs may lead, such as 'https://api.openai.com/v1/*'. Repeatable.",
)
add_headers_option = click.option(
    "--header",
    "headers",
    type=_added_header,
    multiple=True,
    metavar="'NAME: VALUE'",
    help="A header added to each call. Refer to the key, as in 'Authorization: Bearer ${API_KEY}':"
    " what is typed here can be seen by others on this machine. Repeatable.",
)


_COUNTED = {"uses", "tokens"}
"""Terms that are counted by the URL. What is signed of the time is its second, so two URLs of the
same terms may be one; a tag, which is for the log alone, tells them apart."""


def _term(_ctx: click.Context, _param: click.Parameter, given: Sequence[str]) -> str:
    """Return the fragment that says the terms, "" for none."""
    if not given:
        return ""
    from swproxy.sw1.write_terms import BadTermError, written_pairs

    pairs = [text.partition("=") for text in given]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise click.BadParameter(f"{name or 'a term'}: write it as NAME=VALUE, like user=42.")
    given_terms = [(name, value) for name, _, value in pairs]
    names = {name for name, _ in given_terms}
    if names & _COUNTED and not any(name.startswith("tag.") for name in names):
        given_terms.append(("tag.once", randomness.token_hex(8)))
    try:
        return f"#{written_pairs(given_terms)}"
    except BadTermError as fault:
        raise click.BadParameter(fault.sentence()) from None


terms_option = click.option(
    "--term",
    "terms",
    multiple=True,
    callback=_term,
    metavar="NAME=VALUE",
    help="What the URL allows besides: user=42, seconds=60, body.model=small,tiny and so on, as"
    " docs/terms.md has them. Repeatable. uses or tokens without a tag get a tag.once, so that no"
    " two URLs are the same.",
)


def to_type(config: Path, *words: str) -> str:
    """Return a command as a shell takes it, with the option that names this configuration."""
    option = () if str(config) == DEFAULT_CONFIG else ("--config", str(config))
    return shlex.join(("swproxy", *words, *option))


def note_typed_keys(headers: Iterable[tuple[str, str]]) -> None:
    """Say of keys that were typed as they are where they stand now."""
    for name, value in headers:
        if "${" not in value and _OF_A_KEY.search(name):
            click.echo(
                f"note: the value of {name} stands in your shell's history now, and in the file."
                " Refer to it instead: ${NAME} for a variable, ${file:PATH} for a file.",
                err=True,
            )


def request_options(command: _Command) -> _Command:
    """Add what describes a request: its method, its signed headers, its body."""
    for option in (
        click.option(
            "--body",
            type=_body,
            metavar="TEXT|@FILE",
            help="The body: text, @FILE for a file's bytes, @- for standard input.",
        ),
        click.option(
            "--header",
            "-H",
            "headers",
            type=_header,
            multiple=True,
            metavar="'NAME: VALUE'",
            help="A header of the request. Repeatable.",
        ),
        click.option(
            "--request", "-X", "method", metavar="METHOD", help="GET by default, POST with a body."
        ),
    ):
        command = option(command)
    return command
