"""What is wrong with a configuration, told in our own words and without any value.

A value may be a secret, or hold one after its references were replaced. So a fault says where
it is, what is expected and what kind of thing was found instead, but never repeats what it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path

__all__ = ["ConfigError", "Fault", "Place", "key_path", "kind"]


# Where in a TOML document something is: keys, and indexes into lists.
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong: in which file, at which key ("" for the whole file), and why."""

    file: Path
    key: str
    reason: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (str(self.file), self.key, self.reason)))


class ConfigError(Exception):
    """A configuration that cannot be used; `faults` lists everything wrong with it."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "true or false"),
    (int, "a whole number"),
    (float, "a number"),
    (str, "text"),
    (list, "a list"),
    (dict, "a table"),
    ((datetime, date, time), "a date or time"),
)


def kind(value: object) -> str:
    """Say what kind of thing a TOML value is: "text", "a whole number", "a table" ..."""
    return next((name for type_, name in _KINDS if isinstance(value, type_)), "nothing usable")


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def key_path(place: Place) -> str:
    """Spell a place in a TOML document as TOML would: `apps.my-app.secrets[0]`."""
    spelled = ""
    for part in place:
        if isinstance(part, int):
            spelled += f"[{part}]"
        else:
            key = part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            spelled += f".{key}" if spelled else key
    return spelled
