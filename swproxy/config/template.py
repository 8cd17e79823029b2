"""The configuration explained: every key with its default and what it is for.

The texts are those of the models in `config`, so what `swproxy init` writes and what the
documentation says cannot differ from what is read.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tomli_w
from pydantic.fields import FieldInfo

from swproxy.config.assembly import SECTIONS
from swproxy.config.config import AppTable
from swproxy.config.limit_tables import UserLimits

__all__ = ["Key", "app_keys", "keys", "render_config"]

_WIDTH = 98


@dataclass(frozen=True, slots=True)
class Key:
    """One key: the section it is in, its default as TOML ("" if it has none), and its purpose."""

    section: str
    name: str
    default: str
    description: str


def keys() -> Iterator[Key]:
    """Give every key of the main file's sections, in order."""
    for section, model in SECTIONS.items():
        for name, info in model.model_fields.items():
            yield Key(section, name, _default(info), _description(info))


def app_keys() -> Iterator[Key]:
    """Give every key of an application's table, in order."""
    for name, info in AppTable.model_fields.items():
        # Without a table [cors] holds, and no terms and limits do.
        default = "" if name in ("cors", "terms", "plans", "limits") else _default(info)
        yield Key("apps.ID", name, default, _description(info))
        if name == "limits":
            for each, inner in UserLimits.model_fields.items():
                yield Key("apps.ID", f"limits.{each}", _default(inner), _description(inner))


def render_config() -> str:
    """Return a configuration file that sets nothing and explains everything."""
    blocks = [_HEAD]
    for section, model in SECTIONS.items():
        blocks.append(f"[{section}]\n{_comment(inspect.getdoc(model) or '')}")
        blocks.extend(
            f"{_comment(key.description)}\n#{key.name} = {key.default}"
            for key in keys()
            if key.section == section
        )
    explained = "\n".join(
        f"#\n{_comment(f'{key.name}: {key.description}', indent='  ')}" for key in app_keys()
    )
    blocks.append(f"{_APPS}\n{explained}")
    return "\n\n".join(blocks) + "\n"


_HEAD = """\
# swproxy's configuration. Every key is here with its default, commented out: remove the # of
# those that you change. `swproxy check` tells what is wrong; `systemctl reload swproxy`, or SIGHUP,
# makes a running daemon take applications, secrets, limits and CORS anew.
#
# In any text, ${NAME} stands for an environment variable and ${file:PATH} for what a file holds
# (beside this file, or in $CREDENTIALS_DIRECTORY if systemd sets it); $${ is a plain ${."""

_APPS = """\
# Applications have a file each, apps/ID.toml beside this one, which `swproxy app add` writes and
# `swproxy app list` lists. The same table may stand here instead:
#
#   [apps.my-app]
#   secrets = ["${SW_SECRET}"]
#   allow = ["https://api.openai.com/v1/*"]
#   headers = { Authorization = "Bearer ${OPENAI_API_KEY}" }
#
# Its keys:"""


def _comment(text: str, indent: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()),
        width=_WIDTH,
        initial_indent=f"# {indent}",
        subsequent_indent=f"# {indent}",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _description(info: FieldInfo) -> str:
    return info.description or ""


def _default(info: FieldInfo) -> str:
    return "" if info.is_required() else _toml(_plain(info.get_default(call_default_factory=True)))


def _toml(value: Any) -> str:
    """Spell a value on one line, where tomli-w gives each item of a list its own."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{}"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


def _plain(value: object) -> Any:
    """Return a default as the file would give it: addresses and networks are text there."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, (bool, int, float, str, dict)) else str(value)
