"""The tables that say how much may be called, and where what was called is kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, PlainValidator, ValidationInfo, field_validator

from swproxy.config.faults import kind
from swproxy.config.fields import FilePath, WhenDown
from swproxy.config.section import Section
from swproxy.config.store_address import StoreAddress, parse_store_url
from swproxy.policy.allowances import (
    Allowance,
    Pace,
    TokenBudget,
    parse_pace,
    parse_token_budget,
)

__all__ = ["AppLimits", "Store", "UserLimits", "read_allowance"]


def _pace(value: object) -> Pace | None:
    if value is None or isinstance(value, Pace):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expects text, got {kind(value)}")
    return parse_pace(value) if value else None


def _tokens(value: object) -> TokenBudget | None:
    if value is None or isinstance(value, TokenBudget):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expects text, got {kind(value)}")
    return parse_token_budget(value) if value else None


def _store_url(value: object) -> StoreAddress | None:
    if value is None or isinstance(value, StoreAddress):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expects text, got {kind(value)}")
    return parse_store_url(value) if value else None


class UserLimits(Section):
    """What each user may use. A URL names its user by the term `user`."""

    requests: Annotated[Pace | None, PlainValidator(_pace)] = Field(
        default=None,
        description='How many requests in a time: "20/minute", also per second, hour or day. As'
        ' many may come at once, or fewer: "20/minute burst 5". Empty: any number.',
    )
    concurrent: int = Field(
        default=0,
        ge=0,
        le=10**9,
        description="How many calls may be under way at once, streams and WebSockets included. 0:"
        " any number.",
    )
    tokens: Annotated[TokenBudget | None, PlainValidator(_tokens)] = Field(
        default=None,
        description='How many tokens in each "minute", "hour", "day" or "month" of UTC, such as'
        ' "50000/day". What a call used is read off its answer with meter = "tokens", and taken'
        " for what it asked for without. Empty: any number.",
    )

    def allowance(self) -> Allowance:
        """Return the table as the value that calls are held to."""
        return Allowance(self.requests, self.concurrent or None, self.tokens)


class AppLimits(UserLimits):
    """What an application may use as a whole."""

    user: UserLimits = Field(
        default=UserLimits(),
        description="The same for each user that URLs name (the term `user`).",
    )


class Store(Section):
    """Where it is kept what was used up and revoked, once anything is limited."""

    path: FilePath = Field(
        default=None,
        description="The SQLite file that the workers of this machine share. It should be in"
        " memory (tmpfs), where nothing waits for a disk; what is to survive goes to the snapshot."
        " Empty: ledger.sqlite in $RUNTIME_DIRECTORY, which systemd sets, else in ledger/ beside"
        " this file.",
    )
    snapshot: FilePath = Field(
        default=None,
        description="Where a copy is written every ten seconds and at the end, from which the file"
        " is made when the machine has been restarted: at most ten seconds of counts are lost by a"
        " power cut. Empty: ledger.sqlite in $STATE_DIRECTORY, else snapshot.sqlite in ledger/"
        " beside this file.",
    )

    url: Annotated[StoreAddress | None, PlainValidator(_store_url)] = Field(
        default=None,
        description="A Redis or Valkey server in place of the file, shared by many nodes:"
        ' "redis://host:6379/0", rediss:// for TLS, valkey:// and valkeys:// alike, or'
        ' "unix:///run/valkey/valkey.sock". Several host:port, joined by commas, are a primary and'
        " its replicas, or nodes of a cluster. Needs swproxy[valkey]. Empty: the file.",
    )
    username: str = Field(
        default="", description="As which user of the server's ACL. Empty: its default user."
    )
    password: str = Field(
        default="", repr=False, description="The password, best by reference. Empty: none is asked."
    )
    ca_file: FilePath = Field(
        default=None,
        description="Certificates (PEM) to believe a server on rediss:// by. Empty: those of the"
        " system.",
    )
    when_down: WhenDown = Field(
        default="refuse",
        description='What becomes of limited calls when the server can\'t be asked: "refuse"'
        ' answers 503, "local" has this machine count rates and places by itself. One-time'
        " URLs and budgets of tokens are refused either way.",
    )

    @field_validator("username", "password", "when_down")
    @classmethod
    def _of_a_server(cls, value: str, info: ValidationInfo) -> str:
        if value and value != "refuse" and info.data.get("url") is None:
            raise ValueError("is about a server, and store.url names none")
        return value

    @field_validator("password")
    @classmethod
    def _password(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("username") and not value:
            raise ValueError("has to be there, since store.username is")
        return value

    def placed(self, directory: Path, environ: Mapping[str, str]) -> Store:
        """Return the table with what is left out filled in; `directory` is the configuration's."""
        path = self.path or _within(environ.get("RUNTIME_DIRECTORY"), directory / "ledger")
        snapshot = self.snapshot or (
            Path(environ["STATE_DIRECTORY"].split(":")[0]) / "ledger.sqlite"
            if environ.get("STATE_DIRECTORY")
            else directory / "ledger" / "snapshot.sqlite"
        )
        return self.model_copy(update={"path": path, "snapshot": snapshot})


def _within(directories: str | None, other: Path) -> Path:
    """Return the file in the first of the directories that systemd made, else in another."""
    return (Path(directories.split(":")[0]) if directories else other) / "ledger.sqlite"


def read_allowance(table: Mapping[str, object]) -> Allowance:
    """Return what a plan allows each user; raises pydantic's ValidationError."""
    return UserLimits.model_validate(table).allowance()
