"""The command line: what is typed, what is printed, and exit codes; all else is done elsewhere.

Exit codes: 0 ended well, 1 failed while running, 2 bad usage or configuration. Modules are loaded
by the commands that need them, so that signing a URL loads neither trio nor the proxy.
"""

# ruff: noqa: PLC0415 - what only one command needs is loaded by it
from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from swproxy import __version__
from swproxy.cli.apps import app
from swproxy.cli.limits import check_store, limits, revoke, usage
from swproxy.cli.options import (
    VERBATIM,
    add_headers_option,
    allow_option,
    app_option,
    config_option,
    example,
    note_typed_keys,
    request_options,
    terms_option,
    to_type,
)
from swproxy.cli.terminal import Commands, print_faults, print_report, print_secret, print_tries
from swproxy.cli.top import top
from swproxy.config import DEFAULT_CONFIG
from swproxy.sw1.claims import EXPIRY_SECONDS
from swproxy.sw1.sign import sign_url

if TYPE_CHECKING:
    from swproxy.config.config import Config

__all__ = ["main"]

_OF_ANOTHER_CALL = ("signature-mismatch", "signed-header-missing", "signed-header-duplicate")

_COMPLETION = f"""{VERBATIM}Completion in bash, or likewise in zsh and fish:
  eval "$(_SWPROXY_COMPLETE=bash_source swproxy)"
"""


@click.group(
    cls=Commands,
    epilog=_COMPLETION,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 98},
)
@click.version_option(__version__, message="swproxy %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Let a web page call an API directly, without ever seeing its key.

    A backend signs a URL, the page calls it, and swproxy adds the key and streams the answer.
    Try it with `swproxy demo`; set it up with `swproxy init`, `swproxy serve`.
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False


@main.command(
    "demo",
    short_help="Show it at work, on this machine alone.",
    epilog=example("swproxy demo --port 8080"),
)
@click.option("--port", type=click.IntRange(0, 65535), default=3000, show_default=True)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address for the page, signing and swproxy; 0.0.0.0 lets other machines in.",
)
def demo(port: int, host: str) -> None:
    """Show it at work: a page, swproxy and a stand-in model, on this machine alone.

    All of it is behind one port. From another machine, ssh -L brings it to yours: the line to
    type is printed.
    """
    from swproxy.demo.main import run

    sys.exit(run(port, host))


@main.command(
    "init",
    short_help="Write a configuration and a first application.",
    epilog=example(
        "swproxy init --app chat --allow 'https://api.openai.com/v1/*' \\",
        "    --header 'Authorization: Bearer ${OPENAI_API_KEY}'",
    ),
)
@config_option
@app_option
@allow_option
@add_headers_option
def init(
    config: Path, app_id: str | None, allow: Sequence[str], headers: Sequence[tuple[str, str]]
) -> None:
    """Write a commented configuration and a first application, with a fresh id and secret.

    Without --allow, the application is for OpenAI's API. Nothing is ever overwritten.
    """
    from swproxy.config import applications, signer, store
    from swproxy.config.config import App, Config
    from swproxy.config.reach import unreachable_patterns
    from swproxy.policy.destination import Pattern

    if headers and not allow:
        raise click.UsageError("--header needs --allow, which says who may see the header.")
    if not allow:
        allow = ["https://api.openai.com/v1/*"]
        headers = [("Authorization", "Bearer ${OPENAI_API_KEY}")]
    url = signer.example_url(allow[0])
    app_id, secret = app_id or applications.fresh_id(), applications.fresh_secret()
    table = applications.new_table(secret, allow, headers)
    file = store.initialise(config, app_id, table)
    note_typed_keys(headers)
    click.echo(f"Wrote {config} and {file}, readable by you alone.\n")
    print_secret(app_id, secret)
    click.echo("\nNext:")
    made = App(app_id, (secret,), tuple(map(Pattern.parse, allow)))
    for _, _, reason in unreachable_patterns(Config(apps={app_id: made})):
        click.echo(f"  in {config}: {reason}")
    for name in applications.variables(table):
        click.echo(f"  export {name}=...")
    signing = to_type(config, "sign", url)
    click.echo(f"  {to_type(config, 'serve')}")
    click.echo("and in another terminal:")
    click.echo(f'  curl -N "$({signing})"')


