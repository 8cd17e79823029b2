"""Verifying: whether a signature holds for this method, these headers, this body.

What is hashed differs a little between the clients, so a request has a few candidates: one hash
for each spelling of path and query (see `query`), all fed with the same body. Which of them
matches is of no interest, so all are compared, each in constant time, with no way out early.

Content-Length is the odd one. The clients sign it along with a body, but count it differently:
bytes (Ruby), code points (Python), UTF-16 units (JavaScript). The body is signed anyway, so each
of these three counts of *this very body* is as good as another; but a count stands before the body
in what is hashed, and only the bytes are counted in advance (not even they, if the upload is
chunked). Hence two passes: the first hashes with the Content-Length that came, and counts along;
if it fails and the other counts differ, `replay` hands out hashes that start with those, and the
caller feeds the body it has kept once more.

Unknown application, wrong secret, one secret or two: always two keys are derived and compared,
with random secrets in the places of absent ones, so the work is the same.
"""

import hmac
import os
from collections.abc import Iterable, Sequence
from hashlib import sha256

from swproxy.sw1.canonical import canonical_headers, request_head, sign_digest, signing_key
from swproxy.sw1.claims import Claims
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.signed_headers import CONTENT_LENGTH, Counts, signed_values

__all__ = ["Verification", "mismatch", "verify"]

_SECRETS = 2
# Stands in for absent secrets: about as long as `swproxy init` makes them, so that HMAC takes as
# many blocks. What it would sign is never accepted, whatever the comparison says.
_DUMMY = os.urandom(20).hex()


def mismatch() -> Refusal:
    """Return the one answer to an unknown id, a wrong secret and an altered request alike."""
    return Refusal(
        "signature-mismatch",
        "The signature does not match this request: the id or the secret is wrong, or the URL,"
        " the method, a signed header or the signed body differs from what was signed.",
    )


class Verification:
    """One request's signature in the course of being checked.

    Made from the claims and the request head; fed with the body by `update` if the claims say
    that it is signed; asked at the end by `accept`.
    """

    __slots__ = (
        "_claims",
        "_counts",
        "_hashes",
        "_headers",
        "_method",
        "_secrets",
        "_sent",
        "secret",
    )

    def __init__(
        self,
        claims: Claims,
        method: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        secrets: Sequence[str] | None,
        *,
        lengths: Iterable[bytes] = (),
    ) -> None:
        """Start checking; `headers` have lower-case names and raw values.

        `secrets` are the application's, two at most; None or none at all if there is no such
        application: that takes the same work and is never accepted. `lengths` are what to hash
        for Content-Length in place of its value in `headers`; `replay` sees to them.

        Raise Refusal if a signed header is absent, repeated, or holds what no header may.
        """
        self.secret = ""
        self._claims = claims
        self._method = method
        self._headers = headers
        self.judge_by(secrets)
        found = signed_values(claims, headers)
        counted = claims.body_signed and CONTENT_LENGTH in claims.signed_headers
        self._sent = found.get(CONTENT_LENGTH)
        self._counts = Counts() if counted and not lengths else None
        if counted and lengths:
            variants = [{**found, CONTENT_LENGTH: length} for length in lengths]
        elif counted and self._sent is None:
            variants = []  # nothing to hash before the whole body is counted
        else:
            variants = [found]
        texts = [
            canonical_headers([(name.encode(), value) for name, value in variant.items()])
            for variant in variants
        ]
        self._hashes = [
            sha256(request_head(method, spelling, text))
            for text in texts
            for _, spelling in claims.spellings
        ]

    def judge_by(self, secrets: Sequence[str] | None) -> None:
        """Put other secrets in the place of those that there were when the body began to arrive."""
        self._secrets = tuple(secrets or ())
        if len(self._secrets) > _SECRETS:
            raise ValueError(f"secrets: an application has {_SECRETS} at most")

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the signed body."""
        for state in self._hashes:
            state.update(data)
        if self._counts is not None:
            self._counts.add(bytes(data))

    def accept(self) -> bool:
        """Return whether the signature holds for all that was taken so far.

        `secret` is then the one that it was made with.
        """
        signature = bytes.fromhex(self._claims.signature)
        date = self._claims.date
        matched = False
        digests = [state.hexdigest() for state in self._hashes]
        for place in range(_SECRETS):
            real = place < len(self._secrets)
            key = signing_key(self._secrets[place] if real else _DUMMY, date[:8])
            for digest in digests:
                same = hmac.compare_digest(sign_digest(key, date, digest), signature)
                if same & real:
                    self.secret = self._secrets[place]
                matched |= same & real
        return matched

    def needs_replay(self) -> bool:
        """Return whether, `accept` having said no, other counts of this body are left to try."""
        return bool(self._other_lengths())

    def replay(self) -> "Verification":
        """Return a fresh verification for the other counts; feed it the same body from the start.

        It needs no further replay. Call this only if `needs_replay`.
        """
        lengths = self._other_lengths()
        if not lengths:
            raise RuntimeError("there is no other count of this body to try")
        return Verification(
            self._claims, self._method, self._headers, self._secrets, lengths=lengths
        )

    def _other_lengths(self) -> list[bytes]:
        if self._counts is None:
            return []
        return [length for length in self._counts.lengths() if length != self._sent]


def verify(
    claims: Claims,
    method: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    secrets: Sequence[str] | None,
    body: bytes = b"",
) -> bool:
    """Return whether the signature holds for a request that is at hand as a whole.

    `body` only counts if the claims say that it is signed. Raise Refusal as Verification does.
    """
    verification = Verification(claims, method, headers, secrets)
    if not claims.body_signed:
        return verification.accept()
    verification.update(body)
    if verification.accept():
        return True
    if not verification.needs_replay():
        return False
    verification = verification.replay()
    verification.update(body)
    return verification.accept()
