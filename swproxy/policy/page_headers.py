"""What a page may put into headers of its own accord, beside the key that it never sees.

A signature covers the method, the URL and whatever else the signer chose; any other header is the
page's choice, or a stranger's who got hold of the URL. To many APIs a header beside the key is an
order: on whose account (`OpenAI-Organization`, `Stripe-Account`), as which user
(`Impersonate-User`, `Sudo`), at which path (`X-Original-URL`). Nobody can list them all, so the
list is of those that pass, and its default is what a browser's fetch() and the clients of OpenAI
need to speak HTTP. The signer's word is better than any list: a signed header always passes.

Some fields are about the page and its user rather than the call, and no pattern lets them pass:
they have to be named one by one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from swproxy.policy.field_names import field_names, folded

__all__ = ["CLIENT_ONLY", "CLIENT_ONLY_PREFIXES", "DEFAULT_FROM_PAGE", "PageHeaders"]

DEFAULT_FROM_PAGE: Final = (
    # what the page can read (RFC 9110 section 12.5), and who is asking
    "accept",
    "accept-encoding",
    "accept-language",
    "user-agent",
    # what the body is
    "content-type",
    "content-encoding",
    "content-language",
    # which part, and only if it has changed; where an EventSource goes on
    "range",
    "if-*",
    "last-event-id",
    # what fetch() adds for its `cache` option
    "cache-control",
    "pragma",
    # what OpenAI's clients tell of themselves, and which draft of the API they speak
    "x-stainless-*",
    "openai-beta",
    "idempotency-key",
)

CLIENT_ONLY: Final = (
    # the user's credentials for our origin, or for nobody we know
    field_names("authorization cookie cookie2")
    # where the user comes from: page, address, preferences
    | field_names("origin referer forwarded via from dnt")
    | field_names("x-real-ip x-client-ip x-cluster-client-ip x-original-forwarded-for")
    | field_names("true-client-ip x-forwarded x-originating-ip x-remote-ip x-remote-addr")
    | field_names("cf-connecting-ip fastly-client-ip")
    # the browser speaking to us
    | field_names("priority upgrade-insecure-requests")
    # another method or path than the one that was signed and allowed
    | field_names("x-http-method x-http-method-override x-method-override x-original-method")
    | field_names("x-original-url x-rewrite-url x-original-uri x-original-host x-host")
)
"""End here unless signed, or named in an application's list."""

CLIENT_ONLY_PREFIXES: Final = (b"sec-", b"x-forwarded-", b"access-control-request-")
"""Sec-: set by browsers only; Access-Control-Request-: the page's preflight is answered here."""

_PATTERN: Final = re.compile(r"[!#$%&'+.^_`|~0-9A-Za-z-]*\*?")


@dataclass(frozen=True, slots=True)
class PageHeaders:
    """The names of `headers_from_page`, in any case; `*` ends one that stands for all it begins.

    Patterns that are none, or that nothing could ever match, raise ValueError with the reason.
    """

    patterns: tuple[str, ...] = DEFAULT_FROM_PAGE
    _names: frozenset[bytes] = field(init=False, repr=False, compare=False)
    _prefixes: tuple[bytes, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        patterns = tuple(dict.fromkeys(map(str.lower, self.patterns)))
        for pattern in patterns:
            _check(pattern)
        # The one way to set what is derived in a frozen dataclass.
        object.__setattr__(self, "patterns", patterns)
        object.__setattr__(self, "_names", frozenset(_whole(patterns)))
        prefixes = tuple(each[:-1].encode() for each in patterns if each.endswith("*"))
        object.__setattr__(self, "_prefixes", prefixes)

    def permits(self, name: bytes) -> bool:
        """Whether an unsigned field of this lower-case name may pass."""
        if name in self._names:
            return True
        return name.startswith(self._prefixes) and not _is_client_only(folded(name))


def _is_client_only(key: bytes) -> bool:
    return key in CLIENT_ONLY or key.startswith(CLIENT_ONLY_PREFIXES)


def _whole(patterns: Iterable[str]) -> Iterable[bytes]:
    return (each.encode() for each in patterns if not each.endswith("*"))


def _check(pattern: str) -> None:
    if not pattern or not _PATTERN.fullmatch(pattern):
        raise ValueError("is not a header name, with or without a * at its end")
    start = pattern[:-1].encode()
    if pattern.endswith("*") and start and folded(start).startswith(CLIENT_ONLY_PREFIXES):
        raise ValueError("has a * for headers that have to be named one by one")
