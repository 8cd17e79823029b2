"""An application's table and what is done to it: made, given a new secret, rid of the old one.

Secrets stand oldest first. While there are two, both verify; so a backend can be given the newer
at leisure, and `retire` ends the older when no URL made with it is in use any more.
"""

from __future__ import annotations

import json
import secrets as randomness
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tomli_w

from swproxy.config.assembly import AppSource, Table
from swproxy.config.references import BadReferenceError, Reference, split

__all__ = [
    "fresh_id",
    "fresh_secret",
    "masked",
    "new_table",
    "render",
    "retired",
    "rotated",
    "row",
    "shown",
    "variables",
]

# Without those that are mistaken for each other when read aloud or copied by hand.
_ID_CHARACTERS = "23456789abcdefghjkmnpqrstuvwxyz"
_SECRET_BYTES = 32
# A header value's first word, if it is one of these, says how the key is used and is no part of it.
_AUTH_SCHEMES = ("bearer", "basic", "token", "apikey", "key")


def fresh_id() -> str:
    """Return a new application id that people can read: `app-7f3k2`."""
    return "app-" + "".join(randomness.choice(_ID_CHARACTERS) for _ in range(5))


def fresh_secret() -> str:
    """Return a new secret of 256 random bits, in characters that need no quoting anywhere."""
    return randomness.token_urlsafe(_SECRET_BYTES)


def new_table(secret: str, allow: Iterable[str], headers: Iterable[tuple[str, str]]) -> Table:
    """Return a new application's table; references in header values stay as they are."""
    # The secret is one of ours, and holds no "${" that would make it a reference.
    table: Table = {"secrets": [secret], "allow": list(allow)}
    if given := dict(headers):
        table["headers"] = given
    return table


def rotated(table: Table, secret: str) -> Table:
    """Return the table with a second, newer secret; ValueError if there are two already."""
    secrets = _secrets(table)
    if len(secrets) > 1:
        raise ValueError("has two secrets already: end the older one first, with `retire`")
    return {**table, "secrets": [*secrets, secret]}


def retired(table: Table) -> Table:
    """Return the table without the older of two secrets; ValueError if there is only one."""
    secrets = _secrets(table)
    if len(secrets) < 2:
        raise ValueError("has only one secret: add its successor first, with `rotate`")
    return {**table, "secrets": secrets[1:]}


def _secrets(table: Table) -> list[Any]:
    secrets = table.get("secrets")
    if not isinstance(secrets, list) or not secrets:
        raise ValueError("has no list of secrets")
    return secrets


def masked(text: str) -> str:
    """Return configured text with all but its references hidden: `Bearer ${OPENAI_API_KEY}`."""
    try:
        parts: Sequence[str | Reference] = split(text)
    except BadReferenceError:
        return "***"
    return "".join(str(part) if isinstance(part, Reference) else _hidden(part) for part in parts)


def _hidden(literal: str) -> str:
    if literal.strip().lower() in _AUTH_SCHEMES:
        return literal
    return "***"


def variables(table: Table) -> list[str]:
    """Return the environment variables that an application's headers refer to."""
    texts = table.get("headers", {}).values()
    parts = [part for text in texts for part in split(text)]
    return list(dict.fromkeys(p.name for p in parts if isinstance(p, Reference) and p.name))


def row(source: AppSource) -> tuple[str, str, str, str]:
    """Return what a list shows of an application: id, number of secrets, allow, file."""
    allow = " ".join(map(str, _items(source.table, "allow")))
    return source.id, str(len(_items(source.table, "secrets"))), allow, str(source.file)


def shown(source: AppSource) -> list[tuple[str, str]]:
    """Return what may be shown of an application, line by line: no secret, no header's value."""
    table = source.table
    rows = [("id", source.id), ("file", str(source.file))]
    rows += [("secret", masked(str(each))) for each in _items(table, "secrets")]
    rows += [("allow", str(each)) for each in _items(table, "allow")]
    headers, cors = table.get("headers"), table.get("cors")
    if isinstance(headers, dict):
        rows += [("header", f"{name}: {masked(str(each))}") for name, each in headers.items()]
    rows += [("from page", str(each)) for each in _items(table, "headers_from_page")]
    if isinstance(cors, dict):
        rows += [("origin", str(each)) for each in _items(cors, "allow_origins")]
    rows += [("requires", str(each)) for each in _items(table, "require")]
    rows += [("term", line) for line in _lines(table.get("terms"))]
    plans = table.get("plans")
    for name, plan in plans.items() if isinstance(plans, dict) else ():
        rows += [(f"plan {name}", line) for line in _lines(plan)]
    return rows


def _lines(table: object, start: str = "") -> Iterator[str]:
    """Give a line for each value of a table that nobody has checked yet, and of those in it."""
    for name, value in table.items() if isinstance(table, dict) else ():
        if isinstance(value, dict):
            yield from _lines(value, f"{start}{name}.")
        else:
            yield f"{start}{name} = {json.dumps(value, ensure_ascii=False, default=str)}"


def _items(table: Table, key: str) -> list[Any]:
    """Return a list of a table that nobody has checked yet."""
    value = table.get(key)
    return value if isinstance(value, list) else []


def render(app_id: str, table: Table) -> str:
    """Return the content of an application's file."""
    return (
        f"# The application {app_id}, written by `swproxy app`. You may edit it; but the commands\n"
        "# that change it write it whole, so comments of your own would be lost.\n\n"
        f"{tomli_w.dumps(table)}"
    )
