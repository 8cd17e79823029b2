"""Whether a body says of itself that it is JSON, and nothing else besides.

A reader chooses its parser by Content-Type, and undoes a Content-Encoding first. So a body that is
judged as JSON has to be JSON to whoever reads it next: named so once, in UTF-8, not compressed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from swproxy.policy.field_names import Header, folded
from swproxy.policy.json_body import uncheckable
from swproxy.sw1.refusal import Refusal

__all__ = ["check_json_fields"]

# RFC 9110, sections 5.6.2, 5.6.4, 5.6.6 and 8.3.1.
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = rb'"(?:[^"\\]|\\.)*"'
_MEDIA_TYPE: Final = re.compile(
    rb"application/(?:%b\+)?json((?:[ \t]*;[ \t]*(?:%b=(?:%b|%b))?)*)[ \t]*"
    % (_TOKEN, _TOKEN, _TOKEN, _QUOTED),
    re.IGNORECASE,
)
_PARAMETER: Final = re.compile(rb"(%b)=(%b|%b)" % (_TOKEN, _TOKEN, _QUOTED))


def check_json_fields(headers: Sequence[Header]) -> None:
    """Refuse a request whose headers (names in lower case) let its body be anything but JSON.

    Raises Refusal ("body-not-checkable", 415).
    """
    fields = [(folded(name), value.strip(b" \t")) for name, value in headers]
    if any(name == b"content-encoding" for name, _ in fields):
        raise _unsupported("it has a Content-Encoding")
    types = [value for name, value in fields if name == b"content-type"]
    if len(types) != 1:
        raise _unsupported("it needs a Content-Type, application/json, once")
    match = _MEDIA_TYPE.fullmatch(types[0])
    if match is None:
        raise _unsupported("its Content-Type is not application/json")
    parameters = [(name.lower(), value) for name, value in _PARAMETER.findall(match[1])]
    charsets = [value.strip(b'"').lower() for name, value in parameters if name == b"charset"]
    if charsets not in ([], [b"utf-8"]):
        raise _unsupported("its charset is not utf-8")


def _unsupported(reason: str) -> Refusal:
    return uncheckable(reason, status=415)
