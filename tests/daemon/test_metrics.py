"""What is counted of requests, read back as Prometheus reads it."""

import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from swproxy.daemon.exposition import exposition
from swproxy.daemon.ledgers import LedgerWatch
from swproxy.daemon.metrics import FAMILIES, Metrics
from swproxy.daemon.process_metrics import ProcessMetrics
from swproxy.daemon.tally import Tally
from swproxy.proxy.record import Record


def record(**fields: object) -> Record:
    known: dict[str, object] = {
        "request_id": "1",
        "client": "",
        "method": "GET",
        "started": 10.0,
        "ended": 12.0,
        "app": "a",
        "outcome": "complete",
    }
    return Record(**known | fields)  # type: ignore[arg-type]


def scrape(*tallies: Tally) -> dict[str, float]:
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(exposition(tallies).decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={text}" for name, text in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_a_streamed_answer_counts_while_it_runs_and_when_it_has_ended() -> None:
    tally = Tally()
    metrics = Metrics(tally)
    streamed = record(streamed=True, first_byte=10.2, bytes_up=7, bytes_down=90)
    metrics.began(streamed)
    assert scrape(tally)["swproxy_active_streams{kind=http}"] == 1
    metrics.ended(streamed)
    found = scrape(tally)
    assert found["swproxy_active_streams{kind=http}"] == 0
    assert found["swproxy_requests_total{app=a,outcome=complete}"] == 1
    assert found["swproxy_bytes_total{app=a,direction=up}"] == 7
    assert found["swproxy_bytes_total{app=a,direction=down}"] == 90
    assert found["swproxy_time_to_first_byte_seconds_count"] == 1
    assert found["swproxy_time_to_first_byte_seconds_bucket{le=0.1}"] == 0
    assert found["swproxy_time_to_first_byte_seconds_bucket{le=0.25}"] == 1
    assert round(found["swproxy_time_to_first_byte_seconds_sum"], 6) == 0.2
    assert found["swproxy_request_seconds_bucket{le=1.0}"] == 0
    assert found["swproxy_request_seconds_bucket{le=+Inf}"] == 1
    assert found["swproxy_request_seconds_sum"] == 2


def test_a_refusal_before_verification_has_no_application() -> None:
    tally = Tally()
    metrics = Metrics(tally)
    refusal = record(app="", outcome="refused", code="signature-mismatch", first_byte=10.1)
    metrics.ended(refusal)
    found = scrape(tally)
    assert found["swproxy_requests_total{app=,outcome=refused}"] == 1
    assert found["swproxy_refusals_total{code=signature-mismatch}"] == 1
    # Strangers do not move the figures of those who are served.
    assert found["swproxy_time_to_first_byte_seconds_count"] == 0
    assert found["swproxy_request_seconds_count"] == 0


def test_limits_and_the_store_behind_them() -> None:
    tally = Tally()
    metrics = Metrics(tally)
    refused = {"outcome": "refused", "code": "rate-limited", "limit": "user-requests"}
    metrics.ended(record(**refused))
    metrics.ended(record(outcome="refused", code="limits-unavailable"))
    watch = LedgerWatch(metrics)
    for seconds in (0.00005, 0.0003, 2.0):
        watch.decided(seconds)
    watch.failed()
    watch.told("ledger-down", "Nobody listens yet.")
    found = scrape(tally)
    assert found["swproxy_limited_total{app=a,reason=rate-limited}"] == 1
    assert "swproxy_limited_total{app=a,reason=limits-unavailable}" not in found
    assert found["swproxy_ledger_seconds_count"] == 3
    assert found["swproxy_ledger_seconds_bucket{le=0.0001}"] == 1
    assert found["swproxy_ledger_seconds_bucket{le=1.0}"] == 2
    assert found["swproxy_ledger_errors_total"] == 1


def test_workers_add_up_and_a_successor_opens_nothing() -> None:
    one, two = Tally(), Tally()
    first, second = Metrics(one), Metrics(two)
    for metrics in (first, second):
        metrics.began(record(streamed=True))
        metrics.sample(connections=4, idle=2, active=3)
        metrics.dropped(5)
        metrics.crashed(ValueError())
    first.ended(record())
    second.ended(record())
    assert scrape(one, two)["swproxy_active_streams{kind=http}"] == 2
    Metrics(two)
    found = scrape(one, two)
    assert found["swproxy_active_streams{kind=http}"] == 1
    assert found["swproxy_connections"] == 4
    assert found["swproxy_upstream_connections{state=idle}"] == 2
    assert found["swproxy_upstream_connections{state=active}"] == 3
    assert found["swproxy_requests_total{app=a,outcome=complete}"] == 2
    assert found["swproxy_log_lines_dropped_total"] == 10
    assert found["swproxy_faults_total"] == 2


def test_every_family_is_told_with_its_help() -> None:
    tally = Tally()
    Metrics(tally)
    told = exposition([tally]).decode()
    for name, family in FAMILIES.items():
        exposed = f"{name}_total" if name == "swproxy_uncounted_series" else name
        assert f"# HELP {exposed} {family.help}\n" in told
    assert 'swproxy_info{version="' in told


def test_a_name_with_quotes_and_lines_stays_one_label() -> None:
    tally = Tally()
    Metrics(tally).ended(record(app='a"b\\c'))
    assert scrape(tally)['swproxy_requests_total{app=a"b\\c,outcome=complete}'] == 1


def test_what_every_worker_tells_alike_is_not_added_up() -> None:
    one, two = Tally(), Tally()
    for tally, used in ((one, 5), (two, 7)):
        Metrics(tally).limit("a", "tokens", 10, used)
    found = scrape(one, two)
    assert found["swproxy_limit{app=a,limit=tokens}"] == 10
    assert found["swproxy_limit_used{app=a,limit=tokens}"] == 7


def test_a_process_says_what_it_takes_and_its_successor_counts_on() -> None:
    cpu = "swproxy_process_cpu_seconds_total{process=1}"
    tally = Tally()
    ProcessMetrics(tally, "1").sample()
    found = scrape(tally)
    assert 0 < found[cpu] <= time.process_time()
    # The kernel's own word, which moves a little from moment to moment.
    status = Path("/proc/self/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0]) * 1024
    memory = found["swproxy_process_resident_memory_bytes{process=1}"]
    assert abs(memory - resident) < resident / 4
    ProcessMetrics(tally, "1").sample()
    assert scrape(tally)[cpu] >= 2 * found[cpu]
