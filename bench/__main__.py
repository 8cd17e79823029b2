"""The command line: `python -m bench [SCENARIO]...`."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

import click

from bench import budgets, interpreter, machine, report, svg
from bench.peers.caddy import Caddy
from bench.peers.envoy import Envoy
from bench.peers.go import Go
from bench.peers.haproxy import HAProxy
from bench.peers.nginx import Nginx
from bench.peers.starlette import StarletteHttpx
from bench.scenarios import SCENARIOS
from bench.session import Options, Session
from bench.subjects import Direct, Peer, Plain, Subject, Swproxy

_SUBJECTS: dict[str, Callable[[], Subject]] = {
    "direct": Direct,
    "swproxy": Swproxy,
    "plain": Plain,
    "nginx": Nginx,
    "haproxy": HAProxy,
    "envoy": Envoy,
    "go": Go,
    "caddy": Caddy,
    "starlette+httpx": StarletteHttpx,
}
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def choose(
    names: str | None, peers: Sequence[str], templates: Sequence[str]
) -> tuple[Callable[[], Subject], ...]:
    """Return the builders of the chosen subjects; raise click.BadParameter."""
    urls = dict(_pair(text, "--peer-url") for text in templates)
    known = dict(_SUBJECTS)
    for text in peers:
        name, command = _pair(text, "--peer")
        known[name] = partial(Peer, name, command, urls.pop(name, "{signed}"))
    if urls:
        raise click.BadParameter(f"--peer-url for {next(iter(urls))}, which is no --peer")
    chosen = list(known) if names is None else [name.strip() for name in names.split(",")]
    for name in chosen:
        if name not in known:
            raise click.BadParameter(f"no subject {name!r}; there are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(chosen))


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise click.BadParameter(f"{option} takes NAME=VALUE, not {text!r}")
    return name, value


@click.command(epilog=f"Scenarios: {', '.join(SCENARIOS)}.")
@click.argument("scenarios", nargs=-1, type=click.Choice(list(SCENARIOS)), metavar="[SCENARIO]...")
@click.option("--quick", is_flag=True, help="A short run: shows that it works, proves nothing.")
@click.option("--rounds", type=click.IntRange(1, 1000), help="Samples of each figure.")
@click.option("--subjects", "names", metavar="A,B", help="Only these; default: all there are.")
@click.option(
    "--only",
    "only",
    multiple=True,
    metavar="LABEL=A,B",
    help="Only what has these labels, as the tables show them: upstream=https, streams=20,150.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="NAME=COMMAND",
    help="Another proxy. COMMAND may hold {port} {http} {https} {ca} {id} {secret} {key}.",
)
@click.option(
    "--peer-url",
    "templates",
    multiple=True,
    metavar="NAME=TEMPLATE",
    help="Its URLs: {signed} (default), or made of {port} {url} {quoted} {scheme} "
    "{upstream} {path}.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write every sample to this file.",
)
@click.option(
    "--plot",
    "plot_directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write charts (SVG) to this directory.",
)
def main(
    scenarios: tuple[str, ...],
    quick: bool,
    rounds: int | None,
    names: str | None,
    only: tuple[str, ...],
    peers: tuple[str, ...],
    templates: tuple[str, ...],
    json_file: Path | None,
    plot_directory: Path | None,
) -> None:
    """Measure swproxy beside direct access, a plain httpcore proxy, nginx and any peer."""
    labels = dict(_pair(text, "--only") for text in only)
    wanted = {name: frozenset(values.split(",")) for name, values in labels.items()}
    options = Options(quick, rounds, choose(names, peers, templates), wanted)
    # However this ends, the beds' exit stacks end what was started.
    for number in _ENDING:
        signal.signal(number, _interrupt)
    machine.raise_file_limit()
    facts = machine.describe() | {"before": machine.load_now()}
    if not interpreter.this_build().profiled:
        facts["warning"] = interpreter.WARNING
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()), flush=True)
    chosen = [SCENARIOS[name] for name in dict.fromkeys(scenarios or SCENARIOS)]
    interrupted = False
    with tempfile.TemporaryDirectory(prefix="swproxy-bench-") as directory:
        session = Session(options, Path(directory))
        for scenario in chosen:
            others = machine.Others()
            try:
                scenario.run(session)
            except KeyboardInterrupt:
                interrupted = True
            session.figures.remark(scenario.name, "meanwhile", others.summary())
            session.progress.clear()
            print(f"\n{report.scenario_table(scenario, session.figures)}", flush=True)
            if interrupted:
                break
    verdicts = budgets.judge(session.figures)
    names_run = {scenario.name for scenario in chosen}
    facts["after"] = machine.load_now()
    print(f"\nafter: {facts['after']}")
    print(f"\n{report.budget_table([v for v in verdicts if v.budget.scenario in names_run])}")
    if json_file is not None:
        json_file.write_text(report.as_json(facts, session.figures, verdicts))
    if plot_directory is not None:
        _draw(session, plot_directory)
    sys.exit(130 if interrupted else 0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Once is enough: ending the processes takes seconds and must not be cut short.
    for ending in _ENDING:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


def _draw(session: Session, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for scenario in SCENARIOS.values():
        for plot in scenario.plots:
            drawing = svg.plot(scenario, plot, session.figures)
            if drawing is not None:
                parts = (scenario.name, plot.metric.key, *plot.fixed.values())
                name = "-".join(str(part).replace(" ", "-") for part in parts)
                (directory / f"{name}.svg").write_text(drawing)


if __name__ == "__main__":
    main()
