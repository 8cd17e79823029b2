"""The frame: what is going on in all workers at one moment, as JSON, once a second.

It is the contract between the daemon and whoever shows it: the page on the admin listener and
`swproxy top`. `GET /live` on the admin listener answers `text/event-stream`; each event has its
name, `frame`, and one line of data, a `Frame`:

    event: frame
    data: {"v":1,"time":1764003588.12,"seconds":1.0,"state":"serving",...}

- The first frame comes at once, then one a second, by the clock of the daemon. One that a looker
  does not take in time is skipped, not kept: whoever is slow sees fewer, and what he is sent is
  never more than a second old. All of a frame stands for itself; what was seen before is needed for
  nothing but `requests`, which holds those that this looker has not been sent.
- Counts (`requests`, `bytes_up`, `tokens_in`...) are those of /metrics, name for name. A call that
  is under way is in them when it has ended. Rates, in names that end in `_rate`, are a second, over
  the `seconds` since the frame before; bytes and tokens of calls under way are in those as they
  come. In the first frame after nobody looked they are null.
- Tokens of a call under way are an estimate (events seen); null where nobody meters.
- It holds no query, no header, no secret and no signature. What strangers chose, such as users and
  paths of signed URLs, it holds as it came: to be shown as text.
- Readers pass over what they do not know. `v` is another one if what is said here does not hold any
  more. 401 asks for `Authorization: Bearer <server.admin_token>`, 503 says that too many look.
"""

from typing import Any, Literal, TypedDict

__all__ = [
    "VERSION",
    "App",
    "Frame",
    "Keys",
    "Limit",
    "Percentiles",
    "Refusals",
    "Stream",
    "Traffic",
    "Worker",
]

VERSION = 1


class Percentiles(TypedDict):
    """Time to first byte, in seconds, of the requests of the last minute; None if there were none.

    Read off the histogram's buckets, as Prometheus does.
    """

    p50: float | None
    p95: float | None
    p99: float | None
    count: int


class Traffic(TypedDict):
    """What passes: of all, or of one application."""

    streams: int
    """answers under way"""
    requests: int
    refused: int
    """of those: answered by ourselves, and the API has not heard of them"""
    failed: int
    """of those: the API's side failed"""
    bytes_up: int
    bytes_down: int
    tokens_in: int
    tokens_out: int
    tokens_unknown: int
    """calls whose tokens nobody knows"""
    requests_rate: float | None
    refused_rate: float | None
    bytes_up_rate: float | None
    bytes_down_rate: float | None
    tokens_rate: float | None
    """written by models"""
    first_byte: Percentiles


class Limit(TypedDict):
    """One of an application's own limits, ten seconds ago at most; those of users are not told."""

    kind: str
    """requests, concurrent or tokens"""
    used: int
    of: int


class Keys(TypedDict):
    """How old what an application signs and calls with is, in seconds; None where no file says."""

    secrets: int
    """how many verify: two while one replaces the other"""
    secret_age: float | None
    key_age: float | None


class App(Traffic):
    """One application."""

    id: str
    limits: list[Limit]
    keys: Keys | None
    """None for one that is not configured any more"""


class Worker(TypedDict):
    """One process: those that serve, and in front of them the one that watches over them."""

    name: str
    """its number; `supervisor` is the one that watches over them"""
    state: Literal["up", "starting", "silent", "down"]
    """silent: up, but has not answered in time for this frame"""
    pid: int | None
    beat: float
    """seconds since its loop was last known to go round"""
    restarts: int
    """how many before it in its place have died"""
    uptime: float
    """of this process"""
    cpu: float | None
    """share of one core since the frame before; 1.0 is all of it"""
    memory: int | None
    """resident, in bytes"""
    streams: int


class Refusals(TypedDict):
    """How often a problem was the answer, and what to do about it."""

    code: str
    status: int
    title: str
    remedy: str
    count: int
    rate: float | None


class Stream(TypedDict):
    """A call under way."""

    id: str
    """its X-Request-Id"""
    app: str
    user: str
    client: str
    kind: Literal["http", "websocket"]
    method: str
    origin: str
    path: str
    state: Literal["waiting", "streaming"]
    """waiting: no answer has begun to leave"""
    age: float
    bytes_up: int
    bytes_down: int
    tokens: int | None


class Frame(TypedDict):
    """All of it."""

    v: int
    time: float
    """seconds since the epoch"""
    seconds: float | None
    """since the frame before, which rates are over"""
    version: str
    state: Literal["serving", "draining"]
    uptime: float
    actions: bool
    """whether server.admin_actions lets a looker end streams and revoke users"""
    total: Traffic
    connections: int
    upstream_active: int
    upstream_idle: int
    faults: int
    log_lines_dropped: int
    ledger_errors: int
    workers: list[Worker]
    apps: list[App]
    """the busiest first, at most 100"""
    more_apps: int
    refusals: list[Refusals]
    """those that there were, the most frequent first"""
    streams: list[Stream]
    """the oldest first, at most 100"""
    more_streams: int
    requests: list[dict[str, Any]]
    """those that have ended, the oldest first: the log's lines, as `log_format = "json"` has them;
    in the first frame the last hundred, then those since the frame before, at most a hundred"""
