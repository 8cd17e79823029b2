"""What gets hashed: the one text that signer and verifier must both arrive at, byte for byte.

The canonical request is six parts joined by line feeds (docs/signing.md writes them out). All but
the body come from small, already checked pieces that hold no line feed, so no two different
requests share a canonical text. The body comes last, which is why its hash can be fed as it
arrives.

Signing imports this module, so it stays with the cheap end of the standard library.
"""

import hmac
from collections.abc import Iterable

__all__ = [
    "ALGORITHM",
    "PARAMETERS",
    "SIGNATURE",
    "WRITTEN",
    "canonical_headers",
    "canonical_query",
    "request_head",
    "sign_digest",
    "signing_key",
]

ALGORITHM = "SW1-HMAC-SHA256"

SIGNATURE = "X-Sw-Signature"

# In the order of the canonical query. Every name differs from every other before its `=`, so
# sorting `name=value` pairs always gives this order, whatever the values are.
PARAMETERS = (
    "X-Sw-Algorithm",
    "X-Sw-Body",
    "X-Sw-Credential",
    "X-Sw-Date",
    "X-Sw-Expires",
    "X-Sw-Proxy",
    "X-Sw-SignedHeaders",
)


# The order in which the clients write them into the URL; the signature follows.
WRITTEN = (
    "X-Sw-Algorithm",
    "X-Sw-Credential",
    "X-Sw-Date",
    "X-Sw-Expires",
    "X-Sw-Proxy",
    "X-Sw-SignedHeaders",
    "X-Sw-Body",
)


def canonical_query(values: Iterable[str]) -> str:
    """Join encoded values, given in the order of `PARAMETERS`, into the canonical query."""
    return "&".join(
        [f"{name}={value}" for name, value in zip(PARAMETERS, values, strict=True)],
    )


def canonical_headers(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write (lower-case name, trimmed value) pairs as the two header parts and their separator.

    Lines and names are sorted each for itself: `a-b:` sorts before `a:`, but `a` before `a-b`.
    """
    pairs = list(pairs)
    lines = b"\n".join(sorted([name + b":" + value for name, value in pairs]))
    names = b";".join(sorted([name for name, _ in pairs]))
    return lines + b"\n\n" + names


def request_head(method: bytes, path_and_query: bytes, headers: bytes) -> bytes:
    """Return the canonical request up to where the body begins.

    `path_and_query` is path LF canonical query; `headers` comes from `canonical_headers`.
    """
    return b"%b\n%b\n%b\n" % (method, path_and_query, headers)


def signing_key(secret: str, day: str) -> bytes:
    """Derive the key of one day (YYYYMMDD) from an application's secret."""
    return hmac.digest((ALGORITHM + secret).encode(), day.encode(), "sha256")


def sign_digest(key: bytes, date: str, digest: str) -> bytes:
    """Sign the hex SHA-256 `digest` of a canonical request dated `date` (YYYYMMDDTHHMMSSZ)."""
    text = f"{ALGORITHM}\n{date}\n{date[:8]}\n{digest}"
    return hmac.digest(key, text.encode(), "sha256")
