"""The budgets, as data: what is measured against what, and what came of it.

A term is a number taken from the figures; it is None when what it needs was not measured, and then
the budget is not judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.figures import Figures, Label

__all__ = ["BUDGETS", "Budget", "Verdict", "judge"]

Term = Callable[[Figures], float | None]


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


def _figure(scenario: str, subject: str, metric: str, **labels: Label) -> Term:
    return lambda figures: figures.median(scenario, subject, metric, **labels)


def _constant(value: float) -> Term:
    return lambda _: value


def _combined(of: Callable[[float, float], float], first: Term, second: Term) -> Term:
    def term(figures: Figures) -> float | None:
        values = first(figures), second(figures)
        if values[0] is None or values[1] is None:
            return None
        return of(values[0], values[1])

    return term


def _ratio(first: Term, second: Term) -> Term:
    return _combined(lambda one, other: one / other if other else float("inf"), first, second)


def _times(factor: float, term: Term) -> Term:
    return _combined(lambda one, other: one * other, _constant(factor), term)


def _larger(first: Term, second: Term) -> Term:
    return _combined(max, first, second)


def _chunk(subject: str, turns: str) -> Term:
    return _figure("sse", subject, "cpu_us_per_chunk", upstream="https", streams=150, turns=turns)


def _first_byte(subject: str, client: str) -> Term:
    return _figure("ttfb", subject, "added_p50_ms", upstream="https", client=client, concurrency=1)


def _rate(subject: str, concurrency: int) -> Term:
    return _figure(
        "small", subject, "requests_per_second", upstream="https", concurrency=concurrency
    )


def _bulk(subject: str, scheme: str, direction: str) -> Term:
    return _figure("bulk", subject, "megabytes_per_second", upstream=scheme, direction=direction)


def _idle(metric: str, scheme: str, streams: int) -> Term:
    return _figure("idle", "swproxy", metric, upstream=scheme, streams=streams)


def _workers(metric: str, scheme: str, workers: int) -> Term:
    return _figure("workers", "swproxy", metric, upstream=scheme, workers=workers)


def _sse_budgets(turns: str) -> list[Budget]:
    ours = _chunk("swproxy", turns)
    where = f"SSE, https, 150 streams, {turns}"
    return [
        Budget(1, "sse", f"{where}: CPU per chunk", "us", ours, _constant(20)),
        Budget(
            1,
            "sse",
            f"{where}: over plain",
            "x",
            _ratio(ours, _chunk("plain", turns)),
            _constant(0.25),
        ),
        Budget(
            1,
            "sse",
            f"{where}: over nginx",
            "x",
            _ratio(ours, _chunk("nginx", turns)),
            _constant(3),
        ),
    ]


BUDGETS: tuple[Budget, ...] = (
    *_sse_budgets("spread"),
    *_sse_budgets("in step"),
    *(
        Budget(
            2,
            "ttfb",
            f"added time to first byte, https, c=1, {client}: p50",
            "ms",
            _first_byte("swproxy", client),
            _larger(_times(3, _first_byte("nginx", client)), _constant(0.25)),
        )
        for client in ("kept", "fresh")
    ),
    Budget(
        3,
        "small",
        "small requests, https, c=64: over plain",
        "x",
        _ratio(_rate("swproxy", 64), _rate("plain", 64)),
        _constant(5),
        floor=True,
    ),
    Budget(
        3,
        "small",
        "small requests, https: c=512 over c=16",
        "x",
        _ratio(_rate("swproxy", 512), _rate("swproxy", 16)),
        _constant(0.9),
        floor=True,
    ),
    *(
        Budget(
            4,
            "bulk",
            f"100 MB {direction}, http: over nginx",
            "x",
            _ratio(_bulk("swproxy", "http", direction), _bulk("nginx", "http", direction)),
            _constant(1.5),
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
            _ratio(_bulk("swproxy", "https", direction), _bulk("direct", "https", direction)),
            _constant(0.6),
            floor=True,
        )
        for direction in ("down", "up")
    ),
    *(
        Budget(
            5,
            "idle",
            f"5,000 idle streams, {scheme}: PSS each",
            "KB",
            _idle("pss_kb_per_stream", scheme, 5000),
            _constant(limit),
        )
        for scheme, limit in (("http", 15), ("https", 35))
    ),
    *(
        Budget(
            5,
            "idle",
            f"5,000 idle streams, {scheme}: new request p50 over none open",
            "x",
            _ratio(
                _idle("new_request_p50_ms", scheme, 5000), _idle("new_request_p50_ms", scheme, 0)
            ),
            _constant(1.3),
        )
        for scheme in ("http", "https")
    ),
    *(
        Budget(
            6,
            "workers",
            f"two workers over one, {scheme}: {name}",
            "x",
            _ratio(_workers(metric, scheme, 2), _workers(metric, scheme, 1)),
            _constant(1.8),
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
            _figure("slow", "swproxy", metric, upstream=scheme, clients=50),
            _constant(limit),
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
            _figure("meter", "swproxy", metric, case=f"150 streams, https {turns}, difference"),
            _constant(limit),
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
        _figure("import", "import swproxy", "cpu_over_bare_ms"),
        _constant(30),
    ),
    Budget(
        8,
        "import",
        "trio, h11, httpcore modules loaded by it",
        "",
        _figure("import", "import swproxy", "trio_modules"),
        _constant(0),
    ),
    Budget(
        9,
        "sign",
        "a 2 KB chat request judged by six terms",
        "us",
        _figure("sign", "swproxy", "us_per_call", case="judge a 2 KB chat request, six terms"),
        _constant(25),
    ),
    *(
        Budget(
            9,
            "judge",
            f"a large body that is judged keeps the loop: {case}",
            "ms",
            _figure("judge", "swproxy", "longest_hold_ms", body=case),
            _constant(5),
        )
        for case in ("a long talk, 1 MB", "lists", "numbers", "too many texts, 1 MB")
    ),
    Budget(
        10,
        "limits",
        "a decision with four checks",
        "us",
        _figure(
            "limits", "swproxy", "cpu_us_per_decision", case="four checks: application and user"
        ),
        _constant(60),
    ),
    *(
        Budget(
            10,
            "limits",
            f"two workers at 2,000 decisions a second each: {name}",
            "ms",
            _figure("limits", "swproxy", metric, case="2 workers, 2000 decisions a second each"),
            _constant(limit),
        )
        for metric, name, limit in (
            ("decision_p99_ms", "p99 of a decision", 1),
            ("stream_late_most_ms", "longest stall of a stream", 5),
        )
    ),
)
