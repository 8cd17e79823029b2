"""`swproxy top`: the live feed in a terminal, for who is on the machine by ssh.

On a terminal it has the other screen, as `top` and `less` do, and gives it back whatever ends it:
q, Ctrl-C, a signal, a fault. Elsewhere it prints one frame and ends.
"""

# ruff: noqa: PLC0415 - what only this command needs is loaded by it
from __future__ import annotations

import json
import os
import signal
import sys
import termios
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from swproxy.cli.options import config_option, example
from swproxy.config.listen_address import ListenAddress, parse_listen

if TYPE_CHECKING:
    import trio
    from rich.console import Console

    from swproxy.daemon.frame import Frame

__all__ = ["top"]

_MOST_REQUESTS = 100
_AGAIN_SECONDS = 1.0
_PLAIN_WIDTH = 160
"""Columns where no terminal says how many there are."""


class _Address(click.ParamType[ListenAddress]):
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return parse_listen(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


@click.command(
    "top",
    short_help="Show what a running daemon is doing.",
    epilog=example("swproxy top --config /etc/swproxy/swproxy.toml"),
)
@config_option
@click.option(
    "--admin",
    type=_Address(),
    metavar="ADDRESS",
    help="The admin listener, host:port or unix:/path, if not as configured.",
)
@click.option("--once", is_flag=True, help="Print one frame, whole, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print one frame as JSON, and end.")
def top(config: Path, admin: ListenAddress | None, *, once: bool, as_json: bool) -> None:
    """Show what a running daemon is doing: streams, requests, refusals, limits, workers.

    It looks every second at the admin listener, until q or Ctrl-C. Where standard output is no
    terminal, it prints one frame. The listener's token is the configured one, or that of
    SWPROXY_ADMIN_TOKEN in the environment for who can't read the configuration.
    """
    import trio

    from swproxy.cli.feed import FeedEndedError, FeedRefusedError

    token = os.environ.get("SWPROXY_ADMIN_TOKEN", "")
    if admin is None or (not token and config.exists()):
        from swproxy.config.loader import load_admin

        address, configured = load_admin(config, os.environ)
        admin, token = admin or address, token or configured
    if admin is None:
        raise click.UsageError("no admin listener: server.admin_listen is empty. Give --admin.")
    try:
        if as_json:
            frame = trio.run(_once, admin, token)
            click.echo(json.dumps(frame).replace("\x7f", "\\u007f"))
        elif once or not _interactive():
            _show_once(trio.run(_once, admin, token))
        elif failure := trio.run(_follow, admin, token):
            _fail(admin, failure)
    except (FeedEndedError, FeedRefusedError) as error:
        _fail(admin, str(error))


def _fail(admin: ListenAddress, reason: str) -> NoReturn:
    click.echo(f"swproxy: {admin}: {reason}", err=True)
    sys.exit(1)


def _interactive() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


def _console(**more: Any) -> Console:
    try:
        from rich.console import Console
    except ImportError:
        reason = "needs what swproxy does not install by itself: pip install 'swproxy[top]'"
        raise click.UsageError(f"top {reason}.") from None
    return Console(highlight=False, markup=False, emoji=False, **more)


async def _once(admin: ListenAddress, token: str) -> Frame:
    """Return a frame that has rates, which take two looks."""
    from swproxy.cli.feed import open_feed

    async with open_feed(admin, token) as feed:
        first = await feed.next()
        if first["seconds"] is not None:
            return first
        second = await feed.next()
        second["requests"] = [*first["requests"], *second["requests"]][-_MOST_REQUESTS:]
        return second


def _show_once(frame: Frame) -> None:
    terminal = _interactive()
    width = None if terminal or os.environ.get("COLUMNS") else _PLAIN_WIDTH
    console = _console(width=width, color_system="auto" if terminal else None)
    from swproxy.cli.feed import printable
    from swproxy.cli.screen import render

    shown = printable(frame)
    console.print(render(shown, shown["requests"]))


class _View:
    """What is on the screen, which is taken by `begin` with the first frame."""

    def __init__(self, console: Console, begin: Callable[[], None]) -> None:
        self._console = console
        self._begin = begin
        self._frame: Frame | None = None
        self._requests: deque[dict[str, Any]] = deque(maxlen=_MOST_REQUESTS)
        self._notice = ""

    @property
    def begun(self) -> bool:
        """Tell whether there was a frame."""
        return self._frame is not None

    def take(self, frame: Frame) -> None:
        """Show a new frame."""
        from swproxy.cli.feed import printable

        if not self.begun:
            self._begin()
        self._frame = printable(frame)
        self._requests += self._frame["requests"]
        self._notice = ""
        self.draw()

    def lose(self, reason: str) -> None:
        """Say that what is shown is old."""
        self._notice = f"{reason}; trying again"
        self.draw()

    def draw(self) -> None:
        """Draw what is known, in the size that the terminal has now."""
        from swproxy.cli.screen import render

        if self._frame is not None:
            height = self._console.size.height
            shown = render(self._frame, list(self._requests), height=height, notice=self._notice)
            self._console.update_screen(shown)


async def _follow(admin: ListenAddress, token: str) -> str:
    """Show frame after frame, until told to end; return why that was not possible, or ""."""
    import trio

    console = _console()
    failure = ""
    with ExitStack() as ended:
        view = _View(console, lambda: ended.enter_context(_screen(console)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_obey_signals, view, nursery.cancel_scope)
            nursery.start_soon(_obey_keys, nursery.cancel_scope)
            failure = await _look(admin, token, view)
            nursery.cancel_scope.cancel()
    return failure


async def _look(admin: ListenAddress, token: str, view: _View) -> str:
    """Look for ever, or return why that can't be.

    A daemon that was there and goes away may come back, as in a restart.
    """
    import trio

    from swproxy.cli.feed import FeedEndedError, FeedRefusedError, open_feed

    while True:
        try:
            async with open_feed(admin, token) as feed:
                while True:
                    view.take(await feed.next())
        except FeedRefusedError as error:
            return str(error)
        except FeedEndedError as error:
            if not view.begun:
                return str(error)
            view.lose(str(error))
        await trio.sleep(_AGAIN_SECONDS)


async def _obey_signals(view: _View, scope: trio.CancelScope) -> None:
    import trio

    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    with trio.open_signal_receiver(*ends, signal.SIGWINCH) as signals:
        async for number in signals:
            if number in ends:
                scope.cancel()
                return
            view.draw()


async def _obey_keys(scope: trio.CancelScope) -> None:
    """End at a q, or when the terminal is gone."""
    import trio

    if not sys.stdin.isatty():
        return
    keyboard = sys.stdin.fileno()
    while True:
        await trio.lowlevel.wait_readable(keyboard)
        try:
            typed = os.read(keyboard, 64)
        except OSError:
            typed = b""
        if not typed or b"q" in typed.lower():
            scope.cancel()
            return


@contextmanager
def _screen(console: Console) -> Iterator[None]:
    """Have the terminal's other screen, without a cursor, and keys as they are typed."""
    keyboard = sys.stdin.fileno() if sys.stdin.isatty() else None
    before = termios.tcgetattr(keyboard) if keyboard is not None else None
    try:
        if keyboard is not None:
            _take_keys(keyboard)
        console.set_alt_screen(True)
        console.show_cursor(False)
        yield
    finally:
        console.show_cursor(True)
        console.set_alt_screen(False)
        if keyboard is not None and before is not None:
            termios.tcsetattr(keyboard, termios.TCSAFLUSH, before)


def _take_keys(keyboard: int) -> None:
    """Have keys come one by one, unseen; and no Ctrl-Z, which would leave the screen as it is."""
    mode = termios.tcgetattr(keyboard)
    mode[3] &= ~(termios.ICANON | termios.ECHO)
    mode[6][termios.VSUSP] = b"\0"
    mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
    termios.tcsetattr(keyboard, termios.TCSAFLUSH, mode)
