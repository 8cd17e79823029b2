"""The table of problems: every code that is raised is in it, and every code in it is raised."""

import ast
import json
import re

import pytest

from swproxy.policy.problems import PROBLEMS, problem_body
from tests.support import PACKAGE

STATUSES = {400, 403, 405, 408, 413, 414, 415, 417, 426, 429, 431, 500, 502, 503, 504}


def trees() -> list[ast.Module]:
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "problems.py"]
    return [ast.parse(path.read_text()) for path in files]


def raised() -> set[str]:
    """Return the codes that exceptions are made with, wherever they are written out."""
    return {
        node.args[0].value
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("Refusal", "UpstreamFailure", "problem_body")
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


def written() -> set[str]:
    return {
        node.value
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_code_that_is_raised_is_in_the_table() -> None:
    found = raised()
    assert len(found) > 20
    assert found - PROBLEMS.keys() == set()


def test_every_code_in_the_table_is_raised() -> None:
    assert PROBLEMS.keys() - written() == set()


@pytest.mark.parametrize("code", PROBLEMS)
def test_the_table_is_fit_to_be_printed(code: str) -> None:
    problem = PROBLEMS[code]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
    assert {problem.status, *problem.also} <= STATUSES
    assert not problem.title.endswith(".")
    assert problem.title[0].isupper()
    for sentence in (problem.meaning, problem.cause, problem.remedy):
        assert sentence[0].isupper() or sentence.startswith(("X-Sw-", "swproxy", "cors."))
        assert sentence.endswith(".")
        assert "|" not in sentence  # ends a cell of the documentation's table


def test_titles_tell_codes_apart() -> None:
    assert len({problem.title for problem in PROBLEMS.values()}) == len(PROBLEMS)


def test_a_body_is_a_problem_document() -> None:
    body = problem_body("expired", 'The URL "é" expired\n5 seconds ago.')
    assert json.loads(body) == {
        "status": 400,
        "title": "URL has expired",
        "detail": 'The URL "é" expired\n5 seconds ago.',
        "code": "expired",
    }
    assert "é".encode() in body


def test_a_problem_may_have_more_than_one_status() -> None:
    assert PROBLEMS["body-not-checkable"].also == (415,)
    assert json.loads(problem_body("body-not-checkable", "Why.", 415))["status"] == 415
    assert json.loads(problem_body("body-not-checkable", "Why."))["status"] == 400


def test_a_detail_that_is_no_text_does_no_harm() -> None:
    assert json.loads(problem_body("expired", "a\ud800b"))["detail"] == "a?b"


def test_an_unknown_code_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        problem_body("no-such-code", "")
