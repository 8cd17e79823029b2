"""An application's configured secrets, and how to know them again in an answer's header fields.

A guard against debugging fields (`X-Echo-Authorization`, `X-Request-Dump`), not against an upstream
that means to tell: it compares bytes, and a body may say anything. What is looked for is the secret
as it is configured, in any case, and as the common encodings would write it: base64, which may
begin with anything before the secret and so has three ways to write it, hexadecimal digits and
percent-encoding.
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from swproxy.policy.field_names import Header, field_names, folded

__all__ = ["CREDENTIAL_BYTES", "credentials", "without_credentials"]

CREDENTIAL_BYTES: Final = 8
"""Shorter ones are no secrets, and turn up by chance."""

# Configured fields that say how to speak, not who speaks. Any other may hold a secret.
_PLAIN: Final = field_names(
    "accept user-agent range cache-control prefer origin referer http-referer"
)
_PLAIN_PREFIXES: Final = (b"accept-", b"content-")
_PLAIN_SUFFIXES: Final = (b"-version", b"-beta")


def credentials(app: Iterable[Header]) -> list[bytes]:
    """Return the parts of configured fields that must not come back in an answer's fields."""
    found: list[bytes] = []
    for name, value in app:
        key = folded(name)
        if key in _PLAIN or key.startswith(_PLAIN_PREFIXES) or key.endswith(_PLAIN_SUFFIXES):
            continue
        if key == b"cookie":
            found += [crumb.partition(b"=")[2].strip() for crumb in value.split(b";")]
        elif key.endswith(b"authorization"):
            # `Bearer sk-...`: the rest is a secret without the scheme's name too.
            scheme, _, rest = value.partition(b" ")
            found.append(rest.strip() or value)
            if scheme.lower() == b"basic":
                found += _user_and_password(rest)
        else:
            found.append(value)
    return [secret for secret in found if len(secret) >= CREDENTIAL_BYTES]


def _user_and_password(encoded: bytes) -> list[bytes]:
    try:
        pair = b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        return []
    return [pair, pair.partition(b":")[2]]


def without_credentials(fields: Sequence[Header], app: tuple[Header, ...]) -> Sequence[Header]:
    """Return `fields` but for those that repeat one of the `credentials` of `app`."""
    traces = _traces(app)
    whole = b"\n".join([b"%b:%b" % each for each in fields]).lower()
    if not any(trace in whole for trace in traces):
        return fields
    return [each for each in fields if not _holds(b"%b:%b" % each, traces)]


def _holds(line: bytes, traces: Iterable[bytes]) -> bool:
    line = line.lower()
    return any(trace in line for trace in traces)


@lru_cache(maxsize=256)
def _traces(app: tuple[Header, ...]) -> tuple[bytes, ...]:
    """Return what gives each credential away, in lower case."""
    found = [trace for secret in credentials(app) for trace in _written(secret)]
    return tuple(dict.fromkeys(trace.lower() for trace in found))


def _written(secret: bytes) -> Iterator[bytes]:
    yield secret
    yield quote(secret, safe="").encode()
    yield secret.hex().encode()
    for before in range(3):
        # The digits that hold bits of the secret alone, whatever stands before and behind it.
        first = (before * 8 + 5) // 6
        last = (before + len(secret)) * 8 // 6
        digits = b64encode(bytes(before) + secret)[first:last]
        yield digits
        yield digits.translate(bytes.maketrans(b"+/", b"-_"))
