"""Frames, made of what all workers have counted and what each has told.

A `Composer` lives as long as somebody looks. It remembers the frame before, to make rates, and what
first bytes there were in the last minute.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import trio

from swproxy import __version__
from swproxy.config.config import App as Application
from swproxy.config.config import Config
from swproxy.daemon.frame import (
    VERSION,
    App,
    Frame,
    Keys,
    Limit,
    Refusals,
    Traffic,
    Worker,
)
from swproxy.daemon.percentiles import FirstBytes
from swproxy.daemon.report import MOST_REQUESTS, MOST_STREAMS, Report
from swproxy.daemon.sums import Count, Sums, read_sums
from swproxy.daemon.tally import Tally
from swproxy.policy.problems import PROBLEMS

__all__ = ["MOST_APPS", "Composer", "Place", "Watched"]

MOST_APPS = 100


@dataclass(frozen=True, slots=True)
class Place:
    """A process of ours: a worker, or the supervisor. Moments are of trio's clock."""

    name: str
    """as in metrics"""
    state: Literal["up", "starting", "down"]
    pid: int | None
    beaten: float
    started: float
    restarts: int = 0
    serves: bool = True


class Watched(Protocol):
    """What is looked at: one worker in this process, or a supervisor of several."""

    @property
    def config(self) -> Config:
        """What is configured now."""

    @property
    def draining(self) -> bool:
        """Tell whether the end has begun."""

    def tallies(self) -> Sequence[Tally]:
        """Return the numbers of every process."""

    def places(self) -> Sequence[Place]:
        """Return the processes, in the order of `tallies`."""

    async def reports(self, since: Sequence[int]) -> Sequence[Report | None]:
        """Ask each process, for the requests after so many too; None of one that tells nothing."""

    async def end_call(self, request_id: str) -> bool:
        """End a call under way; tell whether there is such a one."""

    def note(self, event: str, **fields: object) -> None:
        """Log what somebody who looks has done."""


