"""From tables to a configuration: every fault at once, each in its place, none with a value."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy.config.assembly import SECTIONS, Assembly, check_table
from swproxy.config.config import AppTable, Config
from swproxy.config.references import BadReferenceError, Reference

PATH = Path("etc/swproxy.toml")
VALUES = {"KEY": "canary-key", "SECRET": "canary-secret-0123456789"}
KEYS = ["apps", *SECTIONS, *AppTable.model_fields]
KEYS += [key for model in SECTIONS.values() for key in model.model_fields]
GOOD = {"secrets": ["${SECRET}"], "allow": ["https://api.example/*"]}


def resolve(reference: Reference) -> str:
    if reference.name in VALUES:
        return VALUES[reference.name]
    raise BadReferenceError(f"{reference} is missing")


def assembled(
    text: str, files: dict[str, Any] | None = None, *, to_sign: bool = False
) -> tuple[Config, list[str], list[str]]:
    root = tomllib.loads(text)
    assembly = Assembly(PATH, resolve, to_sign=to_sign)
    tables = [(Path(f"apps/{app_id}.toml"), table) for app_id, table in (files or {}).items()]
    config = assembly.config(root, list(assembly.sources(root, tables)))
    return config, [str(each) for each in assembly.faults], [str(e) for e in assembly.warnings]


def faults(text: str, files: dict[str, Any] | None = None) -> list[str]:
    return [each.removeprefix("etc/swproxy.toml: ") for each in assembled(text, files)[1]]


def test_an_empty_file_is_a_configuration() -> None:
    config, found, _ = assembled("")
    assert not found
    assert config == Config()


def test_references_are_replaced() -> None:
    config, found, warnings = assembled(
        """
        [server]
        public_url = "https://${KEY}.example"
        [apps.one]
        secrets = ["${SECRET}"]
        allow = ["https://api.example/*"]
        headers = { Authorization = "Bearer ${KEY}", X-Plain = "$${KEY}" }
        """,
        {"two": GOOD},
    )
    assert not found
    assert not warnings
    assert config.server.public_url == "https://canary-key.example"
    assert config.apps["one"].secrets == (VALUES["SECRET"],)
    assert config.apps["one"].headers == (
        (b"Authorization", b"Bearer canary-key"),
        (b"X-Plain", b"${KEY}"),
    )
    assert list(config.apps) == ["one", "two"]


def test_every_fault_is_told_at_once() -> None:
    found = faults(
        """
        secrets = []
        [sever]
        [server]
        lisen = ["x"]
        listen = ["127.0.0.1", 3]
        connections = 3
        tls_key = "${NOPE}"
        [limits]
        head_bytes = true
        [apps]
        c = 3
        [apps.".d"]
        [apps.a]
        secrets = ["${NOPE}", "", "x"]
        allow = ["api.example"]
        headers = { Host = "x", "X Y" = "z" }
        cors = { max_age = 3, allow_origin = [] }
        [apps.b]
        """
    )
    assert found == [
        "apps.c: expects a table, got a whole number",
        'apps.".d": is an application id with a slash, or with . or - at its beginning',
        "secrets: is not a key here: it belongs in an application",
        'sever: is not a key: did you mean "server"?',
        "server.tls_key: ${NOPE} is missing",
        "server.listen[0]: has no port: write host:port, [v6]:port or unix:/path",
        "server.listen[1]: expects text, got a whole number",
        'server.lisen: is not a key: did you mean "listen"?',
        "server.connections: is not a key here: it belongs in [limits]",
        "limits.head_bytes: expects a whole number, got true or false",
        "apps.a.secrets[0]: ${NOPE} is missing",
        "apps.a.secrets[1]: is empty: anybody could sign",
        "apps.a.allow[0]: begins with no scheme such as https://",
        "apps.a.headers.Host: is set by swproxy itself, from the connection and the signed URL",
        'apps.a.headers."X Y": is not a header name: letters, digits and hyphens only',
        'apps.a.cors.max_age: is not a key: did you mean "max_age_seconds"?',
        'apps.a.cors.allow_origin: is not a key: did you mean "allow_origins"?',
        "apps.b.secrets: is required",
        "apps.b.allow: is required",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("server = 3", "server: expects a table, got a whole number"),
        ("apps = []", "apps: expects a table, got a list"),
        ("apps.a.cors = 3\napps.a.allow = ['*']\napps.a.secrets = ['s']", "apps.a.cors: expects"),
        ("listen = []", "listen: is not a key here: it belongs in [server]"),
        ("[server.limits]", "server.limits: is not a key here: it belongs in the main"),
    ],
)
def test_things_in_the_wrong_place(text: str, fault: str) -> None:
    assert len(faults(text)) == 1
    assert faults(text)[0].startswith(fault)


def test_an_application_is_there_once() -> None:
    text = "[apps.a]\nsecrets = ['${SECRET}']\nallow = ['*']"
    _, found, _ = assembled(text, {"a": GOOD})
    assert found == ["apps/a.toml: application a is in swproxy.toml already"]


def test_faults_of_an_applications_file_name_the_file() -> None:
    _, found, _ = assembled("", {"a": {"secrets": ["${NOPE}"]}, ".b": GOOD})
    assert found == [
        "apps/.b.toml: is an application id with a slash, or with . or - at its beginning",
        "apps/a.toml: secrets[0]: ${NOPE} is missing",
        "apps/a.toml: allow: is required",
    ]


def test_a_short_secret_is_a_warning() -> None:
    config, found, warnings = assembled("", {"a": GOOD | {"secrets": ["${SECRET}", "short"]}})
    assert not found
    assert config.apps["a"].secrets[1] == "short"
    (warning,) = warnings
    assert warning.startswith("apps/a.toml: secrets[1]: is short enough to be guessed")


def test_no_value_is_in_any_fault() -> None:
    leaky = {
        "secrets": ["canary-1", 2, "canary-3"],
        "allow": ["canary-4 ${KEY}", "canary-5://x"],
        "headers": {"A": "canary-6\n", "B": "${KEY} ", "Host": "canary-7", "C": "${canary-8"},
        "cors": {"allow_origins": ["canary-9 ${KEY}"], "max_age_seconds": "canary-10"},
    }
    _, found, _ = assembled(
        """
        [server]
        listen = ["canary-11", "${KEY}"]
        workers = "canary-12"
        public_url = "canary-13"
        log_format = "${KEY}"
        trusted_proxies = ["canary-14"]
        [limits]
        connections = "${KEY}"
        """,
        {"a": leaky},
    )
    assert len(found) == 16
    assert not [each for each in found if "canary" in each]


VALUES_OF_ANY_KIND = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text() | st.just("${KEY}") | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(min_size=1) | st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES_OF_ANY_KIND), VALUES_OF_ANY_KIND)
def test_whatever_is_written_is_a_configuration_or_has_faults(root: Any, app: Any) -> None:
    assembly = Assembly(PATH, resolve)
    table = app if isinstance(app, dict) else {"secrets": app}
    config = assembly.config(root, list(assembly.sources(root, [(Path("apps/a.toml"), table)])))
    if not assembly.faults:
        assert all(app.secrets and app.allow for app in config.apps.values())
    assert not [each for each in assembly.faults if "canary" in str(each)]


def test_signing_needs_no_headers_and_no_certificates() -> None:
    text = "[server]\ntls_key = '${NOPE}'\n[upstream]\nca_file = '${NOPE}'"
    config, found, _ = assembled(text, {"a": GOOD | {"headers": {"A": "${NOPE}"}}}, to_sign=True)
    assert not found
    assert config.apps["a"].headers == ()
    assert config.apps["a"].secrets == (VALUES["SECRET"],)


def test_paths_are_relative_to_the_configuration() -> None:
    config, _, _ = assembled("upstream.ca_file = 'ca.pem'")
    assert config.upstream.ca_file == Path("etc/ca.pem")


def test_a_table_can_be_checked_without_its_references() -> None:
    file = Path("apps/a.toml")
    assert check_table(file, GOOD | {"headers": {"A": "Bearer ${NOPE}"}}) == []
    (fault,) = check_table(file, GOOD | {"allow": ["*x"]})
    assert str(fault).startswith("apps/a.toml: allow[0]: ")


@pytest.mark.parametrize("value", ["$KEY", "Bearer $OPENAI_API_KEY", "Bearer $(cat key)"])
def test_a_shell_s_variable_is_no_key(value: str) -> None:
    _, found, _ = assembled("", {"a": GOOD | {"secrets": [value], "headers": {"X-Key": value}}})
    assert [each.partition(": has a $")[0] for each in found] == [
        "apps/a.toml: secrets[0]",
        "apps/a.toml: headers.X-Key",
    ]
    assert value not in "".join(found)


@pytest.mark.parametrize("value", ["a$", "$5", "pa$$word and more", "$$${SECRET}"])
def test_a_dollar_may_be_part_of_a_key(value: str) -> None:
    _, found, _ = assembled("", {"a": GOOD | {"headers": {"X-Key": value}}})
    assert found == []
