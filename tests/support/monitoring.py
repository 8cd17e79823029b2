"""The shipped dashboard and alerts, as their tests look at them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from swproxy.daemon.exposition import exposition
from swproxy.daemon.metrics import FAMILIES
from swproxy.daemon.tally import Tally
from tests.support import ROOT

DASHBOARD = ROOT / "systemd" / "grafana.json"
ALERTS = ROOT / "systemd" / "alerts.yml"

_GRAFANA = {"$__rate_interval": "{span}", "$__range": "{span}", "$instance": ".*", "$app": ".*"}


@dataclass(frozen=True, slots=True)
class Target:
    """A question of the dashboard: in which panel, PromQL, and the legend of its answers."""

    panel: Mapping[str, Any]
    expression: str
    legend: str

    def asked(self, span: str) -> str:
        """Return the expression as Grafana asks it, of all, over a `span` such as 5m."""
        found = self.expression
        for name, value in _GRAFANA.items():
            found = found.replace(name, value.format(span=span))
        assert "$" not in found
        return found


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def panels() -> list[dict[str, Any]]:
    """Return its panels, without the rows' titles."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def targets() -> Iterator[Target]:
    """Return everything that its panels ask."""
    for panel in panels():
        for each in panel["targets"]:
            yield Target(panel, each["expr"], each["legendFormat"])


def alert_names() -> list[str]:
    """Return the names of the alerts."""
    return re.findall(r"^ +- alert: (\w+)$", ALERTS.read_text(), re.MULTILINE)


def told_metrics() -> dict[str, frozenset[str]]:
    """Return the name of every series that /metrics may tell, and its labels."""
    found = {"swproxy_info": frozenset({"version"})}
    labels = {name.removesuffix("_total"): family.labels for name, family in FAMILIES.items()}
    for family in text_string_to_metric_families(exposition([Tally()]).decode()):
        if family.name == "swproxy_info":
            continue
        own = frozenset(labels[family.name])
        if family.type == "histogram":
            found[f"{family.name}_bucket"] = own | {"le"}
            found[f"{family.name}_sum"] = found[f"{family.name}_count"] = own
        else:
            found[family.name + ("_total" if family.type == "counter" else "")] = own
    return found