class Composer:
    """Makes one frame after another of what is `watched`."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._before: Sums | None = None
        self._first_bytes = FirstBytes()
        self._told: dict[str, tuple[int | None, int]] = {}
        self.lines: deque[tuple[int, str]] = deque(maxlen=MOST_REQUESTS)
        """the last requests, numbered from 1, as lines of the log in JSON"""
        self._count = 0

    async def compose(self) -> Frame:
        """Return how things are now, but for the requests, which are in `lines`."""
        watched = self._watched
        places = watched.places()
        reports = await watched.reports([self._last(place) for place in places])
        now = trio.current_time()
        sums = await read_sums(now, watched.tallies(), reports)
        self._first_bytes.add(now, [report["first_bytes"] for report in reports if report])
        self._take_lines(places, reports)
        before, self._before = self._before, sums
        oldest = [stream for report in reports if report for stream in report["oldest"]]
        oldest.sort(key=lambda stream: -stream["age"])
        calls = sum(report["calls"] for report in reports if report)
        apps, more_apps = self._apps(sums, before)
        others = sums.others
        return Frame(
            v=VERSION,
            time=round(time.time(), 3),
            seconds=round(now - before.at, 3) if before else None,
            version=__version__,
            state="draining" if watched.draining else "serving",
            uptime=round(now - min(place.started for place in places), 3),
            actions=watched.config.server.admin_actions,
            total=self._traffic(
                None, sums.total(), before.total() if before else None, _seconds(sums, before)
            ),
            connections=others["swproxy_connections",],
            upstream_active=others["swproxy_upstream_connections", "active"],
            upstream_idle=others["swproxy_upstream_connections", "idle"],
            faults=others["swproxy_faults_total",],
            log_lines_dropped=others["swproxy_log_lines_dropped_total",],
            ledger_errors=others["swproxy_ledger_errors_total",],
            workers=_workers(places, reports, sums, before),
            apps=apps,
            more_apps=more_apps,
            refusals=_refusals(sums, before),
            streams=oldest[:MOST_STREAMS],
            more_streams=calls - len(oldest[:MOST_STREAMS]),
            requests=[],
        )

    def _last(self, place: Place) -> int:
        pid, last = self._told.get(place.name, (None, 0))
        return last if pid == place.pid else 0

    def _take_lines(self, places: Sequence[Place], reports: Sequence[Report | None]) -> None:
        fresh: list[str] = []
        for place, report in zip(places, reports, strict=True):
            if report is not None:
                self._told[place.name] = (place.pid, report["last"])
                fresh += report["requests"]
        for line in sorted(fresh):  # each begins with its time
            self._count += 1
            self.lines.append((self._count, line))

    def _apps(self, sums: Sums, before: Sums | None) -> tuple[list[App], int]:
        """Return the applications, the busiest first, and how many more there are."""
        seconds = _seconds(sums, before)
        configured = self._watched.config.apps

        def idleness(app: str) -> tuple[int, int, int]:
            count = sums.apps.get(app, _NOTHING)
            fresh = count.requests - (before.apps.get(app, _NOTHING).requests if before else 0)
            return -count.streams, -fresh, -count.requests

        names = dict.fromkeys([*configured, *(app for app in sums.apps if app)])
        found: list[App] = []
        for app in sorted(names, key=idleness)[:MOST_APPS]:
            old = before.apps.get(app, _NOTHING) if before else None
            found.append(
                App(
                    **self._traffic(app, sums.apps.get(app, _NOTHING), old, seconds),
                    id=app,
                    limits=_limits(sums, app),
                    keys=_keys(configured[app]) if app in configured else None,
                )
            )
        return found, len(names) - len(found)

    def _traffic(
        self, app: str | None, count: Count, before: Count | None, seconds: float
    ) -> Traffic:
        def rate(now: int, then: int) -> float | None:
            # What was estimated of a call under way may have been more than it came to.
            return round(max(0, now - then) / seconds, 2) if before else None

        old = before or count
        return Traffic(
            streams=count.streams,
            requests=count.requests,
            refused=count.refused,
            failed=count.failed,
            bytes_up=count.bytes_up,
            bytes_down=count.bytes_down,
            tokens_in=count.tokens_in,
            tokens_out=count.tokens_out,
            tokens_unknown=count.tokens_unknown,
            requests_rate=rate(count.requests, old.requests),
            refused_rate=rate(count.refused, old.refused),
            bytes_up_rate=rate(count.moved_up, old.moved_up),
            bytes_down_rate=rate(count.moved_down, old.moved_down),
            tokens_rate=rate(count.moved_tokens, old.moved_tokens),
            first_byte=self._first_bytes.of(app),
        )


_NOTHING = Count()


def _seconds(sums: Sums, before: Sums | None) -> float:
    return max(sums.at - before.at, 1e-3) if before else 0.0


def _workers(
    places: Sequence[Place],
    reports: Sequence[Report | None],
    sums: Sums,
    before: Sums | None,
) -> list[Worker]:
    found: list[Worker] = []
    for place, report, streams in zip(places, reports, sums.streams, strict=True):
        cpu = None
        if before and place.name in before.cpu_seconds:
            more = sums.cpu_seconds[place.name] - before.cpu_seconds[place.name]
            cpu = round(more / _seconds(sums, before), 4)
        silent = place.serves and place.state == "up" and report is None
        found.append(
            Worker(
                name=place.name,
                state="silent" if silent else place.state,
                pid=place.pid,
                beat=round(max(0.0, sums.at - place.beaten), 3),
                restarts=place.restarts,
                uptime=round(sums.at - place.started, 3),
                cpu=cpu,
                memory=sums.memory.get(place.name),
                streams=streams,
            )
        )
    return found


def _limits(sums: Sums, app: str) -> list[Limit]:
    """Return an application's limits; one that was taken away is told as 0."""
    known = sums.limits.get(app, {})
    return [
        Limit(kind=kind, used=limit.get("used", 0), of=limit["of"])
        for kind, limit in known.items()
        if limit.get("of")
    ]


def _refusals(sums: Sums, before: Sums | None) -> list[Refusals]:
    found: list[Refusals] = []
    for code, count in sums.refusals.most_common():
        problem = PROBLEMS[code]
        fresh = (count - before.refusals[code]) / _seconds(sums, before) if before else None
        found.append(
            Refusals(
                code=code,
                status=problem.status,
                title=problem.title,
                remedy=problem.remedy,
                count=count,
                rate=None if fresh is None else round(fresh, 2),
            )
        )
    return found


def _keys(app: Application) -> Keys:
    now = time.time()

    def age(written: float | None) -> float | None:
        return None if written is None else round(max(0.0, now - written))

    return Keys(
        secrets=len(app.secrets),
        secret_age=age(app.secret_written),
        key_age=age(app.key_written),
    )
