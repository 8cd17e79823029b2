"""The kinds of text that a configuration is made of, each with its check.

The checks raise ValueError with half a sentence whose subject is the key ("has no port"), and
never repeat the value: it may hold a secret, put there by a reference.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, PlainValidator, ValidationInfo

from swproxy.config.faults import kind
from swproxy.config.listen_address import ListenAddress, parse_listen
from swproxy.policy.cors import parse_origin
from swproxy.policy.destination import Pattern
from swproxy.policy.headers import configurable
from swproxy.policy.page_headers import PageHeaders
from swproxy.policy.weights import Weight

__all__ = [
    "AdminListen",
    "AdminToken",
    "Allow",
    "FilePath",
    "FromPage",
    "HeaderName",
    "HeaderValue",
    "Hosts",
    "Listen",
    "LogFormat",
    "Meter",
    "ModelName",
    "Networks",
    "OnLeave",
    "Origins",
    "PublicUrl",
    "Seconds",
    "Secrets",
    "WeightValue",
    "Workers",
    "check_app_id",
]

Network = IPv4Network | IPv6Network


def _text(parse: Callable[[str], object]) -> PlainValidator:
    """Make a field's validator out of a function that reads text."""

    def validate(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError(f"expects text, got {kind(value)}")
        return parse(value)

    return PlainValidator(validate)


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        raise ValueError('expects a network such as "10.0.0.0/8", without host bits') from None


def _public_url(text: str) -> str:
    if not text:
        return text
    try:
        url = urlsplit(text)
        valid = url.port != 0 and url.hostname and re.fullmatch(r"[!-~]+", text)
    except ValueError:
        valid = None
    if not valid or url.scheme not in ("http", "https"):
        raise ValueError('expects a URL such as "https://edge.example.com/sw"')
    if url.username is not None or "?" in text or "#" in text:
        raise ValueError("takes no user name, query or fragment")
    return text


def _path(value: object, info: ValidationInfo) -> Path | None:
    if value is None or isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expects text, got {kind(value)}")
    if "\0" in value:
        raise ValueError("expects a file's path")
    return Path((info.context or {}).get("directory", ""), value) if value else None


def _workers(value: object) -> object:
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool)):
        got = "another word" if isinstance(value, str) else kind(value)
        raise ValueError(f'expects a whole number or "auto", got {got}')
    if isinstance(value, int) and value < 1:
        raise ValueError("has to be at least 1")
    return value


_LogFormats = Literal["auto", "json", "logfmt", "console"]
_Meters = Literal["", "tokens"]
_WhenDown = Literal["refuse", "local"]
_Leavings = Literal["cancel", "drain"]


def _word(literal: object) -> PlainValidator:
    """Make a field's validator out of the words that it may be."""
    words = get_args(literal)
    *others, last = [f'"{word}"' for word in words]

    def validate(value: object) -> object:
        if value not in words:
            got = "another word" if isinstance(value, str) else kind(value)
            raise ValueError(f"expects {', '.join(others)} or {last}, got {got}")
        return value

    return PlainValidator(validate)


