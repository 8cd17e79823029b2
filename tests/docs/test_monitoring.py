"""The dashboard and the alerts: they name what there is, and the alerts sound when they should."""

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import trio

from tests.support import ROOT
from tests.support.monitoring import (
    ALERTS,
    alert_names,
    dashboard,
    panels,
    targets,
    told_metrics,
)
from tests.support.pages import block
from tests.support.parts import require
from tests.support.running import daemon
from tests.support.shell import shell

_MATCHED = re.compile(r"\b(swproxy_\w+)\{([^}]*)\}")
_LABEL = re.compile(r"(\w+) *(?:=~|!~|!=|=)")
_BY = re.compile(r"\b(?:by|on|group_left|label_replace) *\(([\w, ]*)\)")
_OF_PROMETHEUS = {"instance", "job"}


def test_every_metric_that_is_named_is_told() -> None:
    variables = json.dumps(dashboard()["templating"])
    for text in (*(each.expression for each in targets()), variables, ALERTS.read_text()):
        for name in re.findall(r"\bswproxy_\w+", text):
            assert name in told_metrics(), name


def test_every_metric_is_shown_somewhere() -> None:
    asked = " ".join(each.expression for each in targets())
    shown = set(re.findall(r"\bswproxy_\w+", asked))
    # Sums are for averages, which say little of waiting.
    assert {name for name in told_metrics() if not name.endswith(("_sum", "_count"))} == shown


def _labels_named(text: str, known: frozenset[str]) -> None:
    """Check all labels that a text names: in matchers those of the metric, else any's of it."""
    for name, matchers in _MATCHED.findall(text):
        for label in _LABEL.findall(re.sub(r'"[^"]*"', '""', matchers)):
            assert label in told_metrics()[name] | _OF_PROMETHEUS, (name, label)
    for listed in _BY.findall(text):
        for label in filter(None, re.split(r"[, ]+", listed)):
            assert label in known | _OF_PROMETHEUS, (text, label)


