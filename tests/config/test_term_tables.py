"""Terms in the configuration: TOML's values, each fault in its place, plans, what is required."""

import pytest

from swproxy.config.config import App
from swproxy.sw1.terms import NO_TERMS, Bounds
from tests.config.test_assembly import assembled

HEAD = """
[apps.chat]
secrets = ["${SECRET}"]
allow = ["https://api.example/*"]
"""


def app(text: str) -> App:
    config, faults, _ = assembled(HEAD + text)
    assert not faults
    return config.apps["chat"]


def faults(text: str) -> list[str]:
    start = "etc/swproxy.toml: apps.chat."
    return [fault.removeprefix(start) for fault in assembled(HEAD + text)[1]]


def test_there_are_none_unless_configured() -> None:
    assert app("").terms == NO_TERMS
    assert not app("").plans
    assert app("").require == ()


def test_every_kind_of_value_is_read() -> None:
    found = app(
        """
        require = ["user", "body.m%6Fdel?", "tag.team"]
        [apps.chat.terms]
        seconds = 120
        bytes = "..20000"
        websocket = false
        origin = ["https://app.example"]
        client = "10.0.0.0/8"
        tag.team = "blue"
        body = "only"
        "body.model" = ["small", "a,b", true, 7]
        "body.max?" = "1..800"
        "body.stream_options.include_usage" = true
        """
    )
    terms = found.terms
    assert found.require == ("user", "body.model", "tag.team")
    assert (terms.seconds, terms.websocket, terms.tags) == (120, False, (("team", "blue"),))
    assert terms.length == Bounds(None, 20000)
    assert terms.body_only
    model, longest, usage = terms.body
    assert all(map(model.permits, ("small", "a,b", True, 7)))
    assert longest.optional
    assert longest.permits(800)
    assert usage.path == ("stream_options", "include_usage")


def test_dotted_keys_make_tables_that_mean_the_same() -> None:
    dotted = app("[apps.chat.terms]\nbody.a.b = 1\nbody.\"c.0\" = 2\ntag.t = 'x'")
    quoted = app('[apps.chat.terms]\n"body.a.b" = 1\n"body.c.0" = 2\n"tag.t" = "x"')
    assert dotted.terms == quoted.terms


def test_plans_have_terms_of_their_own() -> None:
    found = app("[apps.chat.plans.trial]\nseconds = 10\n[apps.chat.plans.big]\nseconds = 600")
    assert {name: plan.terms.seconds for name, plan in found.plans.items()} == {
        "trial": 10,
        "big": 600,
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("terms = 5", "terms: expects a table, got a whole number"),
        ("terms.secconds = 5", 'terms.secconds: is not a key: did you mean "seconds"?'),
        ("terms.seconds = 0", "terms.seconds: has to be a number of seconds, more than 0"),
        ("terms.uses = true", "terms.uses: cannot be true or false"),
        ("terms.uses = 1979-05-27", "terms.uses: cannot be a date or time"),
        ("terms.user = '42'", "terms.user: is for URLs to say, which `require` can make them"),
        ("terms.plan = 'a'", "terms.plan: is for URLs to say"),
        ("terms.body.a = []", "terms.body.a: has an empty list"),
        ('terms."body.a" = 1\nterms."body.%61" = 2', 'terms."body.%61": is given twice'),
        ("terms.body.a.b.c = '2..1'", "terms.body.a.b.c: has a range that ends before it begins"),
        ("terms.client.a = 1", "terms.client.a: is no term that there is"),
        ("plans = []", "plans: expects a table, got a list"),
        ("plans.x = 1", "plans.x: expects a table, got a whole number"),
        ('plans."a b".seconds = 1', 'plans."a b": is not a plan\'s name'),
        ("plans.x.seconds = -1", "plans.x.seconds: has to be a number of seconds"),
        ("plans.x.plan = 'y'", "plans.x.plan: is for URLs to say"),
        ("require = 'user'", "require: expects a list, got text"),
        ("require = [1]", "require[0]: expects text, got a whole number"),
        ("require = ['user', 'usr']", "require[1]: is no term that there is"),
    ],
)
def test_a_fault_is_told_in_its_place(text: str, fault: str) -> None:
    [found] = faults(text)
    assert found.startswith(fault)


def test_faults_are_told_all_at_once() -> None:
    found = faults("terms.seconds = 0\nterms.uses = 0\nplans.a.uses = 0\nrequire = ['x', 'y']")
    assert len(found) == 5


def test_no_fault_shows_what_was_given() -> None:
    for text in ("terms.client = 'canary'", "terms.body.a = 'canary,*'", "require = ['canary']"):
        assert "canary" not in " ".join(faults(text))


def test_what_is_configured_is_marked_so() -> None:
    [term] = app("[apps.chat.terms]\nbody.a = 'x'").terms.body
    assert term.configured
