"""The tables of the documentation, made from the code that they are about.

`python -m tests.support.reference --write` puts them between their marks in the pages of docs/; a
test holds that nothing there is older than the code. What the code itself does not say in words
(what a field of the log means) is said here, and a test holds that no name is missing and none is
there too many.
"""

import argparse
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import click

from swproxy.cli.main import main as command_line
from swproxy.cli.manual import EXIT_STATUS
from swproxy.config.assembly import SECTIONS
from swproxy.config.config import AppTable
from swproxy.config.template import Key, app_keys, keys
from swproxy.daemon.metrics import FAMILIES
from swproxy.policy.addresses import SPECIAL
from swproxy.policy.problems import PROBLEMS
from tests.support import ROOT
from tests.support.pages import DOCS, PAGES

REFERENCE = DOCS / "reference.md"

LOG_FIELDS: Mapping[str, str] = {
    "time": "When the request ended, UTC, to the millisecond.",
    "level": "`info`, `warning` or `error`; a request is always `info`.",
    "event": "`request`, or what else happened: see below.",
    "request_id": "The answer's `X-Request-Id`; a page can show it, and you can find it here.",
    "client": "The client's address, from X-Forwarded-For if a trusted proxy is in front.",
    "app": "The application, once its signature has held; else empty.",
    "user": "Who the call was made for, if the URL's terms say so.",
    "plan": "The plan that the URL's terms name, if they do.",
    "limit": "Whose limit refused it, and of what: `user-requests`, `app-tokens` and so on.",
    "tag.NAME": "A tag of the URL's terms, up to eight.",
    "method": "The request's method.",
    "origin": "Scheme, host and port of the API, once the signature has held; else empty.",
    "path": "The path there, without its query, at most 1,024 characters of it.",
    "status": "What the client was answered; 0 if it left before.",
    "outcome": "How the request ended: see below.",
    "bytes_up": "Bytes of the request's body sent to the API, chunk framing included.",
    "bytes_down": "Bytes of the answer's body sent to the client, chunk framing included.",
    "time_to_first_byte": "Seconds from the request's head to the answer's first byte, or null.",
    "duration": "Seconds from the request's head to its end.",
    "tokens_in": "With `meter`: tokens that the model read, cached ones included, or null.",
    "tokens_out": "Tokens that it wrote, reasoning included, or null. See [usage](usage.md).",
    "model": "The model that answered, as the API calls it, or empty.",
    "code": "The code of the problem, if there was one.",
    "detail": "What was wrong, if the API's side failed.",
}

OUTCOMES: Mapping[str, str] = {
    "complete": "The API's answer went out whole, whatever its status.",
    "refused": "Refused by swproxy, for the reason that `code` gives.",
    "upstream-failed": "The API could not be reached, or broke off.",
    "client-gone": "The client left before the end; the call to the API was ended with it.",
    "preflight": "A browser asked whether its page may call, or an OPTIONS request could be passed"
    " on no further (Max-Forwards: 0), and was told.",
    "aborted": "swproxy itself ended it: a drain that took too long, or a fault.",
}

ENVIRONMENT: Mapping[str, str] = {
    "SWPROXY_CONFIG": "The configuration's path, for every command that takes `--config`.",
    "SWPROXY_ADMIN_TOKEN": "The admin listener's token, for `top` where it can't be read.",
    "SW_ID": "The application to sign or explain as, together with SW_SECRET.",
    "SW_SECRET": "Its secret.",
    "SW_HOST": "The proxy's public address, for `sign`; the same as its `--host`.",
    "SSH_CONNECTION": "Set by sshd: the address to name in the `ssh -L` line that `demo` prints.",
    "TERM": "The kind of terminal: with `dumb`, or none, `top` prints one plain frame.",
    "COLUMNS": "How wide that frame may be; 160 if nobody says.",
    "NO_COLOR": "Set to anything: no colours on a terminal.",
    "CREDENTIALS_DIRECTORY": "Set by systemd: where `${file:PATH}` looks for a relative path.",
    "RUNTIME_DIRECTORY": "Set by systemd: where the store is, unless `store.path` says so.",
    "STATE_DIRECTORY": "Set by systemd: where its snapshot is, unless `store.snapshot` says so.",
    "LISTEN_PID": "Set by systemd: the process that the sockets are for.",
    "LISTEN_FDS": "Set by systemd: how many sockets it hands over.",
    "LISTEN_FDNAMES": "Set by systemd: their names; `admin` is the one for metrics.",
    "NOTIFY_SOCKET": "Set by systemd: where the daemon says that it is ready, reloads or ends.",
    "WATCHDOG_USEC": "Set by systemd: how soon a sign of life has to follow the last.",
    "WATCHDOG_PID": "Set by systemd: the process that gives the signs of life.",
    "JOURNAL_STREAM": "Set by systemd: tells that the log goes to the journal.",
}


