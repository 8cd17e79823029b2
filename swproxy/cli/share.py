"""What a system's `share` directory has of a command: manual pages, and completion for shells.

    python -m swproxy.cli.share /usr/local/share
    python -m swproxy.cli.share --remove /usr/local/share

For one person the directory is `~/.local/share`.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from swproxy.cli.main import main
from swproxy.cli.manual import pages

__all__ = ["share"]

_PAGES = "man/man[15]/swproxy[-.]*.gz"
_COMPLETIONS = {
    "bash": "bash-completion/completions/swproxy",
    "zsh": "zsh/site-functions/_swproxy",
    "fish": "fish/vendor_completions.d/swproxy.fish",
}


def _files() -> Iterator[tuple[str, bytes]]:
    for name, text in pages():
        # No time in it: the same bytes each time.
        yield f"man/man{name[-1]}/{name}.gz", gzip.compress(text.encode(), mtime=0)
    for shell, place in _COMPLETIONS.items():
        kind = get_completion_class(shell)
        assert kind is not None, "click completes for all three"
        made = kind(main, {}, "swproxy", "_SWPROXY_COMPLETE")
        yield place, (made.source_template % made.source_vars()).encode()


@click.command()
@click.option("--remove", is_flag=True, help="Take away what was written.")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def share(directory: Path, *, remove: bool) -> None:
    """Write manual pages and completions below a directory such as /usr/local/share."""
    # Another version may have had commands that this one has not.
    for file in [*directory.glob(_PAGES), *(directory / place for place in _COMPLETIONS.values())]:
        file.unlink(missing_ok=True)
    for place, content in [] if remove else _files():
        file = directory / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


if __name__ == "__main__":
    share()
