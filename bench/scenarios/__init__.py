"""The scenarios, one module each: what it is called, what it says about itself, how it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType

from bench.figures import Label, Metric
from bench.scenarios import (
    accept,
    beside,
    bulk,
    fleet,
    idle,
    imports,
    judge,
    limits,
    live,
    meter,
    refused,
    sign,
    slow,
    small,
    sse,
    store,
    ttfb,
    websocket,
    workers,
)
from bench.session import Session

__all__ = ["SCENARIOS", "Plot", "Scenario"]


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart: one metric over one label, a line for each subject, the other labels fixed."""

    metric: Metric
    over: str
    fixed: Mapping[str, Label] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario as the command line, the report and the charts see it."""

    name: str
    title: str
    notes: tuple[str, ...]
    run: Callable[[Session], None]
    plots: tuple[Plot, ...] = ()


def _scenario(module: ModuleType, *plots: Plot) -> Scenario:
    return Scenario(module.NAME, module.TITLE, module.NOTES, module.run, plots)


SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        _scenario(
            ttfb,
            Plot(ttfb.ADDED["p50"], "concurrency", {"upstream": "https", "client": "kept"}),
            Plot(ttfb.ADDED["p99"], "concurrency", {"upstream": "https", "client": "kept"}),
        ),
        _scenario(sse, Plot(sse.CPU, "streams", {"upstream": "https", "turns": "spread"})),
        _scenario(
            small,
            Plot(small.RATE, "concurrency", {"upstream": "https"}),
            Plot(small.RATE, "concurrency", {"upstream": "http"}),
            Plot(small.CPU, "concurrency", {"upstream": "https"}),
        ),
        _scenario(bulk),
        _scenario(
            idle,
            Plot(idle.P50, "streams", {"upstream": "https"}),
            Plot(idle.PSS, "streams", {"upstream": "https"}),
        ),
        _scenario(beside),
        _scenario(slow),
        _scenario(websocket, Plot(websocket.CPU, "tunnels", {"upstream": "https"})),
        _scenario(workers),
        _scenario(accept),
        _scenario(meter),
        _scenario(refused),
        _scenario(sign),
        _scenario(judge),
        _scenario(imports),
        _scenario(limits),
        _scenario(live),
        _scenario(store),
        _scenario(fleet),
    )
}
