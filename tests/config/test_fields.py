"""Kinds of configured text: what each takes, and the half sentence that refuses the rest."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from swproxy.config.fields import (
    FromPage,
    HeaderName,
    HeaderValue,
    LogFormat,
    Meter,
    ModelName,
    Networks,
    OnLeave,
    PublicUrl,
    Secrets,
    WeightValue,
    Workers,
    check_app_id,
)
from swproxy.policy.weights import Weight


def refusal(kind: Any, value: object) -> str:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    return "; ".join(str(each.get("ctx", {}).get("error")) for each in caught.value.errors())


@pytest.mark.parametrize(
    "url", ["", "https://edge.example.com", "http://127.0.0.1:3000/", "https://[::1]/sw"]
)
def test_public_url(url: str) -> None:
    assert TypeAdapter(PublicUrl).validate_python(url) == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("edge.example.com", "expects a URL"),
        ("ftp://edge.example.com", "expects a URL"),
        ("https://", "expects a URL"),
        ("https://a b/", "expects a URL"),
        ("https://a\n/", "expects a URL"),
        ("https://a:99999/", "expects a URL"),
        ("https://[::1/", "expects a URL"),
        ("https://me@a/", "no user name"),
        ("https://a/?", "no user name, query"),
        ("https://a/#x", "no user name, query"),
        (3, "expects text, got a whole number"),
    ],
)
def test_public_url_refused(url: object, reason: str) -> None:
    assert reason in refusal(PublicUrl, url)


@pytest.mark.parametrize("value", [1, 64, "auto"])
def test_workers(value: object) -> None:
    assert TypeAdapter(Workers).validate_python(value) == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (0, "at least 1"),
        (-1, "at least 1"),
        (True, "got true or false"),
        (1.0, "got a number"),
        ("two", "got another word"),
    ],
)
def test_workers_refused(value: object, reason: str) -> None:
    assert reason in refusal(Workers, value)


def test_log_format() -> None:
    for known in ("auto", "json", "logfmt", "console"):
        assert TypeAdapter(LogFormat).validate_python(known) == known
    assert "got another word" in refusal(LogFormat, "xml")
    assert "got a list" in refusal(LogFormat, [])


def test_networks_have_no_host_bits() -> None:
    (network,) = TypeAdapter(Networks).validate_python(["fd00::/8"])
    assert str(network) == "fd00::/8"
    assert "without host bits" in refusal(Networks, ["10.0.0.1/8"])
    assert "expects text" in refusal(Networks, [10])


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "X_Key", "api~key"])
def test_header_name(name: str) -> None:
    assert TypeAdapter(HeaderName).validate_python(name) == name


@pytest.mark.parametrize("name", ["", "a b", "a:", "ä", "a\n", "(a)"])
def test_header_name_is_a_token(name: str) -> None:
    assert "not a header name" in refusal(HeaderName, name)


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "content-length",
        "CONTENT_LENGTH",
        "Transfer-Encoding",
        "Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "Proxy-Authorization",
        "Sec-WebSocket-Key",
    ],
)
def test_header_that_swproxy_makes(name: str) -> None:
    assert "set by swproxy itself" in refusal(HeaderName, name)


@pytest.mark.parametrize("value", ["x", "Bearer a b", "a\tb", "sécret€"])
def test_header_value(value: str) -> None:
    assert TypeAdapter(HeaderValue).validate_python(value) == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("s3cret\r\nX: y", "control character"),
        ("s3cret\n", "control character"),
        ("s3cret\0", "control character"),
        ("s3cret\x7f", "control character"),
        ("", "empty"),
        ("s3cret ", "ends with a space"),
        ("Bearer ", "none follows"),
        ("basic", "none follows"),
        ("\ts3cret", "begins or ends"),
    ],
)
def test_header_value_refused(value: str, reason: str) -> None:
    said = refusal(HeaderValue, value)
    assert reason in said
    assert "s3cret" not in said


def test_secrets() -> None:
    assert TypeAdapter(Secrets).validate_python(["a", "sécret€"]) == ("a", "sécret€")
    assert "anybody could sign" in refusal(Secrets, ["a", ""])


@pytest.mark.parametrize("app_id", ["my-app", "app_1-a.b~c", "Ünïcode", "a b", "a@b:c", "x" * 128])
def test_app_id(app_id: str) -> None:
    check_app_id(app_id)


@pytest.mark.parametrize(
    "app_id",
    ["", ".a", "..", "-a", "a/b", "a\\b", " a", "a ", "a\nb", "a\0", "\u202e", "x" * 129, "é" * 65],
)
def test_app_id_refused(app_id: str) -> None:
    with pytest.raises(ValueError, match="application id"):
        check_app_id(app_id)


def test_headers_from_page() -> None:
    found = TypeAdapter(FromPage).validate_python(["X-Mine", "x-ours-*", "*", "Cookie"])
    assert found == ("x-mine", "x-ours-*", "*", "cookie")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("x y", "is not a header name"),
        ("*-id", "is not a header name"),
        ("", "is not a header name"),
        ("sec-*", "named one by one"),
        ("Host", "is set by swproxy itself"),
        ("Content_Length", "is set by swproxy itself"),
        ("proxy-*", "is set by swproxy itself"),
        (3, "expects text, got a whole number"),
    ],
)
def test_headers_from_page_refused(pattern: object, reason: str) -> None:
    assert reason in refusal(FromPage, [pattern])


@pytest.mark.parametrize(
    ("value", "weight"),
    [
        (2, Weight(2.0, 2.0)),
        (0, Weight(0.0, 0.0)),
        (0.25, Weight(0.25, 0.25)),
        ({"input": 1, "output": 8}, Weight(1.0, 8.0)),
        ({"cached": 0.1}, Weight(1.0, 1.0, 0.1)),
    ],
)
def test_weights(value: object, weight: Weight) -> None:
    assert TypeAdapter(WeightValue).validate_python(value) == weight


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("2", "expects numbers, got text"),
        (True, "expects numbers, got true or false"),
        (-1, "expects numbers from 0 to"),
        (1e9, "expects numbers from 0 to"),
        (float("nan"), "expects numbers from 0 to"),
        ({}, "expects a number, or a table with input, output and cached"),
        ({"inputs": 1}, "expects a number, or a table with input, output and cached"),
        ({"input": "1"}, "expects numbers, got text"),
    ],
)
def test_weights_refused(value: object, reason: str) -> None:
    assert reason in refusal(WeightValue, value)


@pytest.mark.parametrize("name", ["gpt-5", "gpt-5*", "*", "openai/gpt-5:free"])
def test_model_names(name: str) -> None:
    assert TypeAdapter(ModelName).validate_python(name) == name


@pytest.mark.parametrize("name", ["", "two words", "*-mini", "ü", "x" * 129])
def test_model_names_refused(name: str) -> None:
    assert "is not the name of a model" in refusal(ModelName, name)


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (Meter, "money", 'expects "" or "tokens", got another word'),
        (OnLeave, "stay", 'expects "cancel" or "drain", got another word'),
        (OnLeave, 1, 'expects "cancel" or "drain", got a whole number'),
    ],
)
def test_words_refused(kind: Any, value: object, reason: str) -> None:
    assert refusal(kind, value) == reason