def test_every_label_that_is_named_is_one_of_the_metric() -> None:
    told = told_metrics()
    for each in targets():
        labels = [told[name] for name in re.findall(r"\bswproxy_\w+", each.expression)]
        known = frozenset[str]().union(*labels)
        _labels_named(each.expression, known)
        for label in re.findall(r"\{\{ *(\w+) *\}\}", each.legend):
            assert label in known | _OF_PROMETHEUS, each.legend
    for rule in ALERTS.read_text().split("- alert: ")[1:]:
        labels = [told[name] for name in re.findall(r"\bswproxy_\w+", rule)]
        known = frozenset[str]().union(*labels)
        _labels_named(rule, known)
        for label in re.findall(r"\$labels\.(\w+)", rule):
            assert label in known | _OF_PROMETHEUS, label
    for variable in dashboard()["templating"]["list"]:
        for name, label in re.findall(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", str(variable)):
            assert label in told[name] | _OF_PROMETHEUS


_UNITS = {
    r"^sum.*rate\(swproxy_bytes_total": "Bps",
    r"topk.*rate\(swproxy_bytes_total": "Bps",
    r"rate\(swproxy_tokens_total": "suffix: tokens/s",
    r"^histogram_quantile.*_seconds_bucket": "s",
    r"_memory_bytes": "bytes",
    r"rate\(swproxy_process_cpu_seconds_total": "percentunit",
    r" / ": "percentunit",
    r"[^b]rate\(swproxy_(?:requests|refusals|limited|tokens_unknown)_total": "reqps",
    r"^sum(?: by \(\w+\))? \(?(?:increase\()?swproxy_": "short",
}


def test_every_panel_says_what_it_shows_in_units_that_are_right() -> None:
    for panel in panels():
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
    seen = set()
    for each in targets():
        unit = each.panel["fieldConfig"]["defaults"]["unit"]
        share = " / " in each.expression
        wanted = [
            right
            for pattern, right in _UNITS.items()
            if re.search(pattern, each.expression) and share == (pattern == " / ")
        ]
        assert unit in (wanted[:1] or ["short"]), each
        seen.add(unit)
    assert seen == {"short", "reqps", "percentunit", "s", "Bps", "bytes", "suffix: tokens/s"}


def test_panels_have_a_place_and_a_number_of_their_own() -> None:
    every = dashboard()["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        place = panel["gridPos"]
        cells = {
            (place["x"] + dx, place["y"] + dy)
            for dx in range(place["w"])
            for dy in range(place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells


def _promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        [require("promtool", "prometheus"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_can_read_the_alerts_and_what_the_dashboard_asks(tmp_path: Path) -> None:
    _promtool("check", "rules", ALERTS)
    rules = [{"record": f"panel:{n}", "expr": t.asked("5m")} for n, t in enumerate(targets())]
    asked = tmp_path / "asked.yml"
    asked.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    _promtool("check", "rules", asked)


def test_the_alerts_are_installed_as_the_page_says(tmp_path: Path) -> None:
    require("promtool", "prometheus")
    (tmp_path / "prometheus.yml").write_text(
        block("prometheus.yml").replace("/etc/prometheus/", f"{tmp_path}/")
    )
    script = block("alerts").replace("/etc/prometheus/", f"{tmp_path}/")
    script = script.replace("systemctl reload prometheus\n", "true\n")
    done = shell(ROOT, script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(alert_names())} rules found" in done.stdout


Series = Mapping[str, str]
"""metrics, and how their values go on every minute: promtool's `0+10x30` is 0, 10, 20 ... 300"""

_WELL: Series = {
    'up{job="swproxy",instance="a"}': "1x60",
    'swproxy_faults_total{instance="a"}': "3x60",
    'swproxy_worker_restarts_total{instance="a"}': "2x60",
    'swproxy_requests_total{instance="a",app="chat",outcome="complete"}': "0+600x60",
    'swproxy_refusals_total{instance="a",code="expired"}': "0+20x60",
    'swproxy_time_to_first_byte_seconds_bucket{instance="a",le="0.5"}': "0+570x60",
    'swproxy_time_to_first_byte_seconds_bucket{instance="a",le="30.0"}': "0+590x60",
    'swproxy_time_to_first_byte_seconds_bucket{instance="a",le="+Inf"}': "0+600x60",
    'swproxy_time_to_first_byte_seconds_count{instance="a"}': "0+600x60",
    'swproxy_log_lines_dropped_total{instance="a"}': "9x60",
    'swproxy_ledger_errors_total{instance="a"}': "0x57 1x3",
    'swproxy_requests_total{instance="b",app="chat",outcome="refused"}': "0+200x60",
    'swproxy_refusals_total{instance="b",code="expired"}': "0+200x60",
    'swproxy_limit{instance="a",app="chat",limit="tokens"}': "1000x60",
    'swproxy_limit_used{instance="a",app="chat",limit="tokens"}': "0+10x60",
    'swproxy_limit{instance="a",app="old",limit="tokens"}': "0x60",
    'swproxy_limit_used{instance="a",app="old",limit="tokens"}': "0x60",
    'swproxy_limit{instance="a",app="chat",limit="concurrent"}': "2x60",
    'swproxy_limit_used{instance="a",app="chat",limit="concurrent"}': "2x60",
}
_ILL: Mapping[str, tuple[Series, str]] = {
    "SwproxyDown": ({'up{job="swproxy",instance="a"}': "1x50 0x10"}, 'instance="a",job="swproxy"'),
    "SwproxyFaults": ({'swproxy_faults_total{instance="a"}': "3x55 4x5"}, 'instance="a"'),
    "SwproxyWorkerRestarts": (
        {'swproxy_worker_restarts_total{instance="a"}': "2x50 3x10"},
        'instance="a"',
    ),
    "SwproxyRefusalsRising": (
        {'swproxy_refusals_total{instance="a",code="expired"}': "0+10x40 500+100x20"},
        'code="expired",instance="a"',
    ),
    "SwproxyFirstByteSlow": (
        {'swproxy_time_to_first_byte_seconds_bucket{instance="a",le="0.5"}': "0+570x30 17100x30"},
        'instance="a"',
    ),
    "SwproxyLogLinesDropped": (
        {'swproxy_log_lines_dropped_total{instance="a"}': "9x55 29x5"},
        'instance="a"',
    ),
    "SwproxyStoreDown": (
        {'swproxy_ledger_errors_total{instance="a"}': "0x50 1+1x10"},
        'instance="a"',
    ),
    "SwproxyBudgetNearlySpent": (
        {'swproxy_limit_used{instance="a",app="chat",limit="tokens"}': "0+10x40 950x20"},
        'app="chat"',
    ),
}


def _tested(series: Series, firing: Iterable[str]) -> dict[str, object]:
    """Return a test as promtool has it: after an hour, these alerts sound and no other."""
    samples = [{"labels": f"ALERTS{{{each}}}", "value": 1} for each in firing]
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": 'ALERTS{alertstate="firing"}', "eval_time": "60m", "exp_samples": samples}
        ],
    }


@pytest.mark.parametrize("ill", ["", *_ILL])
def test_an_alert_sounds_when_it_should_and_alone(ill: str, tmp_path: Path) -> None:
    assert set(_ILL) == set(alert_names())
    series, firing = dict(_WELL), []
    if ill:
        changed, labels = _ILL[ill]
        series |= changed
        severity = re.search(rf"{ill}\n.*?severity: (\w+)", ALERTS.read_text(), re.DOTALL)
        assert severity
        firing = [f'alertname="{ill}",alertstate="firing",severity="{severity[1]}",{labels}']
    tests = tmp_path / "tests.yml"
    tests.write_text(json.dumps({"rule_files": [str(ALERTS)], "tests": [_tested(series, firing)]}))
    _promtool("test", "rules", tests)


async def test_a_look_from_a_terminal_is_as_the_page_says(tmp_path: Path) -> None:
    async with daemon(tmp_path / "d") as running:
        config = tmp_path / "d" / "swproxy.toml"
        text = config.read_text().replace(
            'admin_listen = "127.0.0.1:0"', f'admin_listen = "127.0.0.1:{running.admin_port}"'
        )
        config.write_text(text)
        script = block("top").replace("/etc/swproxy/swproxy.toml", str(config))
        script = script.replace("swproxy top --", f"swproxy top --config {config} --")
        done = await trio.to_thread.run_sync(shell, tmp_path, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("swproxy 0.") == 2
    assert '"workers": [' in done.stdout
