"""sign_url: the published Python client's results, and complaints that name the argument."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given

from swproxy import sign_url
from tests.support.sw1_cases import DATE, REQUESTS, VECTORS, Request, Vector, target_of

PYTHON_VECTORS = [vector for vector in VECTORS if "Python" in vector.sdk]


@pytest.mark.parametrize("vector", PYTHON_VECTORS, ids=str)
def test_signs_as_the_published_python_client(vector: Vector) -> None:
    url = sign_url(
        vector.id,
        vector.secret,
        vector.host,
        vector.proxy_url,
        vector.expiry,
        vector.method,
        dict(vector.headers),
        vector.body,
        vector.date,
    )
    assert url == vector.url


def test_known_answer() -> None:
    url = sign_url(
        id="foo",
        secret="secret",
        host="http://localhost:3000",
        proxy_url="https://github.com/",
        expiry=600,
        method="POST",
        datetime_override=datetime.fromtimestamp(0, UTC),
    )
    assert url == (
        "http://localhost:3000/?X-Sw-Algorithm=SW1-HMAC-SHA256&X-Sw-Credential=foo%2F19700101"
        "&X-Sw-Date=19700101T000000Z&X-Sw-Expires=600&X-Sw-Proxy=https%3A%2F%2Fgithub.com%2F"
        "&X-Sw-SignedHeaders=&X-Sw-Body=false"
        "&X-Sw-Signature=ed15db76d806155fd5119e093a0f030063c90d943dfdd27e011a9044a77a90a6"
    )


@given(REQUESTS.filter(lambda request: not isinstance(request.body, bytes)))
def test_never_differs_from_the_published_client(request: Request) -> None:
    assert request.sign() == request.sign_with_sdk()


def test_text_is_counted_in_characters_and_bytes_in_bytes() -> None:
    text = Request(method="POST", body="café").sign()
    raw = Request(method="POST", body="café".encode()).sign()
    assert text != raw
    for body, url in (("café", text), ("café".encode(), raw)):
        assert Request(method="POST", body=body).accepted(target_of(url)) is not None


def test_leaves_the_callers_headers_alone() -> None:
    headers = {"X-Foo": " foo "}
    Request(headers=headers, body="x").sign()
    assert headers == {"X-Foo": " foo "}


def test_a_given_content_length_is_replaced_by_the_bodys() -> None:
    with_it = Request(headers={"Content-Length": "99"}, body="abc").sign()
    assert with_it == Request(body="abc").sign()


def test_dates_are_utc_whatever_zone_they_are_given_in() -> None:
    naive = DATE.replace(tzinfo=None)
    elsewhere = DATE.astimezone(timezone(timedelta(hours=5, minutes=30)))
    fraction = DATE.replace(microsecond=999_999)
    assert {Request(date=date).sign() for date in (DATE, naive, elsewhere, fraction)} == {
        Request().sign()
    }


def test_signs_now_by_default() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    url = sign_url("my-id", "my-secret", "http://h", "https://api.openai.com/", 60, "GET")
    date = datetime.strptime(url.split("X-Sw-Date=")[1][:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert before <= date <= datetime.now(UTC)


LONE_SURROGATE = "\ud800"


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("id", ""),
        ("id", "a/b"),
        ("id", "a\nb"),
        ("id", None),
        ("id", LONE_SURROGATE),
        ("secret", ""),
        ("secret", b"bytes"),
        ("secret", LONE_SURROGATE),
        ("host", ""),
        ("host", "edge.example"),
        ("host", "/sw"),
        ("host", "ftp://edge.example"),
        ("host", "https://"),
        ("host", "https://edge.example/?a=b"),
        ("host", "https://edge.example/#top"),
        ("host", "https://edge.example/\r\n"),
        ("host", "https://[::1/"),
        ("proxy_url", ""),
        ("proxy_url", "api.openai.com/v1"),
        ("proxy_url", "ftp://api.openai.com/"),
        ("proxy_url", "javascript:alert(1)"),
        ("proxy_url", "https:///v1"),
        ("proxy_url", " https://api.openai.com/"),
        ("proxy_url", "https://api.openai.com:99999/"),
        ("proxy_url", "https://[::1/"),
        ("proxy_url", "https://api.openai.com/\n"),
        ("proxy_url", "https://api.openai.com/" + LONE_SURROGATE),
        ("expiry", 0),
        ("expiry", -1),
        ("expiry", 10**10),
        ("expiry", 60.0),
        ("expiry", "60"),
        ("expiry", True),
        ("method", ""),
        ("method", "GET "),
        ("method", "GE\nT"),
        ("method", "GÉT"),
        ("method", b"GET"),
        ("headers", {"": "x"}),
        ("headers", {"X Foo": "x"}),
        ("headers", {"X-Foo:": "x"}),
        ("headers", {b"X-Foo": "x"}),
        ("headers", {"X-Foo": "a\r\nX-Bar: b"}),
        ("headers", {"X-Foo": "a\0"}),
        ("headers", {"X-Foo": 1}),
        ("headers", {"X-Foo": LONE_SURROGATE}),
        ("headers", {"X-Foo": "\u00a0a"}),
        ("headers", {"X-Foo": "a", "x-foo": "b"}),
        ("body", 1),
        ("body", LONE_SURROGATE),
        ("datetime_override", "2026-11-22"),
        ("datetime_override", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
    ],
)
def test_complains_of_a_bad_argument_by_its_name(argument: str, value: Any) -> None:
    arguments: dict[str, Any] = {
        "id": "my-id",
        "secret": "my-secret",
        "host": "https://edge.example",
        "proxy_url": "https://api.openai.com/",
        "expiry": 60,
        "method": "GET",
    }
    sign_url(**arguments)
    with pytest.raises(ValueError, match=f"^{argument}: ") as caught:
        sign_url(**{**arguments, argument: value})
    assert "my-secret" not in str(caught.value)


def test_a_content_length_in_another_case_beside_a_body_is_given_twice() -> None:
    with pytest.raises(ValueError, match=r"^headers: "):
        Request(headers={"content-length": "3"}, body="abc").sign()


@given(REQUESTS)
def test_whatever_is_signed_verifies(request: Request) -> None:
    target = target_of(request.sign()).decode()
    path, _, query = target.partition("?")
    if not path.isascii() or " " in path:
        return  # no HTTP client sends it like this; test_sw1_verify sends it through real ones
    claims = request.accepted(f"{path}?{query}".encode())
    assert claims is not None
    assert claims.app_id == request.id


def test_importing_it_loads_little() -> None:
    code = "import swproxy, sys; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.split())
    heavy = {"asyncio", "dataclasses", "email", "http", "inspect", "json", "logging", "socket"}
    assert not loaded & (heavy | {"ssl", "string", "trio", "typing_extensions", "pydantic"})
    ours = {name for name in loaded if name.startswith("swproxy")}
    assert ours == {"swproxy", "swproxy.sw1", "swproxy.sw1.canonical", "swproxy.sw1.sign"}
