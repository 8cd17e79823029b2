"""The budgets, as data: what is measured against what, and what came of it.

A budget for which something was not measured is not judged.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.figures import Figures
from bench.terms import Term, constant, figure, larger, ratio, times

__all__ = ["BUDGETS", "Budget", "Verdict", "judge"]


@dataclass(frozen=True, slots=True)
class Budget:
    """`measured` must be at most, or with `floor` at least, `bound`."""

    number: int
    scenario: str
    text: str
    unit: str
    measured: Term
    bound: Term
    floor: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A budget beside its figure; `met` is None when something was not measured."""

    budget: Budget
    measured: float | None
    bound: float | None
    met: bool | None


def judge(figures: Figures) -> list[Verdict]:
    """Judge every budget."""
    verdicts = []
    for budget in BUDGETS:
        measured, bound = budget.measured(figures), budget.bound(figures)
        met = None
        if measured is not None and bound is not None:
            met = measured >= bound if budget.floor else measured <= bound
        verdicts.append(Verdict(budget, measured, bound, met))
    return verdicts


def _streams(subject: str, metric: str, streams: int, turns: str = "spread") -> Term:
    return figure("sse", subject, metric, upstream="https", streams=streams, turns=turns)


def _first_byte(subject: str, metric: str, client: str) -> Term:
    return figure("ttfb", subject, metric, upstream="https", client=client, concurrency=1)


def _rate(subject: str, concurrency: int) -> Term:
    return figure(
        "small", subject, "requests_per_second", upstream="https", concurrency=concurrency
    )


def _bulk(subject: str, scheme: str, direction: str) -> Term:
    return figure("bulk", subject, "megabytes_per_second", upstream=scheme, direction=direction)


def _idle(metric: str, scheme: str, streams: int) -> Term:
    return figure("idle", "swproxy", metric, upstream=scheme, streams=streams)


def _beside(share: str, streams: int) -> Term:
    metric = f"request_{share}_ms"
    return figure("beside", "swproxy", metric, upstream="https", streams=streams)


def _workers(metric: str, scheme: str, workers: int) -> Term:
    return figure("workers", "swproxy", metric, upstream=scheme, workers=workers, client="kept")


def _chunk_over(peer: str, streams: int, turns: str, most: float) -> Budget:
    ours, theirs = (
        _streams(subject, "cpu_us_per_chunk", streams, turns) for subject in ("swproxy", peer)
    )
    text = f"SSE, https, {streams} streams, {turns}: CPU per chunk, over {peer}"
    return Budget(1, "sse", text, "x", ratio(ours, theirs), constant(most))


