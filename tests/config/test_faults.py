"""Faults: where and why, in one line."""

from datetime import date
from pathlib import Path

import pytest

from swproxy.config.faults import ConfigError, Fault, Place, key_path, kind


@pytest.mark.parametrize(
    ("place", "spelled"),
    [
        ((), ""),
        (("server", "listen", 1), "server.listen[1]"),
        (("apps", "my-app", "headers", "X-Key"), "apps.my-app.headers.X-Key"),
        (("apps", "a.b c", "secrets", 0), 'apps."a.b c".secrets[0]'),
        (('a"b',), '"a\\"b"'),
    ],
)
def test_key_path(place: Place, spelled: str) -> None:
    assert key_path(place) == spelled


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (True, "true or false"),
        (1, "a whole number"),
        (1.0, "a number"),
        ("x", "text"),
        ([], "a list"),
        ({}, "a table"),
        (date(2026, 1, 1), "a date or time"),
        (None, "nothing usable"),
    ],
)
def test_kind(value: object, name: str) -> None:
    assert kind(value) == name


def test_errors_list_every_fault() -> None:
    one = Fault(Path("a.toml"), "server.listen", "is bad")
    two = Fault(Path("b.toml"), "", "cannot be read")
    error = ConfigError(iter([one, two]))
    assert error.faults == (one, two)
    assert str(error) == "a.toml: server.listen: is bad\nb.toml: cannot be read"
