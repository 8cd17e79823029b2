"""What is counted of every request, and which of it means what.

`Metrics` is on the way of each request, so it costs a handful of stores: the slots of an
application's series are looked up once and kept. How the numbers are named to Prometheus is said in
`FAMILIES`, beside what they mean; `exposition` writes them out when somebody asks.

Labels stay bounded: an application's id becomes one only after a signature of it has held, a
problem's code comes from our own table.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from swproxy.daemon.tally import Key, Tally
from swproxy.proxy.record import Record

__all__ = ["FAMILIES", "FIRST_BYTE_BOUNDS", "Family", "Metrics", "clear_gauges"]

_MILLISECONDS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000)
FIRST_BYTE_BOUNDS = tuple(each / 1000 for each in _MILLISECONDS)
_DECISION = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
_DURATION = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its kind, its label names, its help text; for a histogram its upper bounds (s)."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    shared: bool = False
    """every worker tells the same, so that the greatest is right, and no sum"""


FAMILIES: Mapping[str, Family] = {
    "swproxy_requests_total": Family(
        "counter",
        "Requests that have ended, by application (empty: none verified) and how they ended.",
        ("app", "outcome"),
    ),
    "swproxy_bytes_total": Family(
        "counter",
        "Bytes of bodies as they were on the wire: up to the upstream, down to the client.",
        ("app", "direction"),
    ),
    "swproxy_tokens_total": Family(
        "counter",
        "Tokens that calls of metered applications used: input (read by the model), output.",
        ("app", "kind"),
    ),
    "swproxy_tokens_unknown_total": Family(
        "counter", "Calls of metered applications whose answers did not say it.", ("app",)
    ),
    "swproxy_limited_total": Family(
        "counter",
        "Requests refused by a limit, by application and the problem's code.",
        ("app", "reason"),
    ),
    "swproxy_ledger_seconds": Family(
        "histogram", "A decision about limits, from the question to the answer.", bounds=_DECISION
    ),
    "swproxy_ledger_errors_total": Family(
        "counter", "Times that the store of limits could not be asked, or written."
    ),
    "swproxy_refusals_total": Family(
        "counter", "Requests answered with a problem document, by its code.", ("code",)
    ),
    "swproxy_time_to_first_byte_seconds": Family(
        "histogram",
        "From a request's head to the first byte of the upstream's answer sent to the client.",
        bounds=FIRST_BYTE_BOUNDS,
    ),
    "swproxy_request_seconds": Family(
        "histogram", "From a verified request's head to its end.", bounds=_DURATION
    ),
    "swproxy_active_streams": Family("gauge", "Answers being relayed now.", ("kind",)),
    "swproxy_connections": Family("gauge", "Client connections open now."),
    "swproxy_upstream_connections": Family(
        "gauge", "Upstream connections: carrying a request, or idle and kept for one.", ("state",)
    ),
    "swproxy_limit": Family(
        "gauge",
        "What an application's own limits allow: requests at once, calls under way, tokens in the"
        " window; 0 once there is no such limit.",
        ("app", "limit"),
        shared=True,
    ),
    "swproxy_limit_used": Family(
        "gauge",
        "How much of it is taken now, five seconds ago at most.",
        ("app", "limit"),
        shared=True,
    ),
    "swproxy_workers": Family("gauge", "Workers that serve now."),
    "swproxy_worker_restarts_total": Family(
        "counter", "Times that a worker died, or hung, and another took its place."
    ),
    "swproxy_process_cpu_seconds_total": Family(
        "counter",
        "Processor time, by process: a worker's number, or supervisor.",
        ("process",),
    ),
    "swproxy_process_resident_memory_bytes": Family(
        "gauge", "Memory in use, by process: a worker's number, or supervisor.", ("process",)
    ),
    "swproxy_faults_total": Family("counter", "Faults of swproxy itself; its log has each."),
    "swproxy_log_lines_dropped_total": Family(
        "counter", "Log lines given up because whoever reads the log did not keep up."
    ),
    "swproxy_uncounted_series": Family(
        "counter", "Counted under no name, for want of room: more than 16,000 series."
    ),
}

_KINDS = ("http", "websocket")


def clear_gauges(tally: Tally) -> None:
    """Forget what a worker that is gone had open; what it has counted stays."""
    for slot, key in enumerate(tally.keys()):
        if FAMILIES[key[0]].kind == "gauge":
            tally.values[slot] = 0


class _Histogram:
    """A histogram's slots: one for each bound, one for what lies above them, and the sum."""

    def __init__(self, tally: Tally, name: str) -> None:
        self._values = tally.values
        self._bounds = FAMILIES[name].bounds
        bounds = [*map(str, self._bounds), "+Inf"]
        self._slots = tally.slots([(name, bound) for bound in bounds])
        self._sum = tally.slot((name, "sum"))

    def observe(self, seconds: float) -> None:
        values = self._values
        values[self._slots[bisect_left(self._bounds, seconds)]] += 1
        values[self._sum] += seconds


