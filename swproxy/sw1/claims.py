"""What a signed URL says about itself, read strictly, with nothing verified yet.

Each parameter has its own reader, which returns the value or refuses with a code of its own, so
that a caller learns what is wrong rather than that something is. A reader takes the decoded text.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from swproxy.sw1.canonical import ALGORITHM
from swproxy.sw1.query import decode_value, show, spellings, split_target
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.terms import Terms, read_terms

__all__ = [
    "Claims",
    "check_algorithm",
    "check_lifetime",
    "check_moment",
    "check_time",
    "parse_target",
    "read_body_flag",
    "read_credential",
    "read_date",
    "read_expires",
    "read_signature",
    "read_signed_headers",
]

_DATE = re.compile("([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
_DAY = re.compile("[0-9]{8}")
# Ten digits are over 300 years; what bounds a URL's life is the limit in the configuration.
_EXPIRES = re.compile("[1-9][0-9]{0,9}")
# RFC 9110, section 5.6.2, in lower case as the names are hashed.
_NAME = re.compile("[!#$%&'*+.^_`|~0-9a-z-]+")
_SIGNATURE = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Claims:
    """A signed URL's statements about the request it allows.

    `proxy_url` is the decoded destination: the text that is hashed is made from it, and it is
    what must be connected to, as it stands. `spellings` are the texts (path LF canonical query)
    that a client may have hashed for these very values, each behind a few words that describe it.
    `terms` are those in the destination's fragment, None where it carries none.
    """

    app_id: str
    date: str
    signed_at: int
    expires: int
    proxy_url: str
    signed_headers: tuple[str, ...]
    body_signed: bool
    path: bytes
    spellings: tuple[tuple[str, bytes], ...]
    signature: str = field(repr=False)
    terms: Terms | None = None


def parse_target(target: bytes) -> Claims:
    """Read the claims out of a raw request target; raise Refusal if there is any fault in them."""
    path, raw = split_target(target)
    decoded = {name: decode_value(name, value) for name, value in raw.items()}
    check_algorithm(decoded["X-Sw-Algorithm"])
    date = decoded["X-Sw-Date"]
    signed_at = read_date(date)
    return Claims(
        app_id=read_credential(decoded["X-Sw-Credential"], date[:8]),
        date=date,
        signed_at=signed_at,
        expires=read_expires(decoded["X-Sw-Expires"]),
        proxy_url=decoded["X-Sw-Proxy"],
        signed_headers=read_signed_headers(decoded["X-Sw-SignedHeaders"]),
        body_signed=read_body_flag(decoded["X-Sw-Body"]),
        path=path.encode("ascii"),
        spellings=spellings(path, raw, decoded),
        signature=read_signature(decoded["X-Sw-Signature"]),
        terms=read_terms(decoded["X-Sw-Proxy"]),
    )


EXPIRY_SECONDS = 604_800
"""Longest lifetime of a URL, unless configured otherwise: seven days, as S3's presigned URLs."""

CLOCK_SKEW_SECONDS = 60
"""How far a URL's date may lie ahead, unless configured otherwise."""


def check_time(claims: Claims, *, now: float, expiry_seconds: int, clock_skew_seconds: int) -> None:
    """Refuse claims that do not hold at `now` (seconds since the epoch).

    A URL holds from `clock_skew_seconds` before its date, that instant included, until its date
    plus X-Sw-Expires, that instant excluded: at the very second of its expiry it is refused.
    X-Sw-Expires may be `expiry_seconds` at most.
    """
    check_lifetime(claims.expires, expiry_seconds)
    check_moment(claims.signed_at, claims.expires, now, clock_skew_seconds)


def check_lifetime(expires: int, expiry_seconds: int) -> None:
    """Refuse an X-Sw-Expires over the limit."""
    if expires > expiry_seconds:
        raise Refusal(
            "expiry-too-long",
            f"X-Sw-Expires is {expires} seconds; at most {expiry_seconds} are allowed.",
        )


def check_moment(signed_at: int, expires: int, now: float, clock_skew_seconds: int) -> None:
    """Refuse a `now` before or after the time for which a URL holds."""
    if signed_at > now + clock_skew_seconds:
        raise Refusal(
            "date-in-future",
            f"X-Sw-Date is {signed_at - now:.0f} seconds ahead of this server's clock;"
            f" at most {clock_skew_seconds} are allowed.",
        )
    if now >= signed_at + expires:
        raise Refusal("expired", f"The URL expired {now - signed_at - expires:.0f} seconds ago.")


def check_algorithm(value: str) -> None:
    """Refuse any algorithm but the one there is."""
    if value != ALGORITHM:
        raise Refusal(
            "algorithm-unsupported",
            f"X-Sw-Algorithm is {show(value)}; only {ALGORITHM} is known.",
        )


def read_credential(value: str, day: str) -> str:
    """Return the application's id out of `ID/YYYYMMDD`, whose day must be `day`."""
    app_id, slash, scope = value.rpartition("/")
    if not slash or not app_id or "/" in app_id or not _DAY.fullmatch(scope):
        raise Refusal("credential-invalid", "X-Sw-Credential must be ID/YYYYMMDD, with one slash.")
    if scope != day:
        raise Refusal(
            "credential-scope-mismatch",
            f"X-Sw-Credential is for the day {scope}, but X-Sw-Date says {show(day)}.",
        )
    return app_id


def read_date(value: str) -> int:
    """Return the seconds since the epoch of a date written YYYYMMDDTHHMMSSZ."""
    match = _DATE.fullmatch(value)
    if match is None:
        raise Refusal("date-invalid", "X-Sw-Date must be written YYYYMMDDTHHMMSSZ.")
    year, month, day, hour, minute, second = map(int, match.groups())
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise Refusal("date-invalid", f"X-Sw-Date {value} is not a date there is.") from None
    return int(moment.timestamp())


def read_expires(value: str) -> int:
    """Return the seconds that a URL holds: plain ASCII digits, from 1 up."""
    if not _EXPIRES.fullmatch(value):
        raise Refusal(
            "expires-invalid",
            "X-Sw-Expires must be a whole number of seconds from 1 up: one to ten digits,"
            " no sign, no leading zero.",
        )
    return int(value)


def read_signed_headers(value: str) -> tuple[str, ...]:
    """Return the sorted names of the signed headers out of `name;name`."""
    if not value:
        return ()
    names = value.split(";")
    for name in names:
        if not _NAME.fullmatch(name):
            raise Refusal(
                "signed-headers-invalid",
                "X-Sw-SignedHeaders must be lower-case header names joined with ';':"
                f" {show(name)} is not one.",
            )
    if len(set(names)) != len(names):
        raise Refusal("signed-headers-duplicate", "X-Sw-SignedHeaders names one header twice.")
    return tuple(sorted(names))


def read_body_flag(value: str) -> bool:
    """Return whether the body is signed: exactly `true` or `false`."""
    if value not in ("true", "false"):
        raise Refusal("body-flag-invalid", "X-Sw-Body must be true or false, in lower case.")
    return value == "true"


def read_signature(value: str) -> str:
    """Return a signature that has the form of one: 64 lower-case hexadecimal digits.

    No client writes another form, and one spelling per signature keeps a URL from being varied.
    """
    if not _SIGNATURE.fullmatch(value):
        raise Refusal(
            "signature-invalid",
            "X-Sw-Signature must be 64 lower-case hexadecimal digits;"
            " the URL may have been cut or altered.",
        )
    return value
