"""Guessing what a client hashed instead, for a signature that does not match.

Somebody writing a client sees only that two hashes differ. The mistakes behind that are few, and
with the secret at hand each can be tried: a request signed for another method or path, a secret
read from a file together with its line break, a query left unsorted. A guess that reproduces the
signature is proof, not opinion.
"""

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from swproxy.sw1.canonical import (
    ALGORITHM,
    PARAMETERS,
    WRITTEN,
    canonical_headers,
    request_head,
    sign_digest,
    signing_key,
)
from swproxy.sw1.claims import Claims
from swproxy.sw1.signed_headers import CONTENT_LENGTH, Counts, signed_values

__all__ = ["Candidate", "Parts", "all_parts", "candidates", "guess", "hinted_method"]

_METHODS = (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS")


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a canonical request; `headers` as `canonical_headers` writes them."""

    method: bytes
    spelling: bytes
    headers: bytes
    body: bytes

    def text(self) -> bytes:
        """Return the canonical request."""
        return request_head(self.method, self.spelling, self.headers) + self.body


@dataclass(frozen=True, slots=True)
class Candidate:
    """One canonical request that would be compared, and whether the signature is for it.

    `request` is text for reading: bytes that are not UTF-8 appear as escapes. `matches` is None
    without a secret.
    """

    description: str
    request: str
    string_to_sign: str
    matches: bool | None


def all_parts(
    claims: Claims, method: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> list[tuple[str, Parts]]:
    """Return what may have been hashed for a request, each with words on how it is put together.

    Raise Refusal as `signed_values` does.
    """
    values = signed_values(claims, headers)
    lines = [("", values)]
    if claims.body_signed and CONTENT_LENGTH in claims.signed_headers:
        counts = Counts()
        counts.add(body)
        lengths = dict.fromkeys((values.get(CONTENT_LENGTH), *counts.lengths()))
        lines = [
            (f", Content-Length {length.decode('latin-1')}", {**values, CONTENT_LENGTH: length})
            for length in lengths
            if length is not None
        ]
    content = body if claims.body_signed else b""
    return [
        (
            f"{words}{more}",
            Parts(
                method,
                spelling,
                canonical_headers([(name.encode(), value) for name, value in line.items()]),
                content,
            ),
        )
        for more, line in lines
        for words, spelling in claims.spellings
    ]


def candidates(
    claims: Claims,
    parts: Sequence[tuple[str, Parts]],
    secrets: Sequence[str] | None,
) -> tuple[Candidate, ...]:
    """Write out the canonical requests, each with its string to sign."""
    keys = [signing_key(secret, claims.date[:8]) for secret in secrets or ()]
    return tuple([_candidate(claims, words, part, keys, secrets) for words, part in parts])


def _candidate(
    claims: Claims,
    words: str,
    parts: Parts,
    keys: Sequence[bytes],
    secrets: Sequence[str] | None,
) -> Candidate:
    text = parts.text()
    digest = sha256(text).hexdigest()
    return Candidate(
        description=words,
        request=text.decode("utf-8", "backslashreplace"),
        string_to_sign=f"{ALGORITHM}\n{claims.date}\n{claims.date[:8]}\n{digest}",
        matches=None if secrets is None else any(_matches(claims, key, text) for key in keys),
    )


def _method_hint(method: bytes) -> str:
    return f"It was signed for the method {method.decode('latin-1')}."


def hinted_method(hints: Sequence[str]) -> str:
    """Return the method that a request was signed for, if that is among the guesses."""
    return next((each.decode() for each in _METHODS if _method_hint(each) in hints), "")


def guess(
    claims: Claims, parts: Sequence[tuple[str, Parts]], secrets: Sequence[str]
) -> tuple[str, ...]:
    """Return what the client seems to have done, for each mistake that explains the signature."""
    found: dict[str, None] = {}
    day = claims.date[:8]
    right_keys = [signing_key(secret, day) for secret in secrets]
    odd_keys = [pair for secret in secrets for pair in _odd_keys(secret, day)]
    for _, part in parts:
        text = part.text()
        for words, key in odd_keys:
            if _matches(claims, key, text):
                found[words] = None
        for words, odd_text in _odd_texts(part, claims):
            if any(_matches(claims, key, odd_text) for key in right_keys):
                found[words] = None
    return tuple(found)


def _matches(claims: Claims, key: bytes, text: bytes) -> bool:
    signature = sign_digest(key, claims.date, sha256(text).hexdigest())
    return hmac.compare_digest(signature, bytes.fromhex(claims.signature))


def _odd_keys(secret: str, day: str) -> Iterator[tuple[str, bytes]]:
    yield "The secret was used with a line break at its end.", signing_key(secret + "\n", day)
    if secret.strip() != secret:
        yield "The secret was used without its surrounding space.", signing_key(secret.strip(), day)
    yield (
        f"The key was derived without {ALGORITHM} in front of the secret.",
        hmac.digest(secret.encode(), day.encode(), "sha256"),
    )
    yield (
        "The key was used as hexadecimal text; it must be the 32 bytes.",
        signing_key(secret, day).hex().encode(),
    )
    yield "The secret itself was used as the key; a key of the day is derived.", secret.encode()


def _odd_texts(parts: Parts, claims: Claims) -> Iterator[tuple[str, bytes]]:
    method, spelling, headers, body = parts.method, parts.spelling, parts.headers, parts.body
    for other in dict.fromkeys((method.lower(), method.upper(), *_METHODS)):
        if other != method:
            yield _method_hint(other), request_head(other, spelling, headers) + body
    path, _, query = spelling.partition(b"\n")
    for other in dict.fromkeys((b"/", path.rstrip(b"/"), path.rstrip(b"/") + b"/")):
        if other != path:
            words = f"It was signed for the path '{other.decode('ascii')}'."
            yield words, request_head(method, other + b"\n" + query, headers) + body
    yield from _odd_queries(parts, claims)
    if claims.signed_headers:
        bare = canonical_headers([])
        yield "The header lines were left out.", request_head(method, spelling, bare) + body
    else:
        short = b"%b\n%b\n\n\n" % (method, spelling) + body
        yield "One of the empty header parts' line feeds was left out.", short
    if claims.body_signed:
        yield from _odd_bodies(request_head(method, spelling, headers), body)


def _odd_queries(parts: Parts, claims: Claims) -> Iterator[tuple[str, bytes]]:
    path, _, query = parts.spelling.partition(b"\n")
    pairs = query.split(b"&")
    unsorted = b"&".join([pairs[PARAMETERS.index(name)] for name in WRITTEN])
    yield "The query was not sorted.", _with_query(parts, path, unsorted)
    plain = pairs.copy()
    plain[PARAMETERS.index("X-Sw-Proxy")] = b"X-Sw-Proxy=" + claims.proxy_url.encode()
    yield "X-Sw-Proxy was hashed without its escapes.", _with_query(parts, path, b"&".join(plain))


def _with_query(parts: Parts, path: bytes, query: bytes) -> bytes:
    return request_head(parts.method, path + b"\n" + query, parts.headers) + parts.body


def _odd_bodies(head: bytes, body: bytes) -> Iterator[tuple[str, bytes]]:
    if body:
        yield "It was signed for an empty body.", head
    yield "It was signed for this body and a line break.", head + body + b"\n"
    if body.endswith(b"\n"):
        yield "It was signed for this body without the last line break.", head + body[:-1]
    digest = sha256(body).hexdigest().encode()
    yield "The body's hash was signed; the body itself must be.", head + digest