main.add_command(app)


@main.command(
    "sign",
    short_help="Print a signed URL.",
    epilog=example(
        'curl -N "$(swproxy sign https://api.openai.com/v1/models)"',
        "swproxy sign https://api.openai.com/v1/responses --body @request.json",
    ),
)
@click.argument("url")
@request_options
@click.option(
    "--expiry", type=click.IntRange(1), default=600, show_default=True, help="In seconds."
)
@terms_option
@app_option
@click.option("--host", envvar="SW_HOST", metavar="URL", help="The proxy, if not as configured.")
@config_option
def sign(
    url: str,
    method: str | None,
    expiry: int,
    headers: Sequence[tuple[str, str]],
    body: bytes | None,
    terms: str,
    app_id: str | None,
    host: str | None,
    config: Path,
) -> None:
    """Print a signed URL.

    The secret is the configured application's, or that of SW_ID and SW_SECRET in the environment.
    Whoever calls the URL has to use the same method, the headers given here and the same body.
    """
    if terms and "#" in url:
        raise click.UsageError("--term: the URL has a fragment already, which is where terms go.")
    url += terms
    id_, secret, base = _signer(config, app_id, host, url, expiry)
    method = method or ("GET" if body is None else "POST")
    try:
        signed = sign_url(id_, secret, base, url, expiry, method, _each_once(headers), body)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if url.lower().startswith(("ws:", "wss:")) and signed.startswith("http"):
        # As WebSocket clients want it. Only path and query are signed.
        signed = "ws" + signed.removeprefix("http")
    click.echo(signed)


@main.command(
    "explain",
    short_help="Say why a signed URL is accepted or refused.",
    epilog=example("swproxy explain 'https://edge.example.com/?X-Sw-Algorithm=...' -X POST"),
)
@click.argument("signed_url")
@request_options
@click.option("--canonical", is_flag=True, help="Print all that is hashed, in each spelling tried.")
@config_option
def explain(
    signed_url: str,
    method: str | None,
    headers: Sequence[tuple[str, str]],
    body: bytes | None,
    *,
    canonical: bool,
    config: Path,
) -> None:
    """Say why a signed URL is accepted or refused, field by field; - reads it from standard input.

    The secret is the configured application's, or that of SW_ID and SW_SECRET in the environment.
    Method, headers and body are those of the request that is made with the URL. Exit code 1 tells
    that it is refused, or that this cannot be known.
    """
    from swproxy.cli.resolver import resolve
    from swproxy.config.diagnosis import report

    if signed_url == "-":
        signed_url = sys.stdin.read().strip()
    judged = method or ("GET" if body is None else "POST")
    loaded, secrets = _verifier(config, signed_url)
    found = report(
        signed_url,
        judged,
        headers,
        body,
        config=loaded,
        secrets=secrets,
        now=time.time(),
        resolve=resolve,
    )
    print_report(found, every=canonical)
    if found.refusal is not None and found.refusal.code in _OF_ANOTHER_CALL:
        print_tries(found, None if method else judged)
    sys.exit(0 if found.verdict == "ok" else 1)


