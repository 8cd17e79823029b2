"""Completion in bash of words that a shell would take apart, such as an id with a space in it.

click's script for bash inserts a word as it is told it. zsh and fish quote by themselves.
"""

from __future__ import annotations

import os
import re
from typing import Any

from click.shell_completion import BashComplete, CompletionItem, add_completion_class

__all__ = ["QuotingBash"]

_SPECIAL = re.compile(r"[^\w@%+=:,./~^-]")
_SPECIAL_IN_QUOTES = re.compile(r'["$`\\]')


@add_completion_class
class QuotingBash(BashComplete):
    """bash, told words as they have to be typed."""

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Return an item as click's script reads it: that takes one backslash of two away."""
        value = item.value
        opened = _word_begun()[:1]
        if opened != "'":
            special = _SPECIAL_IN_QUOTES if opened == '"' else _SPECIAL
            value = special.sub(r"\\\g<0>", value)
        return f"{item.type},{value.replace(chr(92), chr(92) * 2)}"


def _word_begun() -> str:
    """Return the word that is completed as it was typed; the script puts each in a line."""
    words = os.environ.get("COMP_WORDS", "").split("\n")
    place = int(os.environ.get("COMP_CWORD", "0"))
    return words[place] if place < len(words) else ""