class Metrics:
    """An observer of requests that counts them in a tally."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._values = tally.values
        self._series: dict[tuple[str, str], int] = {}
        self._bytes: dict[str, tuple[int, int]] = {}
        self._first_byte = _Histogram(tally, "swproxy_time_to_first_byte_seconds")
        self._duration = _Histogram(tally, "swproxy_request_seconds")
        self._streams = {kind: tally.slot(("swproxy_active_streams", kind)) for kind in _KINDS}
        self._idle, self._active = tally.slots(
            [("swproxy_upstream_connections", state) for state in ("idle", "active")]
        )
        self._connections = tally.slot(("swproxy_connections",))
        self._decisions = _Histogram(tally, "swproxy_ledger_seconds")
        self._ledger_errors = tally.slot(("swproxy_ledger_errors_total",))
        self._faults = tally.slot(("swproxy_faults_total",))
        self._dropped = tally.slot(("swproxy_log_lines_dropped_total",))
        self._workers = tally.slot(("swproxy_workers",))
        tally.slot(("swproxy_worker_restarts_total",))  # whoever is alone says 0
        clear_gauges(tally)

    def began(self, record: Record) -> None:
        """Count an answer that is being relayed."""
        self._values[self._streams[record.kind]] += 1

    def ended(self, record: Record) -> None:
        """Count a request."""
        values = self._values
        app = record.app
        slot = self._series.get((app, record.outcome))
        values[self._slot(app, record.outcome) if slot is None else slot] += 1
        if record.streamed:
            values[self._streams[record.kind]] -= 1
            if record.first_byte is not None:
                self._first_byte.observe(record.first_byte - record.started)
        if record.code:
            values[self._tally.slot(("swproxy_refusals_total", record.code))] += 1
            if record.limit:
                values[self._tally.slot(("swproxy_limited_total", app, record.code))] += 1
        if app:
            self._duration.observe(record.ended - record.started)
        up, down = self._bytes.get(app) or self._byte_slots(app)
        values[up] += record.bytes_up
        values[down] += record.bytes_down
        if record.metered:
            self._count_tokens(record)

    def crashed(self, error: BaseException) -> None:  # noqa: ARG002 - the log says which
        """Count a fault."""
        self._values[self._faults] += 1

    def ledger_decided(self, seconds: float) -> None:
        """Count a decision about limits."""
        self._decisions.observe(seconds)

    def ledger_failed(self) -> None:
        """Count that the store of limits could not be asked, or written."""
        self._values[self._ledger_errors] += 1

    def sample(self, *, connections: int, idle: int, active: int) -> None:
        """Take note of how many connections there are: of clients, upstream idle and in use."""
        self._values[self._workers] = 1
        self._values[self._connections] = connections
        self._values[self._idle] = idle
        self._values[self._active] = active

    def limit(self, app: str, limit: str, most: int, used: int) -> None:
        """Take note of how much of an application's limit is used."""
        keys: list[Key] = [(name, app, limit) for name in ("swproxy_limit", "swproxy_limit_used")]
        there, taken = self._tally.slots(keys)
        self._values[there] = most
        self._values[taken] = used

    def moved(self, app: str) -> tuple[int, int, int]:
        """Return what is counted of an application: bytes up, bytes down, tokens written."""
        return (
            self._counted(("swproxy_bytes_total", app, "up")),
            self._counted(("swproxy_bytes_total", app, "down")),
            self._counted(("swproxy_tokens_total", app, "output")),
        )

    def _counted(self, key: Key) -> int:
        slot = self._tally.find(key)
        return 0 if slot is None else int(self._values[slot])

    def dropped(self, count: int) -> None:
        """Count log lines that were given up."""
        self._values[self._dropped] += count

    def _count_tokens(self, record: Record) -> None:
        if record.tokens_in is None or record.tokens_out is None:
            slot = self._tally.slot(("swproxy_tokens_unknown_total", record.app))
            self._values[slot] += 1
            return
        keys: list[Key] = [("swproxy_tokens_total", record.app, k) for k in ("input", "output")]
        read, written = self._tally.slots(keys)
        self._values[read] += record.tokens_in
        self._values[written] += record.tokens_out

    def _slot(self, app: str, outcome: str) -> int:
        slot = self._tally.slot(("swproxy_requests_total", app, outcome))
        self._series[app, outcome] = slot
        return slot

    def _byte_slots(self, app: str) -> tuple[int, int]:
        keys: list[Key] = [("swproxy_bytes_total", app, way) for way in ("up", "down")]
        up, down = self._tally.slots(keys)
        self._bytes[app] = up, down
        return up, down
