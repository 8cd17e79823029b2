"""The reference documentation says what the code does, all of it, and nothing else."""

import ast
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from swproxy.cli.manual import EXIT_STATUS
from swproxy.config.config import Server
from swproxy.daemon.log import Log
from swproxy.daemon.metrics import Metrics
from swproxy.daemon.tally import Tally
from swproxy.policy.problems import PROBLEMS, problem_body
from swproxy.proxy.record import Outcome, Record
from tests.support import ROOT
from tests.support.pages import DOCS, PAGES, block
from tests.support.reference import (
    ENVIRONMENT,
    LOG_FIELDS,
    OUTCOMES,
    REFERENCE,
    TABLES,
    marked,
    rendered,
)
from tests.support.shell import shell

SOURCES = sorted((ROOT / "swproxy").rglob("*.py"))


def nodes() -> Iterator[ast.AST]:
    for path in SOURCES:
        yield from ast.walk(ast.parse(path.read_text()))


def record(outcome: Outcome) -> Record:
    return Record(
        request_id="0123456789abcdef",
        client="192.0.2.1",
        method="GET",
        started=1.0,
        app="app",
        user="42",
        plan="trial",
        limit="user-requests",
        tags=(("NAME", "text"),),
        origin="https://api.example.com",
        path="/",
        status=502,
        outcome=outcome,
        code="upstream-closed",
        detail="It closed.",
        metered=True,
        tokens_in=12,
        tokens_out=340,
        model="gpt-5",
        first_byte=1.5,
        streamed=True,
        ended=2.0,
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_code(page: Path) -> None:
    text = page.read_text()
    assert text == rendered(text), "run: .venv/bin/python -m tests.support.reference --write"


def test_every_table_stands_somewhere_once() -> None:
    places = [name for page in PAGES for name in marked(page.read_text())]
    assert sorted(places) == sorted(TABLES)


def test_configuration_has_a_page_of_its_own() -> None:
    assert marked((DOCS / "configuration.md").read_text()) == ["config"]


def test_every_log_field_is_explained() -> None:
    reading, writing = os.pipe()
    log = Log(Server(log_format="json"), descriptor=writing)
    log.ended(record("upstream-failed"))
    log.close()
    os.close(writing)
    with os.fdopen(reading, "rb") as lines:
        [line] = lines
    assert list(json.loads(line[line.index(b"{") :])) == list(LOG_FIELDS)


def test_every_outcome_is_explained() -> None:
    assert get_args(Outcome) == tuple(OUTCOMES)


def events() -> set[str]:
    """The names of all events that the daemon logs."""
    found = {"request"}
    for node in nodes():
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("event", "_event_line")
            and len(node.args) > 1
            and isinstance(node.args[1], ast.Constant)
        ):
            found.add(str(node.args[1].value))
        if (
            isinstance(node, ast.Call)
            and getattr(node.func, "attr", getattr(node.func, "id", ""))
            in ("tell", "_tell", "told")
            and isinstance(node.args[0], ast.Constant)
        ):
            found.add(str(node.args[0].value))
    return found


def test_every_event_of_the_log_is_explained() -> None:
    text = REFERENCE.read_text()
    section = text[text.index("### Events") :]
    section = section[: section.index("\n## ")]
    assert set(re.findall(r"^- `([a-z-]+)`", section, re.MULTILINE)) == events() - {"request"}


THEIRS = ("PYTHONPATH", "_SWPROXY_COMPLETE", "COMP_WORDS", "COMP_CWORD")
"""What is between Python, or the shells' completions, and the command: nobody sets it by hand."""


def test_every_environment_variable_is_explained() -> None:
    read = set(THEIRS)
    for path in SOURCES:
        text = path.read_text()
        read |= set(re.findall(r'environ(?:\.get\(|\.pop\(|\[)"(\w+)"', text))
        read |= set(re.findall(r'envvar="(\w+)"', text))
    assert read == {*ENVIRONMENT, *THEIRS}


def test_exit_codes_are_those_that_the_command_line_states() -> None:
    text = (ROOT / "swproxy" / "cli" / "main.py").read_text()
    stated = re.search(r"Exit codes: (.*?)\. ", " ".join(text.split()))
    assert stated is not None
    assert [int(number) for number in re.findall(r"\d", stated[1])] == list(EXIT_STATUS)


def test_metrics_of_a_request_are_all_explained() -> None:
    tally = Tally()
    metrics = Metrics(tally)
    for outcome in get_args(Outcome):
        metrics.began(record(outcome))
        metrics.ended(record(outcome))
    text = TABLES["metrics"]()
    assert {key[0] for key, _ in tally.read()} <= set(re.findall(r"swproxy_\w+", text))


def test_codes_named_in_the_pages_exist() -> None:
    shape = re.compile(r"`((?:signature|signed|destination|parameter|date|body)-[a-z-]+)`")
    for page in PAGES:
        assert set(shape.findall(page.read_text())) <= set(PROBLEMS)


def test_the_problem_shown_is_one() -> None:
    problem = json.loads(block("problem"))
    assert problem == json.loads(problem_body(problem["code"], problem["detail"]))


def test_explain_says_what_is_wrong_with_a_url(tmp_path: Path) -> None:
    done = shell(tmp_path, block("refused"))
    assert done.returncode == 1
    assert "Refused: parameter-missing" in done.stdout


def test_the_journal_is_searched_for_an_outcome_and_a_field_there_are() -> None:
    [(field, outcome)] = re.findall(r" -g (\w+)=([\w-]+)$", block("journal"), re.MULTILINE)
    assert outcome in OUTCOMES
    assert field in LOG_FIELDS
