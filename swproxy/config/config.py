"""The configuration as frozen values, checked when made, so that nothing later checks again.

The pydantic models below are the file's sections, key for key; each description says what the
key is for, in which unit, and why its default is what it is. The comments that `swproxy init`
writes are these descriptions, so there is one place to change them. `App` and `Config` are what
the rest of the program sees: plain dataclasses whose repr shows no secret and no header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import MappingProxyType

from pydantic import Field, ValidationInfo, field_validator

from swproxy.config.fields import (
    AdminListen,
    AdminToken,
    Allow,
    FilePath,
    FromPage,
    HeaderName,
    HeaderValue,
    Hosts,
    Listen,
    LogFormat,
    Meter,
    ModelName,
    Networks,
    OnLeave,
    Origins,
    PublicUrl,
    Seconds,
    Secrets,
    WeightValue,
    Workers,
)
from swproxy.config.limit_tables import AppLimits, Store
from swproxy.config.listen_address import ListenAddress, TcpAddress
from swproxy.config.section import Section
from swproxy.config.term_tables import Plan, Plans, Required, TermTable
from swproxy.policy.allowances import NO_ALLOWANCE, Allowance
from swproxy.policy.cors import MAX_AGE_SECONDS, CorsPolicy
from swproxy.policy.destination import Destination, Pattern
from swproxy.policy.field_names import folded
from swproxy.policy.page_headers import DEFAULT_FROM_PAGE, PageHeaders
from swproxy.policy.weights import Weight, Weights
from swproxy.sw1.claims import CLOCK_SKEW_SECONDS, EXPIRY_SECONDS
from swproxy.sw1.terms import NO_TERMS, Terms

__all__ = ["App", "AppTable", "Config", "Cors", "Limits", "Server", "Store", "Upstream"]


# Good to listen on, but not to be called.
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


class Server(Section):
    """The process: where it listens, who it is to the outside, what it logs."""

    listen: Listen = Field(
        default=(TcpAddress("127.0.0.1", 3000),),
        description="Where signed requests come in: host:port, [v6]:port or unix:/path. The default"
        " is reached from this machine only, where nginx or a browser under development runs."
        " Sockets handed over by systemd come first. Port 0 takes any free one.",
    )
    workers: Workers = Field(
        default=1,
        description='Processes that serve, or "auto" for one per processor core this process may'
        " use. One is enough for hundreds of streams; connections are spread evenly over them.",
    )
    admin_listen: AdminListen = Field(
        default=None,
        description="Where the live page, /metrics, /healthz and /readyz are served: host:port or"
        " unix:/path, empty for nowhere. They tell who uses what, so they are never on a public"
        " listener.",
    )
    admin_hosts: Hosts = Field(
        default=(),
        description="Names under which admin_listen is asked over TCP, besides localhost and any"
        ' address: "swproxy.internal" where Prometheus uses that. A page in somebody\'s browser'
        " could ask under a name of its own that leads here.",
    )
    admin_token: AdminToken = Field(
        default="",
        repr=False,
        description="What the live page asks for and /metrics takes as a Bearer token, best by"
        " reference: 16 characters or more. Empty: nobody is asked, and the page is there for this"
        " machine alone, on loopback and Unix sockets; /metrics is wherever admin_listen is.",
    )
    admin_actions: bool = Field(
        default=False,
        description="Whether the live page has buttons that end a call and revoke a user's URLs."
        " Without them it only shows.",
    )
    public_url: PublicUrl = Field(
        default="",
        description="The address under which browsers reach this proxy, with a path if a web"
        ' server in front gives it one ("https://edge.example.com/sw"). `swproxy sign` puts it in'
        " front of what it signs; empty: the first TCP listener.",
    )
    tls_certificate: FilePath = Field(
        default=None,
        description="PEM file with the certificate chain for TLS on the TCP listeners, relative to"
        " this file. Empty: plain HTTP, for a web server in front that ends TLS.",
    )
    tls_key: FilePath = Field(
        default=None,
        validate_default=True,
        description="PEM file with the certificate's private key, without a passphrase.",
    )
    drain_seconds: float = Field(
        default=600.0,
        ge=0,
        description="Seconds that answers under way may take to end after SIGTERM, while nothing"
        " new is accepted. Ten minutes is as long as the longest model answers run; systemd's"
        " TimeoutStopSec has to be longer.",
    )
    access_log: bool = Field(
        default=True,
        description="Whether each request is logged when it ends: one line, never with a query,"
        " a secret or a signature.",
    )
    log_format: LogFormat = Field(
        default="auto",
        description='"json", one object a line for a collector; "logfmt", the same as key=value,'
        ' for people as well; "console", for people alone; "auto": console on a terminal, logfmt in'
        " systemd's journal and json elsewhere.",
    )
    trusted_proxies: Networks = Field(
        default=(IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")),
        description="Networks of the proxies in front whose X-Forwarded-For is believed when the"
        " log names the client. Anybody else could write what they like into it.",
    )

    @field_validator("tls_key")
    @classmethod
    def _tls_whole(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (value is None) != (info.data.get("tls_certificate", value) is None):
            raise ValueError("goes together with server.tls_certificate: both or neither")
        return value

    @field_validator("listen")
    @classmethod
    def _listen_once(cls, value: tuple[ListenAddress, ...]) -> tuple[ListenAddress, ...]:
        fixed = [each for each in value if not isinstance(each, TcpAddress) or each.port]
        if len(set(fixed)) < len(fixed):
            raise ValueError("lists an address twice")
        return value

    @field_validator("admin_listen")
    @classmethod
    def _admin_apart(
        cls, value: ListenAddress | None, info: ValidationInfo
    ) -> ListenAddress | None:
        free_port = isinstance(value, TcpAddress) and value.port == 0
        if not free_port and value in info.data.get("listen", ()):
            raise ValueError("has to differ from every address in server.listen")
        return value

    def base_url(self) -> str:
        """Return what to put in front of a signed URL, or "" if no client could know."""
        if self.public_url:
            return self.public_url
        scheme = "https" if self.tls_certificate else "http"
        for address in self.listen:
            if isinstance(address, TcpAddress) and address.port:
                host = _ANY_ADDRESS.get(address.host, address.host)
                return f"{scheme}://{TcpAddress(host, address.port)}"
        return ""


class Limits(Section):
    """What one client may take of this process. Sizes are in bytes, times in seconds."""

    connections: int = Field(
        default=8192,
        ge=1,
        description="Client connections per worker. For one more, one of those that have verified"
        " nothing or are idle makes room; where all carry verified calls, it is answered 503. Each"
        " costs up to two file descriptors, so the unit's LimitNOFILE has to be more than twice"
        " this.",
    )
    client_share: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="Share of the connections, and of the room for signed bodies, that one client"
        " address may take (of IPv6, one network of 64 bits), so that one valid URL can't take all."
        " More is answered 503. server.trusted_proxies tell whom they speak for; their own"
        " connections count for nobody. 1 for no such bound.",
    )
    head_bytes: int = Field(
        default=16384,
        ge=1024,
        description="Longest request head, request line included: more is answered 431, or 414"
        " when the URL alone is longer. A signed URL takes about 400 bytes and the URL it carries;"
        " nginx's default allows 8 KB a line, 32 KB in all.",
    )
    header_count: int = Field(
        default=100,
        ge=1,
        description="Most header fields in a request: more is answered 431. Browsers send about 20;"
        " Apache's limit is 100 as well.",
    )
    head_seconds: Seconds = Field(
        default=10.0,
        description="Seconds from a request's first byte to the end of its head, however the bytes"
        " trickle; later is answered 408.",
    )
    keepalive_seconds: float = Field(
        default=75.0,
        ge=0,
        description="Seconds that a client's connection may wait for its next request; nginx keeps"
        " one as long. 0 closes each connection after its answer.",
    )
    body_bytes: int = Field(
        default=33554432,
        ge=0,
        description="Longest request body: more is answered 413. 32 MiB lets an image or a minute"
        " of sound pass. Answers are not limited.",
    )
    signed_body_bytes: int = Field(
        default=16777216,
        ge=0,
        description="Longest request body that is part of the signature. It has to be held until"
        " its last byte has proved it, so it costs more than a body that streams through. At most"
        " body_bytes, which holds for it as well.",
    )
    checked_body_bytes: int = Field(
        default=1048576,
        ge=0,
        description="Longest request body that terms are about: it is held until it has been read"
        " and judged. A long conversation is a quarter of this; images that are sent inside JSON"
        " may be more. At most body_bytes, which holds for it as well.",
    )
    write_seconds: Seconds = Field(
        default=60.0,
        description="Seconds that a client may go without taking a single byte of an answer that"
        " waits for it, before its connection is cut. What a client reads is seen from here in"
        " steps of up to 128 KiB, so if this is less than 20 seconds, six times as long is waited"
        " for a step, but no longer than 20 seconds.",
    )
    expiry_seconds: int = Field(
        default=EXPIRY_SECONDS,
        ge=1,
        description="Longest X-Sw-Expires of a signed URL. Seven days, as S3's presigned URLs have"
        " it; a leaked URL works until it expires, so sign for minutes.",
    )
    clock_skew_seconds: int = Field(
        default=CLOCK_SKEW_SECONDS,
        ge=0,
        description="How far a URL's X-Sw-Date may lie ahead of this machine's clock.",
    )

    @field_validator("signed_body_bytes", "checked_body_bytes")
    @classmethod
    def _within_body(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("body_bytes", value):
            raise ValueError("has to be at most limits.body_bytes, which bounds every body")
        return value


class Upstream(Section):
    """The side of the APIs that are called. Times are in seconds."""

    connect_seconds: Seconds = Field(
        default=10.0,
        description="Seconds to resolve a name, connect and agree on TLS; later is answered 504.",
    )
    first_byte_seconds: Seconds = Field(
        default=300.0,
        description="Seconds from the end of the request to the first byte of the answer; later is"
        " answered 504. Reasoning models think for minutes before they speak.",
    )
    idle_seconds: Seconds = Field(
        default=300.0,
        description="Seconds between two bytes of an answer; a longer silence cuts the answer.",
    )
    idle_connections: int = Field(
        default=256,
        ge=0,
        description="Connections kept open for reuse, per worker and origin: each spares the next"
        " request a TLS handshake. Those beyond the number are closed when they have not been"
        " needed for a second. 0 opens one for every request.",
    )
    idle_connection_seconds: float = Field(
        default=55.0,
        ge=0,
        description="Seconds that a connection is kept for reuse. Load balancers commonly close"
        " theirs after 60, and the side that closes first never loses a request.",
    )
    ca_file: FilePath = Field(
        default=None,
        description="PEM file with certificates to trust besides the system's, relative to this"
        " file; for an API inside your own network.",
    )
    private_networks: Networks = Field(
        default=(),
        description="Networks that names may resolve into although they are not public, such as"
        ' "10.1.0.0/16". Empty: a signed URL can never reach this machine, its network or the'
        " cloud's metadata service.",
    )


class Cors(Section):
    """Which pages may call, as browsers ask it. An application may have a table of its own."""

    allow_origins: Origins = Field(
        default=("*",),
        description='Origins whose pages may read answers, or "*" for any. What protects a call is'
        " its signature, and no cookie is involved, so any page is a safe default.",
    )
    max_age_seconds: int = Field(
        default=MAX_AGE_SECONDS,
        ge=0,
        description="Seconds that a browser may remember a preflight's answer: two hours is the"
        " most that Chrome honours.",
    )

    def policy(self) -> CorsPolicy:
        """Return the section as the value that answers for requests."""
        return CorsPolicy(self.allow_origins, self.max_age_seconds)


class AppTable(Section):
    """One application: whoever holds its secret decides which calls are made with its headers."""

    secrets: Secrets = Field(
        repr=False,
        description="What its backend signs with: one, or two while the older is being replaced."
        " Anybody with a signed URL can try out guesses in private, so take 32 random bytes.",
    )
    allow: Allow = Field(
        description="Where its URLs may lead, and so who may ever see its headers. `*` ends a path"
        ' ("https://api.openai.com/v1/*"), leads a host ("https://*.example.com/*"), or stands'
        " alone for anywhere.",
    )
    headers: dict[HeaderName, HeaderValue] = Field(
        default={},
        repr=False,
        description="Headers added to each call, over anything the page sent: the API's key."
        " Kept best in the environment or a file, and named here by a reference.",
    )
    headers_from_page: FromPage = Field(
        default=DEFAULT_FROM_PAGE,
        description="Names of headers that a page may add to a call without a signature; a `*` ends"
        " a name. Others do not pass, since to many APIs a header beside the key says on whose"
        " account or as which user to act (OpenAI-Organization, Stripe-Account, Sudo). A header"
        " that is signed always passes. The default is what fetch() and OpenAI's clients need."
        ' ["*"] lets pass all but cookies, credentials, and what tells about the user (Origin,'
        " Referer, Sec-, X-Forwarded- and the like), which have to be named one by one.",
    )
    websocket_urls_only: bool = Field(
        default=False,
        description="Whether a WebSocket takes a URL that was signed for ws:// or wss://. If not,"
        " any URL that was signed for GET opens one, where the API has one there: http:// and ws://"
        " are the same address, and a page says how it calls.",
    )
    cors: Cors | None = Field(
        default=None,
        description="Which pages may call this application; keys left out are as in [cors].",
    )
    meter: Meter = Field(
        default="",
        description='"tokens": what each call used is read off the answer, where the API says it,'
        " for the log, for metrics and for budgets of tokens. The bytes pass as ever; the API is"
        " asked not to compress. Empty: nothing is read.",
    )
    weights: dict[ModelName, WeightValue] = Field(
        default={},
        description="What a token counts for in budgets, by model; a `*` ends a name. A number, or"
        " a table with input, output and cached, each 1 where nothing is said, cached as input."
        " A model that is not named counts 1 a token. Log and metrics are not weighed.",
    )
    on_leave: OnLeave = Field(
        default="cancel",
        description='What becomes of a call whose client leaves. "cancel" ends it, which stops a'
        ' model that nobody listens to. "drain", for APIs that go on and bill all the same, reads'
        " the rest of the answer and throws it away, so that what it used is known: at most 64 at"
        " once a worker, each for five minutes, and as long as the call might have lasted.",
    )
    heartbeat_seconds: float = Field(
        default=0.0,
        ge=0,
        description="Seconds of silence in an event stream after which its page is sent a comment,"
        " between two events. Load balancers cut what is silent for long, often after 60 seconds,"
        " and models think for longer. 0: never.",
    )
    terms: TermTable = Field(
        default=NO_TERMS,
        description="Terms that hold for each of its calls, besides those that the URL has: the"
        " same names, in quotation marks where there is a dot in them, with values as TOML writes"
        ' them (seconds = 120, "body.model" = ["gpt-5-mini", "gpt-5-nano"],'
        ' "body.max_completion_tokens?" = "1..800"). docs/terms.md tells of each.',
    )
    limits: AppLimits = Field(
        default=AppLimits(),
        description="How much may be called, by everybody together and, in [apps.ID.limits.user],"
        " by each user that URLs name. docs/limits.md tells how it is counted.",
    )
    plans: Plans = Field(
        default={},
        description="Plans by name, [apps.ID.plans.NAME], each with terms as above that hold for"
        " the URLs that say so (plan=NAME), so that a backend need not spell them out; and with"
        ' requests, concurrent and tokens ("5000/day"), which then hold for a user in place of'
        " limits.user.",
    )
    require: Required = Field(
        default=(),
        description='Names of terms that every URL has to have, such as ["user", "seconds"]: a URL'
        " that lacks one is refused.",
    )

    @field_validator("weights")
    @classmethod
    def _weighs_something(cls, value: dict[str, Weight], info: ValidationInfo) -> dict[str, Weight]:
        if value and not info.data.get("meter", "tokens"):
            raise ValueError('weighs nothing without meter = "tokens"')
        return value

    @field_validator("headers")
    @classmethod
    def _headers_once(cls, value: dict[str, str]) -> dict[str, str]:
        # To many servers, X_Key and x-key are one name.
        if len({folded(name.encode()) for name in value}) < len(value):
            raise ValueError("has a name twice, in different spellings")
        return value

    def app(self, app_id: str, cors: CorsPolicy) -> App:
        """Return the application as requests meet it; `cors` is what its own table amends."""
        own = self.cors.model_dump(exclude_unset=True) if self.cors else {}
        return App(
            id=app_id,
            secrets=self.secrets,
            allow=self.allow,
            headers=tuple((name.encode(), value.encode()) for name, value in self.headers.items()),
            cors=replace(cors, **own),
            headers_from_page=PageHeaders(self.headers_from_page),
            websocket_urls_only=self.websocket_urls_only,
            terms=self.terms,
            limits=self.limits.allowance(),
            user_limits=self.limits.user.allowance(),
            plans=dict(self.plans),
            require=self.require,
            weights=Weights(self.weights) if self.meter else None,
            drains=self.on_leave == "drain",
            heartbeat_seconds=self.heartbeat_seconds,
        )


@dataclass(frozen=True, slots=True)
class App:
    """An application as requests meet it. Its repr shows neither secrets nor headers."""

    id: str
    secrets: tuple[str, ...] = field(repr=False)
    allow: tuple[Pattern, ...]
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    cors: CorsPolicy = field(default_factory=lambda: Cors().policy())
    headers_from_page: PageHeaders = field(default_factory=PageHeaders)
    websocket_urls_only: bool = False
    terms: Terms = NO_TERMS
    limits: Allowance = NO_ALLOWANCE
    """for all of its calls together"""
    user_limits: Allowance = NO_ALLOWANCE
    """for those of each user that URLs name, unless their plan has limits of its own"""
    plans: Mapping[str, Plan] = field(default_factory=dict)
    require: tuple[str, ...] = ()
    weights: Weights | None = None
    """there if what calls used is read off their answers"""
    drains: bool = False
    """whether an answer is read to its end although its client has left"""
    heartbeat_seconds: float = 0.0
    secret_written: float | None = field(default=None, compare=False)
    """when the file that its secrets stand in was written last, in seconds since the epoch"""
    key_written: float | None = field(default=None, compare=False)
    """and the one of its headers' values; None: they are in the environment, or there are none"""
    has_terms: bool = field(init=False, repr=False)
    """whether anything is asked of a URL that has no terms of its own"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_terms", bool(self.require) or self.terms != NO_TERMS)

    @property
    def counts(self) -> bool:
        """Tell whether calls are counted, or what they used is, although no URL asks for it."""
        if self.weights is not None:
            return True
        kinds = (self.limits, self.user_limits, *(plan.limits for plan in self.plans.values()))
        return any(kinds) or any(
            terms.uses is not None or terms.tokens is not None
            for terms in (self.terms, *(plan.terms for plan in self.plans.values()))
        )

    def allows(self, destination: Destination) -> bool:
        """Tell whether requests may go there."""
        return any(pattern.matches(destination) for pattern in self.allow)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything configured. `open_cors` is what holds before anybody knows the application.

    Preflights and refusals made before the signature holds are answered alike for every id, from
    the origins of all applications together: else they would tell which ids exist.
    """

    server: Server = field(default_factory=Server)
    limits: Limits = field(default_factory=Limits)
    upstream: Upstream = field(default_factory=Upstream)
    cors: CorsPolicy = field(default_factory=lambda: Cors().policy())
    apps: Mapping[str, App] = field(default_factory=dict)
    store: Store = field(default_factory=Store)
    open_cors: CorsPolicy = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "apps", MappingProxyType(dict(self.apps)))
        policies = [self.cors, *(app.cors for app in self.apps.values())]
        origins = dict.fromkeys(each for policy in policies for each in policy.allow_origins)
        max_age = min(policy.max_age_seconds for policy in policies)
        object.__setattr__(self, "open_cors", CorsPolicy(tuple(origins), max_age))
