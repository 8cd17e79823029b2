"""An application's table: made, rotated, retired, rendered and shown without its secrets."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy.config import applications
from swproxy.config.assembly import AppSource, check_table
from swproxy.config.fields import check_app_id

TABLE = {
    "secrets": ["canary-old", "${NEW_SECRET}"],
    "allow": ["https://api.example/*", "https://b.example/"],
    "headers": {"Authorization": "Bearer ${KEY}", "X-Id": "canary", "X-Both": "a-${K2}-b${KEY}"},
    "headers_from_page": ["accept", "x-mine-*"],
    "cors": {"allow_origins": ["https://app.example"]},
}


def test_ids_and_secrets_are_fresh_and_fit_to_be_used() -> None:
    ids = {applications.fresh_id() for _ in range(50)}
    secrets = {applications.fresh_secret() for _ in range(50)}
    assert len(ids) > 45
    assert len(secrets) == 50
    for app_id in ids:
        check_app_id(app_id)
        assert re.fullmatch("app-[a-z0-9]{5}", app_id)
    assert {len(secret) for secret in secrets} == {43}


def test_a_new_table_is_valid() -> None:
    table = applications.new_table("s" * 32, ["https://api.example/*"], [("A", "${B}")])
    assert check_table(Path("a.toml"), table) == []
    assert "headers" not in applications.new_table("s", ["*"], [])


def test_rotation() -> None:
    one = {"secrets": ["old"], "allow": ["*"]}
    two = applications.rotated(one, "new")
    assert two == {"secrets": ["old", "new"], "allow": ["*"]}
    assert one["secrets"] == ["old"]
    with pytest.raises(ValueError, match="`retire`"):
        applications.rotated(two, "newest")
    assert applications.retired(two) == {"secrets": ["new"], "allow": ["*"]}
    with pytest.raises(ValueError, match="`rotate`"):
        applications.retired(one)


@pytest.mark.parametrize("table", [{}, {"secrets": []}, {"secrets": "text"}])
def test_rotation_of_a_broken_table(table: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no list of secrets"):
        applications.rotated(table, "new")
    with pytest.raises(ValueError, match="no list of secrets"):
        applications.retired(table)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("canary", "***"),
        ("${KEY}", "${KEY}"),
        ("Bearer ${KEY}", "Bearer ${KEY}"),
        ("Bearer canary", "***"),
        ("canary${KEY}canary", "***${KEY}***"),
        ("${file:key.txt}", "${file:key.txt}"),
        ("${canary-no-reference}", "***"),
        ("$${canary", "******"),
    ],
)
def test_masked(text: str, shown: str) -> None:
    assert applications.masked(text) == shown


def test_what_is_shown_holds_no_secret() -> None:
    source = AppSource("my-app", Path("apps/my-app.toml"), (), TABLE)
    assert applications.shown(source) == [
        ("id", "my-app"),
        ("file", "apps/my-app.toml"),
        ("secret", "***"),
        ("secret", "${NEW_SECRET}"),
        ("allow", "https://api.example/*"),
        ("allow", "https://b.example/"),
        ("header", "Authorization: Bearer ${KEY}"),
        ("header", "X-Id: ***"),
        ("header", "X-Both: ***${K2}***${KEY}"),
        ("from page", "accept"),
        ("from page", "x-mine-*"),
        ("origin", "https://app.example"),
    ]
    assert applications.row(source) == (
        "my-app",
        "2",
        "https://api.example/* https://b.example/",
        "apps/my-app.toml",
    )


def test_terms_are_shown_with_what_they_say() -> None:
    table = {
        "require": ["user"],
        "terms": {"seconds": 60, "body": {"model": ["a", "é"]}, "body.n?": "1..8"},
        "plans": {"trial": {"requests": "5/minute", "websocket": False}, "odd": 3},
    }
    assert applications.shown(AppSource("a", Path("a"), (), table))[2:] == [
        ("requires", "user"),
        ("term", "seconds = 60"),
        ("term", 'body.model = ["a", "é"]'),
        ("term", 'body.n? = "1..8"'),
        ("plan trial", 'requests = "5/minute"'),
        ("plan trial", "websocket = false"),
    ]


def test_a_broken_table_is_shown_as_far_as_it_goes() -> None:
    source = AppSource("a", Path("a"), (), {"secrets": 3, "headers": [], "cors": "x"})
    assert applications.shown(source) == [("id", "a"), ("file", "a")]
    assert applications.row(source) == ("a", "0", "", "a")


def test_variables_are_named_once() -> None:
    assert applications.variables(TABLE) == ["KEY", "K2"]
    assert applications.variables({"secrets": ["${X}"]}) == []


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8"))
    ),
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1),
)
def test_what_is_rendered_reads_back(headers: dict[str, str], app_id: str) -> None:
    table = {"secrets": ["a", "b"], "allow": ["*"], "headers": headers}
    assert tomllib.loads(applications.render(app_id, table)) == table