def _list() -> Any:
    # A TOML array is a list; only the container is taken leniently, its items stay strict.
    return Field(strict=False)


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def _header_name(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise ValueError("is not a header name: letters, digits and hyphens only")
    if not configurable(name.encode()) or name.lower().startswith("sec-websocket-"):
        raise ValueError("is set by swproxy itself, from the connection and the signed URL")
    return name


def _from_page(pattern: str) -> str:
    (checked,) = PageHeaders((pattern,)).patterns
    if not configurable(checked.encode()):
        raise ValueError("is set by swproxy itself, from the connection and the signed URL")
    return checked


_SCHEMES = ("basic", "bearer")


def _header_value(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("has a line break or another control character in its value")
    if value.strip(" \t").lower() in _SCHEMES:
        raise ValueError(
            "says how a key is used, and none follows: a variable was empty or not set"
        )
    if not value or value != value.strip(" \t"):
        raise ValueError("has a value that is empty, or begins or ends with a space")
    return value


_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


def _host(name: str) -> str:
    if not _HOST.fullmatch(name.lower()):
        raise ValueError("is not a host's name: no port, no path and no address in brackets")
    return name.lower()


def _secret(text: str) -> str:
    if not text:
        raise ValueError("is empty: anybody could sign")
    return text


_TOKEN_CHARACTERS = 16


def _admin_token(text: str) -> str:
    if text and (len(text) < _TOKEN_CHARACTERS or not re.fullmatch(r"[!-~]+", text)):
        raise ValueError(
            f"has to be {_TOKEN_CHARACTERS} or more visible ASCII characters, such as"
            " `openssl rand -hex 32` prints"
        )
    return text


def _model_name(name: str) -> str:
    if not re.fullmatch(r"[!-~]{1,128}", name) or "*" in name[:-1]:
        raise ValueError("is not the name of a model, or the beginning of one with * behind it")
    return name


def _weight(value: object) -> Weight:
    parts = value if isinstance(value, dict) else {"input": value, "output": value}
    names = [each.name for each in dataclasses.fields(Weight)]
    if not parts or not all(name in names for name in parts):
        raise ValueError("expects a number, or a table with input, output and cached")
    for number in parts.values():
        if not isinstance(number, int | float) or isinstance(number, bool):
            raise ValueError(f"expects numbers, got {kind(number)}")
        if not 0 <= number <= _MOST_WEIGHT:
            raise ValueError(f"expects numbers from 0 to {_MOST_WEIGHT}")
    return Weight(**parts)


_MOST_WEIGHT = 1_000_000
_APP_ID_BYTES = 128


def check_app_id(app_id: str) -> None:
    """Refuse an id that could not stand in a credential, a log line or a file's name."""
    if not app_id:
        raise ValueError("is an empty application id")
    if len(app_id.encode(errors="replace")) > _APP_ID_BYTES:
        raise ValueError(f"is an application id longer than {_APP_ID_BYTES} bytes")
    if not app_id.isprintable() or app_id != app_id.strip():
        raise ValueError("is an application id with control characters or spaces at its ends")
    if app_id[0] in ".-" or "/" in app_id or "\\" in app_id:
        raise ValueError("is an application id with a slash, or with . or - at its beginning")


Listen = Annotated[tuple[Annotated[ListenAddress, _text(parse_listen)], ...], _list()]
AdminListen = Annotated[
    ListenAddress | None, _text(lambda text: parse_listen(text) if text else None)
]
Workers = Annotated[int | Literal["auto"], PlainValidator(_workers)]
AdminToken = Annotated[str, _text(_admin_token)]
PublicUrl = Annotated[str, _text(_public_url)]
FilePath = Annotated[Path | None, PlainValidator(_path)]
LogFormat = Annotated[_LogFormats, _word(_LogFormats)]
Meter = Annotated[_Meters, _word(_Meters)]
WhenDown = Annotated[_WhenDown, _word(_WhenDown)]
OnLeave = Annotated[_Leavings, _word(_Leavings)]
Networks = Annotated[tuple[Annotated[Network, _text(_network)], ...], _list()]
Origins = Annotated[tuple[Annotated[str, _text(parse_origin)], ...], _list()]
Seconds = Annotated[float, Field(gt=0)]
Secrets = Annotated[
    tuple[Annotated[str, _text(_secret)], ...], _list(), Field(min_length=1, max_length=2)
]
Allow = Annotated[
    tuple[Annotated[Pattern, _text(Pattern.parse)], ...], _list(), Field(min_length=1)
]
ModelName = Annotated[str, _text(_model_name)]
WeightValue = Annotated[Weight, PlainValidator(_weight)]
HeaderName = Annotated[str, _text(_header_name)]
HeaderValue = Annotated[str, _text(_header_value)]
FromPage = Annotated[tuple[Annotated[str, _text(_from_page)], ...], _list()]
Hosts = Annotated[tuple[Annotated[str, _text(_host)], ...], _list()]
