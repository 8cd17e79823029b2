"""Stand-ins for APIs: readers of JSON that nobody here wrote, asked what they find in a body.

They all look for the same, which is what `TERMS` are about.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pydantic_core

__all__ = [
    "GO",
    "TERMS",
    "Found",
    "Reader",
    "breaches",
    "go",
    "node",
    "orjson_reader",
    "pydantic_reader",
]

TERMS = (
    "body.model=small,tiny&body.max_tokens?=1..800&body.temperature?=0..1.5"
    "&body.stream_options.include_usage=true&body.messages.0.role=system&body.tools=-&body=only"
)
_MENTIONED = {"model", "max_tokens", "temperature", "stream_options", "messages", "tools"}

Found = dict[str, Any]
"""`values` by short name, and `names` at the top level."""

Reader = Callable[[bytes], Found | None]
"""Returns what a reader finds, or None where it does not take the body."""

GO = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")

_PROGRAMS = Path(__file__).parent / "readers"


def breaches(found: Found) -> list[str]:
    """Return what in a finding the terms do not allow, judged by plain Python."""
    values = found["values"]
    wrong = [name for name in found["names"] if name not in _MENTIONED]
    if values.get("model") not in ("small", "tiny"):
        wrong.append("model")
    tokens = values.get("max_tokens", 1)
    if isinstance(tokens, bool) or not isinstance(tokens, int) or not 1 <= tokens <= 800:
        wrong.append("max_tokens")
    warmth = values.get("temperature", 0)
    if isinstance(warmth, bool) or not isinstance(warmth, int | float) or not 0 <= warmth <= 1.5:
        wrong.append("temperature")
    if values.get("include_usage") is not True:
        wrong.append("include_usage")
    if values.get("role") != "system":
        wrong.append("role")
    if "tools" in values:
        wrong.append("tools")
    return wrong


def _find_in(body: object) -> Found | None:
    """Return what plain Python finds in a body that some library has read."""
    if not isinstance(body, dict):
        return None
    values = {
        name: body[name] for name in ("model", "max_tokens", "temperature", "tools") if name in body
    }
    options, messages = body.get("stream_options"), body.get("messages")
    if isinstance(options, dict) and "include_usage" in options:
        values["include_usage"] = options["include_usage"]
    if isinstance(messages, list) and messages and isinstance(messages[0], dict):
        values |= {"role": messages[0].get("role")}
    return {"values": values, "names": list(body)}


def orjson_reader(body: bytes) -> Found | None:
    """Read as orjson does."""
    try:
        return _find_in(orjson.loads(body))
    except orjson.JSONDecodeError:
        return None


def pydantic_reader(body: bytes) -> Found | None:
    """Read as pydantic does, FastAPI's reader of models."""
    try:
        return _find_in(pydantic_core.from_json(body))
    except ValueError:
        return None


@contextmanager
def node() -> Iterator[Reader]:
    """Read as Node does, the one that pip installed."""
    program = str(Path(sys.executable).with_name("node"))
    with _asked([program, str(_PROGRAMS / "reader.mjs")]) as reader:
        yield reader


@contextmanager
def go(work: Path) -> Iterator[Reader]:
    """Read as Go's encoding/json does; `work` is where it may be built."""
    assert GO is not None
    program = work / "reader"
    subprocess.run([GO, "build", "-o", program, str(_PROGRAMS / "main.go")], check=True, cwd=work)
    with _asked([str(program)]) as reader:
        yield reader


@contextmanager
def _asked(command: list[str]) -> Iterator[Reader]:
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ)
        )
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def read(body: bytes) -> Found | None:
            asked.write(base64.b64encode(body) + b"\n")
            asked.flush()
            found: Found | None = json.loads(answers.readline().decode("utf-8", "replace"))
            return found

        stack.callback(asked.close)
        yield read