def config() -> str:
    """Every key of the configuration: default, unit and reason."""
    parts = []
    for section, model in SECTIONS.items():
        own = [key for key in keys() if key.section == section]
        parts.append(_section(f"[{section}]", inspect.getdoc(model) or "", own))
    parts.append(_section("[apps.ID]", inspect.getdoc(AppTable) or "", app_keys()))
    return "\n\n".join(parts)


def _section(title: str, text: str, its_keys: Iterable[Key]) -> str:
    lines = [f"## `{title}`", "", " ".join(text.split()), ""]
    for key in its_keys:
        default = f" = `{key.default}`" if key.default else ""
        lines.append(f"- **`{key.name}`**{default}<br>\n  {_prose(key.description)}")
    return "\n".join(lines)


def codes() -> str:
    """Every way in which a request can end badly."""
    lines = ["| Code | What it means, and what to do |", "| --- | --- |"]
    for code, problem in PROBLEMS.items():
        why = f"<br>**Usual cause:** {problem.cause}<br>**What to do:** {problem.remedy}"
        statuses = ", ".join(map(str, (problem.status, *problem.also)))
        lines.append(f"| `{code}`<br>{statuses} | {_prose(problem.meaning + why)} |")
    return "\n".join(lines)


def metrics() -> str:
    """Every metric, with its labels."""
    rows = []
    for name, family in FAMILIES.items():
        labels = ", ".join(f"`{label}`" for label in family.labels)
        told = f"{family.help}<br>{family.kind}" + (f", by {labels}" if labels else "")
        rows.append((f"`{name}`", told))
    rows.append(("`swproxy_info`", "The version that runs.<br>gauge, by `version`"))
    return _table("Metric", "What it counts", rows)


def log_fields() -> str:
    """Every field of the access log."""
    return _table("Field", "What it says", _coded(LOG_FIELDS))


def outcomes() -> str:
    """Every way in which the log says that a request ended."""
    return _table("Outcome", "What happened", _coded(OUTCOMES))


def exit_codes() -> str:
    """Every exit code of the commands."""
    return _table("Code", "Meaning", _coded(EXIT_STATUS))


def environment() -> str:
    """Every environment variable that is read."""
    return _table("Variable", "Meaning", _coded(ENVIRONMENT))


def addresses() -> str:
    """Every network that no name may resolve into."""
    return _table("Network", "For", ((f"`{net}`", f"{use}, {rfc}") for net, use, rfc in SPECIAL))


def commands() -> str:
    """Every command."""

    def rows(group: click.Group, prefix: str) -> Iterable[tuple[str, str]]:
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                yield from rows(command, f"{prefix} {name}")
            else:
                yield f"`{prefix} {name}`", command.short_help or ""

    return _table("Command", "What it does", rows(command_line, "swproxy"))


TABLES: Mapping[str, Callable[[], str]] = {
    "config": config,
    "commands": commands,
    "codes": codes,
    "metrics": metrics,
    "log-fields": log_fields,
    "outcomes": outcomes,
    "exit-codes": exit_codes,
    "environment": environment,
    "addresses": addresses,
}


def _coded(texts: Mapping[str, str] | Mapping[int, str]) -> Iterable[tuple[str, str]]:
    return ((f"`{name}`", text) for name, text in texts.items())


def _table(left: str, right: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {left} | {right} |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {_prose(a)} | {_prose(b)} |" for a, b in rows)])


_NAME = re.compile(r"(?<![`\w*])(?:(?:server|limits|upstream|cors)\.)?[a-z]+(?:_[a-z]+)+(?![`\w])")


def _prose(text: str) -> str:
    """Set names of keys as code, and leave nothing that a table would take for its own."""
    return _NAME.sub(lambda found: f"`{found[0]}`", text).replace("|", "\\|")


_MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def rendered(text: str) -> str:
    """Return a page with every table between marks made anew."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n\n{found[3]}", text)


def marked(text: str) -> list[str]:
    """Return the names of the tables that a page has marks for."""
    return [found[2] for found in _MARKED.finditer(text)]


def _main() -> None:
    parser = argparse.ArgumentParser(description="Tell, or mend, which pages are out of date.")
    parser.add_argument("--write", action="store_true", help="write the tables anew")
    write = parser.parse_args().write
    for page in PAGES:
        text = page.read_text()
        if text != rendered(text):
            _mend(page, rendered(text), write=write)


def _mend(page: Path, text: str, *, write: bool) -> None:
    if write:
        page.write_text(text)
    click.echo(f"{page.relative_to(ROOT)} {'written' if write else 'is out of date'}")


if __name__ == "__main__":
    _main()
