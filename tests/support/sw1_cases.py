"""What the tests of the scheme share: published vectors, generated requests, one way to verify."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import signway_sdk
from hypothesis import strategies as st

from swproxy import sign_url
from swproxy.sw1.claims import Claims, check_time, parse_target
from swproxy.sw1.verify import verify
from tests.support import DATA

DATE = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
NOW = DATE.timestamp()
WEEK = 604_800


@dataclass(frozen=True)
class Vector:
    """A URL that a published client made, with what it was made from."""

    sdk: str
    case: str
    id: str
    secret: str
    host: str
    proxy_url: str
    expiry: int
    method: str
    headers: Mapping[str, str]
    body: str | None
    signed_at: str
    url: str
    signway_0_5_0: str = ""
    """whether it takes the URL, where that was tried"""

    @property
    def date(self) -> datetime:
        return datetime.fromisoformat(self.signed_at)

    def __str__(self) -> str:
        return f"{self.sdk.split()[0]}-{self.case}"


def _vectors(name: str) -> list[Vector]:
    return [Vector(**fields) for fields in json.loads((DATA / name).read_text())]


VECTORS = _vectors("sdk_urls.json")
TERM_VECTORS = _vectors("term_urls.json")


def target_of(url: str) -> bytes:
    """Cut the request target out of a URL."""
    match = re.fullmatch(r"[a-z]+://[^/]+(/[^#]*)", url)
    assert match is not None, url
    return match[1].encode()


def wire_headers(headers: Mapping[str, str], body: bytes | None) -> list[tuple[bytes, bytes]]:
    """Return headers as a server sees them, with the Content-Length that an HTTP client adds."""
    sent = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    if body is not None:
        sent.append((b"content-length", b"%d" % len(body)))
    return sent


def accepted(
    target: bytes,
    method: str = "GET",
    headers: Sequence[tuple[bytes, bytes]] = (),
    body: bytes = b"",
    secrets: Sequence[str] | None = ("my-secret",),
    now: float = NOW,
) -> Claims | None:
    """Take a request the whole way; return its claims if accepted, None if it does not match."""
    claims = parse_target(target)
    check_time(claims, now=now, expiry_seconds=WEEK, clock_skew_seconds=60)
    return claims if verify(claims, method.encode(), headers, secrets, body) else None


# Text that exercises escaping: what spellings disagree about, separators, more than ASCII.
_ODD = "!'()*~ +%&=;/?#:@-._aZ09é€😀\u00a0|^`{}[]\"<>,$\\"
TEXT = st.text(st.sampled_from(_ODD) | st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
IDS = TEXT.map(lambda text: text.replace("/", "_")).filter(bool)
SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
_TOKEN = st.text(st.sampled_from("aZ09-_.!#$%&'*+^`|~"), min_size=1, max_size=8)
METHODS = st.sampled_from(["GET", "POST", "PATCH", "get", "M-SEARCH"]) | _TOKEN
HOSTS = st.sampled_from(
    [
        "http://localhost:3000",
        "https://edge.example/",
        "https://edge.example/sw",
        "https://edge.example/a b/",
        "https://edge.example/a%20b",
        "https://edge.example/@(it's)*",
        "https://edge.example/é;x",
        "wss://edge.example/ws",
    ]
)
_HEADER_VALUE = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.just("\t"), max_size=12
).map(str.strip)
HEADERS = st.dictionaries(
    _TOKEN.filter(lambda name: name.lower() != "content-length"), _HEADER_VALUE, max_size=4
).filter(lambda headers: len({name.lower() for name in headers}) == len(headers))
BODIES = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.binary()
EXPIRIES = st.integers(1, WEEK)
DATES = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1)).map(  # noqa: DTZ001 - naive is UTC
    lambda date: date.replace(microsecond=0)
)


def _is_url(url: str) -> bool:
    try:
        sign_url("i", "s", "http://h", url, 1, "GET")
    except ValueError:
        return False
    return True


PROXY_URLS = st.builds(
    lambda scheme, host, rest: f"{scheme}://{host}{rest and '/' + rest}",
    st.sampled_from(["http", "https", "ws", "wss", "HTTPS"]),
    st.sampled_from(["api.openai.com", "bücher.example", "[::1]:8443", "user:pw@h.example:81"]),
    TEXT,
).filter(_is_url)


@dataclass(frozen=True)
class Request:
    """A request to sign and send; what it is signed from is what it is sent with."""

    id: str = "my-id"
    secret: str = "my-secret"
    host: str = "https://edge.example"
    proxy_url: str = "https://api.openai.com/v1/models"
    expiry: int = 600
    method: str = "GET"
    headers: Mapping[str, str] | None = None
    body: str | bytes | None = None
    date: datetime = DATE

    def sign(self) -> str:
        return sign_url(
            self.id,
            self.secret,
            self.host,
            self.proxy_url,
            self.expiry,
            self.method,
            self.headers,
            self.body,
            self.date,
        )

    def sign_with_sdk(self) -> str:
        """Sign as PyPI's signway-sdk does, which knows bodies of text only."""
        assert not isinstance(self.body, bytes)
        url: str = signway_sdk.sign_url(
            self.id,
            self.secret,
            self.host,
            self.proxy_url,
            self.expiry,
            self.method,
            dict(self.headers or {}),
            self.body,
            self.date,
        )
        return url

    @property
    def content(self) -> bytes | None:
        return self.body.encode() if isinstance(self.body, str) else self.body

    @property
    def sent_headers(self) -> list[tuple[bytes, bytes]]:
        return wire_headers(self.headers or {}, self.content)

    @property
    def now(self) -> float:
        return self.date.replace(tzinfo=UTC).timestamp()

    def accepted(self, target: bytes) -> Claims | None:
        return accepted(
            target,
            self.method,
            self.sent_headers,
            self.content or b"",
            (self.secret,),
            self.now,
        )


REQUESTS = st.builds(
    Request,
    id=IDS,
    secret=SECRETS,
    host=HOSTS,
    proxy_url=PROXY_URLS,
    expiry=EXPIRIES,
    method=METHODS,
    headers=HEADERS,
    body=BODIES,
    date=DATES,
)