BUDGETS: tuple[Budget, ...] = (
    Budget(
        1,
        "sse",
        "SSE, https, 150 streams, spread: CPU per chunk, alone",
        "us",
        _streams("swproxy", "cpu_us_per_chunk", 150),
        constant(28),
    ),
    *(_chunk_over(peer, 150, "spread", 1) for peer in ("nginx", "go", "caddy")),
    _chunk_over("plain", 150, "spread", 0.25),
    _chunk_over("nginx", 150, "in step", 1.15),
    _chunk_over("nginx", 20, "spread", 1.4),
    *(
        Budget(
            1,
            "sse",
            f"SSE, https, {streams} streams, spread: delay, p50",
            "ms",
            _streams("swproxy", "delay_p50_ms", streams),
            constant(most),
        )
        for streams, most in ((150, 1.0), (20, 0.2))
    ),
    *(
        Budget(
            2,
            "ttfb",
            f"time to first byte, https, c=1, {client}: p50",
            "ms",
            _first_byte("swproxy", "ttfb_p50_ms", client),
            constant(most),
        )
        for client, most in (("kept", 0.36), ("fresh", 0.45))
    ),
    *(
        Budget(
            2,
            "ttfb",
            f"added time to first byte, https, c=1, {client}: p50",
            "ms",
            _first_byte("swproxy", "added_p50_ms", client),
            larger(times(3, _first_byte("nginx", "added_p50_ms", client)), constant(0.25)),
        )
        for client in ("kept", "fresh")
    ),
    Budget(
        3,
        "small",
        "small requests, https, c=64",
        "/s",
        _rate("swproxy", 64),
        constant(3000),
        floor=True,
    ),
    Budget(
        3,
        "small",
        "small requests, https, c=64: over plain",
        "x",
        ratio(_rate("swproxy", 64), _rate("plain", 64)),
        constant(5),
        floor=True,
    ),
    Budget(
        3,
        "small",
        "small requests, https: c=512 over c=64",
        "x",
        ratio(_rate("swproxy", 512), _rate("swproxy", 64)),
        constant(0.95),
        floor=True,
    ),
    *(
        Budget(
            4,
            "bulk",
            f"100 MB {direction}, http: over nginx",
            "x",
            ratio(_bulk("swproxy", "http", direction), _bulk("nginx", "http", direction)),
            constant(1.5),
            floor=True,
        )
        for direction in ("down", "up")
    ),
    *(
        Budget(
            4,
            "bulk",
            f"100 MB {direction}, https: over direct",
            "x",
            ratio(_bulk("swproxy", "https", direction), _bulk("direct", "https", direction)),
            constant(0.6),
            floor=True,
        )
        for direction in ("down", "up")
    ),
    Budget(
        4,
        "bulk",
        "100 MB down, https: over haproxy",
        "x",
        ratio(_bulk("swproxy", "https", "down"), _bulk("haproxy", "https", "down")),
        constant(1),
        floor=True,
    ),
    *(
        Budget(
            5,
            "idle",
            f"5,000 idle streams, {scheme}: PSS each",
            "KB",
            _idle("pss_kb_per_stream", scheme, 5000),
            constant(limit),
        )
        for scheme, limit in (("http", 15), ("https", 35))
    ),
    *(
        Budget(
            5,
            "idle",
            f"5,000 idle streams, {scheme}: new request p50 over none open",
            "x",
            ratio(
                _idle("new_request_p50_ms", scheme, 5000), _idle("new_request_p50_ms", scheme, 0)
            ),
            constant(1.3),
        )
        for scheme in ("http", "https")
    ),
    *(
        Budget(
            5,
            "beside",
            f"a small request beside 1,000 streams over beside none, https: {share}",
            "x",
            ratio(_beside(share, 1000), _beside(share, 0)),
            constant(limit),
        )
        for share, limit in (("p50", 1.3), ("p99", 3))
    ),
    *(
        Budget(
            6,
            "workers",
            f"two workers over one, {scheme}: {name}",
            "x",
            ratio(_workers(metric, scheme, 2), _workers(metric, scheme, 1)),
            constant(1.8),
            floor=True,
        )
        for scheme in ("http", "https")
        for metric, name in (
            ("requests_per_busiest_cpu_second", "requests per CPU-second of the busiest"),
            ("requests_per_second", "requests a second on this machine's cores"),
        )
    ),
    *(
        Budget(
            7,
            "slow",
            f"client that stops reading, {scheme}: {name}",
            unit,
            figure("slow", "swproxy", metric, upstream=scheme, clients=50),
            constant(limit),
        )
        for scheme in ("http", "https")
        for metric, name, unit, limit in (
            ("rss_kb_per_client", "own memory each", "KB", 256),
            ("core_percent", "processor, 50 of them", "%", 0.5),
        )
    ),
    *(
        Budget(
            9,
            "meter",
            f"{name}, https, 150 streams, {turns}",
            unit,
            figure("meter", "swproxy", metric, case=f"150 streams, https {turns}, difference"),
            constant(limit),
        )
        for turns in ("spread", "in step")
        for metric, name, unit, limit in (
            ("cpu_more_us", "a metered chunk over another: CPU", "us", 1),
            ("pss_more_kb_per_stream", "a metered stream over another: PSS", "KB", 5),
        )
    ),
    Budget(
        8,
        "import",
        "import swproxy over bare python",
        "ms",
        figure("import", "import swproxy", "cpu_over_bare_ms"),
        constant(30),
    ),
    Budget(
        8,
        "import",
        "trio, h11, httpcore modules loaded by it",
        "",
        figure("import", "import swproxy", "trio_modules"),
        constant(0),
    ),
    Budget(
        9,
        "sign",
        "a 2 KB chat request judged by six terms",
        "us",
        figure("sign", "swproxy", "us_per_call", case="judge a 2 KB chat request, six terms"),
        constant(25),
    ),
    *(
        Budget(
            9,
            "judge",
            f"a large body that is judged keeps the loop: {case}",
            "ms",
            figure("judge", "swproxy", "longest_hold_ms", body=case),
            constant(5),
        )
        for case in ("a long talk, 1 MB", "lists", "numbers", "too many texts, 1 MB")
    ),
    Budget(
        10,
        "limits",
        "a decision with four checks",
        "us",
        figure(
            "limits", "swproxy", "cpu_us_per_decision", case="four checks: application and user"
        ),
        constant(60),
    ),
    *(
        Budget(
            10,
            "limits",
            f"two workers at 2,000 decisions a second each: {name}",
            "ms",
            figure("limits", "swproxy", metric, case="2 workers, 2000 decisions a second each"),
            constant(limit),
        )
        for metric, name, limit in (
            ("decision_p99_ms", "p99 of a decision", 1),
            ("stream_late_most_ms", "longest stall of a stream", 5),
        )
    ),
    *(
        Budget(
            11,
            "live",
            f"somebody looks at 1,000 {kind}: processor",
            "%",
            figure("live", "swproxy", "core_percent_more", case=f"1000 {kind}, difference"),
            constant(1),
        )
        for kind in ("idle streams", "idle metered streams")
    ),
)
