"""The manual pages, made from the commands and from the configuration's keys: roff as text.

What `--help` says is what they say: one page for each command, and swproxy.toml(5).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator

import click

from swproxy import __version__
from swproxy.cli.main import main
from swproxy.cli.options import VERBATIM
from swproxy.config.assembly import SECTIONS
from swproxy.config.config import AppTable
from swproxy.config.template import Key, app_keys, keys

__all__ = ["EXIT_STATUS", "pages"]

_NAME = "swproxy"
EXIT_STATUS = {
    0: "Ended well; for `explain`: the URL is accepted.",
    1: "Failed while running, such as an address in use; for `explain`: refused, or not known.",
    2: "Wrong usage, or a configuration with faults.",
}


def pages() -> Iterator[tuple[str, str]]:
    """Give every page: the file's name, such as `swproxy-sign.1`, and its text."""
    root = click.Context(main, info_name=_NAME, **main.context_settings)
    for ctx in _commands(root):
        yield f"{_page_name(ctx)}.1", _command_page(ctx)
    yield f"{_NAME}.toml.5", _configuration_page()


def _commands(ctx: click.Context) -> Iterator[click.Context]:
    """Give a command and all below it."""
    yield ctx
    if isinstance(ctx.command, click.Group):
        for name, command in ctx.command.commands.items():
            yield from _commands(click.Context(command, info_name=name, parent=ctx))


def _page_name(ctx: click.Context) -> str:
    return ctx.command_path.replace(" ", "-")


def _command_page(ctx: click.Context) -> str:
    command, name = ctx.command, _page_name(ctx)
    usage = " ".join(command.collect_usage_pieces(ctx))
    related = [_page_name(ctx.parent)] if ctx.parent else []
    related += [_page_name(each) for each in _commands(ctx) if each is not ctx]
    lines = [
        *_head(name, 1, command.get_short_help_str(200).rstrip(".")),
        ".SH SYNOPSIS",
        f".B {_text(ctx.command_path)}",
        _text(usage),
        ".SH DESCRIPTION",
        *_paragraphs(command.help or ""),
    ]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for each, below in command.commands.items():
            lines += [".TP", f".B {_text(each)}", _text(below.get_short_help_str(200))]
    lines.append(".SH OPTIONS")
    variables = []
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if isinstance(parameter, click.Option) and record:
            lines += [".TP", f".B {_text(record[0])}", _text(record[1])]
            if isinstance(parameter.envvar, str):
                variables.append((parameter.envvar, f"The same as {parameter.opts[0]}."))
    if variables:
        lines += _list("ENVIRONMENT", variables)
    lines += _list("EXIT STATUS", ((str(code), text) for code, text in EXIT_STATUS.items()))
    lines += _paragraphs(command.epilog or "", heading=True)
    return _page([*lines, ".SH SEE ALSO", _references(related)])


def _configuration_page() -> str:
    lines = [
        *_head(f"{_NAME}.toml", 5, "the configuration of swproxy"),
        ".SH DESCRIPTION",
        *_paragraphs(
            "swproxy.toml has the tables below; an application has a table of its own, or the file"
            " apps/ID.toml beside it. Nothing but an application is required, and an unknown key is"
            " a fault. swproxy init writes a file in which all of this stands as comments, swproxy"
            " check tells what is wrong with one.\n\nIn any text, ${NAME} stands for an environment"
            " variable and ${file:PATH} for what a file holds: beside the configuration, or in"
            " $CREDENTIALS_DIRECTORY if systemd sets it. $${ is a plain ${."
        ),
    ]
    every = list(keys())
    for section, model in SECTIONS.items():
        own = [key for key in every if key.section == section]
        lines += _key_list(f"[{section}]", inspect.getdoc(model) or "", own)
    lines += _key_list("[apps.ID]", inspect.getdoc(AppTable) or "", app_keys())
    return _page([*lines, ".SH SEE ALSO", _references([f"{_NAME}-check", f"{_NAME}-serve"])])


def _key_list(heading: str, text: str, its_keys: Iterable[Key]) -> Iterator[str]:
    yield f".SH {_text(heading)}"
    yield from _paragraphs(text)
    for key in its_keys:
        yield ".TP"
        yield f"\\fB{_text(key.name)}\\fR" + (f" = {_text(key.default)}" if key.default else "")
        yield _text(key.description)


def _head(name: str, section: int, what: str) -> list[str]:
    title = f'.TH "{_text(name.upper())}" {section} "" "{_NAME} {__version__}" "{_NAME}"'
    return [title, ".SH NAME", f"{_text(name)} \\- {_text(what)}"]


def _list(heading: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    return [f".SH {heading}", *(f".TP\n.B {_text(left)}\n{_text(right)}" for left, right in rows)]


def _references(names: Iterable[str]) -> str:
    pages = [*(f"{name} (1)" for name in names), f"{_NAME}.toml (5)"]
    return ",\n".join(f".BR {_text(page)}" for page in pages).replace(",\n", " ,\n")


def _paragraphs(text: str, *, heading: bool = False) -> Iterator[str]:
    """Set paragraphs; those that are marked VERBATIM keep their lines, under their first one."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if paragraph.startswith(VERBATIM.strip("\n")):
            _, title, *lines = paragraph.split("\n")
            yield f".SH {_text(title.rstrip(':').upper())}" if heading else f".PP\n{_text(title)}"
            yield "\n".join([".nf", *map(_text, lines), ".fi"])
        elif paragraph:
            yield f".PP\n{_text(' '.join(paragraph.split()))}"


def _text(text: str) -> str:
    """Escape what roff would take for its own."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


def _page(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