@main.command(
    "check",
    short_help="Tell every fault of the configuration.",
    epilog=example("swproxy check && systemctl reload swproxy"),
)
@config_option
@click.option("--offline", is_flag=True, help="Ask no name server where the names in `allow` lead.")
@click.option("--connect", is_flag=True, help="Ask the server of store.url as well.")
def check(config: Path, *, offline: bool, connect: bool) -> None:
    """Check the configuration: every fault at once, with its file, key and reason.

    Exit code 2 tells that there are some. Warnings alone leave it 0. With --connect, 1 tells that
    the store of limits can't be reached.
    """
    from swproxy.cli.resolver import resolve
    from swproxy.config.loader import inspect
    from swproxy.config.reach import nothing_resolved

    found = inspect(config, os.environ, nothing_resolved if offline else resolve)
    print_faults(found.warnings, warning=True)
    if found.config is None:
        print_faults(found.faults)
        sys.exit(2)
    listen = ", ".join(map(str, found.config.server.listen)) or "systemd's sockets"
    click.echo(f"{config}: no fault; applications: {len(found.config.apps)}; listens on {listen}")
    if connect:
        check_store(found.config)


@main.command(
    "serve",
    short_help="Run the proxy.",
    epilog=example("swproxy serve --config /etc/swproxy/swproxy.toml"),
)
@config_option
def serve(config: Path) -> None:
    """Run the proxy. SIGTERM lets answers under way end; SIGHUP reloads the configuration."""
    from swproxy.daemon.serve import run

    sys.exit(run(config))


for _command in (usage, limits, revoke, top):
    main.add_command(_command)


if os.environ.get("_SWPROXY_COMPLETE") == "bash_complete":
    import swproxy.cli.completion  # noqa: F401 - click finds it


def _each_once(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    if len({name.lower() for name, _ in headers}) < len(headers):
        raise click.UsageError("a header that is signed may be given only once.")
    return dict(headers)


def _verifier(config: Path, signed_url: str) -> tuple[Config, Sequence[str] | None]:
    """Find what there is to judge a URL with: a configuration, and secrets if they are at hand."""
    from swproxy.config.config import Config
    from swproxy.config.loader import load_to_sign
    from swproxy.sw1.explain import url_app_id

    present = config.exists() or str(config) != DEFAULT_CONFIG
    loaded = load_to_sign(config, os.environ) if present else Config()
    id_, secret = os.environ.get("SW_ID", ""), os.environ.get("SW_SECRET", "")
    app_id = url_app_id(signed_url)
    if secret and id_ == app_id:
        return loaded, [secret]
    if not present or app_id is None:
        return loaded, None
    application = loaded.apps.get(app_id)
    return loaded, application.secrets if application else ()


def _signer(
    config: Path, app_id: str | None, host: str | None, url: str, expiry: int
) -> tuple[str, str, str]:
    """Find out who signs: id, secret, and the address of the proxy; say if it will be in vain."""
    id_, secret = os.environ.get("SW_ID", ""), os.environ.get("SW_SECRET", "")
    # SW_SECRET alone may be there for a reference in the configuration.
    if id_ and not secret:
        raise click.UsageError("SW_ID is set, but SW_SECRET is not.")
    by_environment = id_ and app_id is None
    if by_environment and (host or not config.exists()):
        if expiry > EXPIRY_SECONDS:
            _doubt(f"{expiry} seconds are more than limits.expiry_seconds, unless it was raised.")
        return id_, secret, host or "http://127.0.0.1:3000"
    from swproxy.config import signer
    from swproxy.config.loader import load_to_sign

    loaded = load_to_sign(config, os.environ)
    application = loaded.apps.get(id_)
    if not by_environment:
        try:
            application = signer.choose(loaded, app_id)
        except ValueError as error:
            raise click.UsageError(f"{error}.") from None
        id_, secret = application.id, signer.first_secret(application)
    if refusal := signer.doubt(loaded, application, url, expiry):
        _doubt(refusal.detail)
    base = host or loaded.server.base_url()
    if not base:
        raise click.UsageError(
            "the proxy's address is not known: set server.public_url, or --host."
        )
    return id_, secret, base


def _doubt(reason: str) -> None:
    click.echo(f"note: swproxy will refuse this URL: {reason}", err=True)
