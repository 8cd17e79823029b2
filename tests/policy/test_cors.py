"""CORS: who is told that it may read, and that nothing unchecked is echoed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy.policy.cors import CorsPolicy, parse_origin

Headers = tuple[tuple[bytes, bytes], ...]

EVERYONE = CorsPolicy(("*",), 7200)
LISTED = CorsPolicy(
    ("https://app.example.com", "http://localhost:8080", "https://*.preview.example.com"), 60
)

ALLOW = b"Access-Control-Allow-Origin"


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("*", "*"),
        ("https://app.example.com", "https://app.example.com"),
        ("HTTPS://App.Example.com", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://*.example.com", "https://*.example.com"),
        ("https://*.bücher.example:8443", "https://*.xn--bcher-kva.example:8443"),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
        ("capacitor://localhost", "capacitor://localhost"),
    ],
)
def test_origins_are_spelled_as_browsers_do(text: str, origin: str) -> None:
    assert parse_origin(text) == origin
    assert CorsPolicy((text,), 1).allow_origins == (origin,)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not an origin"),
        ("app.example.com", "not an origin"),
        ("https://app.example.com/", "no path"),
        ("https://app.example.com/page", "no path"),
        ("https://app.example.com?a", "no path"),
        ("https://user@app.example.com", "not an origin"),
        ("https://*", "not an origin"),
        ("https://a.*.example.com", "not an origin"),
        ("https://a*.example.com", "not an origin"),
        ("https://*.*.example.com", "not an origin"),
        ("https://*.127.0.0.1", "address"),
        ("https://app.example.com.", "dot"),
        ("https://app.example.com:0", "port"),
        ("https://app.example.com\r\nX: y", "control"),
        ("http\u017f://app.example.com", "not an origin"),
        ("app://a b", "no browser"),
        ("app://a\r\nX: y", "no browser"),
        ("null", "null"),
        ("NULL", "null"),
    ],
)
def test_a_bad_origin_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_origin(text)
    with pytest.raises(ValueError, match=reason):
        CorsPolicy(("https://fine.example", text), 1)


@pytest.mark.parametrize(
    "origin",
    [
        b"https://app.example.com",
        b"http://localhost:8080",
        b"https://a.preview.example.com",
        b"https://b.a.preview.example.com",
    ],
)
def test_a_listed_origin_is_echoed(origin: bytes) -> None:
    assert LISTED.permits(origin)
    headers = LISTED.response_headers(origin)
    assert (ALLOW, origin) in headers
    assert (b"Vary", b"Origin") in headers
    assert (b"Access-Control-Expose-Headers", b"*") in headers


@pytest.mark.parametrize(
    "origin",
    [
        b"",
        b"null",
        b"*",
        b"http://app.example.com",
        b"https://app.example.com:8443",
        b"https://app.example.com.evil.example",
        b"https://evil-app.example.com",
        b"https://APP.example.com",
        b"https://preview.example.com",
        b"https://evilpreview.example.com",
        b"https://.preview.example.com",
        b"https://a..preview.example.com",
        b"https://evil.example/.preview.example.com",
        b"https://evil.example#.preview.example.com",
        b"https://evil@a.preview.example.com",
        b"https://a.preview.example.com:8443",
        b"https://*.preview.example.com",
        b"https://a\r\nX-Y: z.preview.example.com",
        b"https://a\xff.preview.example.com",
    ],
)
def test_any_other_origin_is_not_told_that_it_may_read(origin: bytes) -> None:
    assert not LISTED.permits(origin)
    assert LISTED.response_headers(origin) == ((b"Vary", b"Origin"),)
    preflight = LISTED.preflight_headers(
        [(b"origin", origin), (b"access-control-request-method", b"POST")]
    )
    assert preflight == ((b"Vary", b"Origin"),)


@pytest.mark.parametrize("origin", [None, b"null", b"https://any.example", b"\xff junk"])
def test_everyone_gets_a_constant(origin: bytes | None) -> None:
    assert EVERYONE.response_headers(origin) == (
        (ALLOW, b"*"),
        (b"Access-Control-Expose-Headers", b"*"),
    )


def test_no_origin_no_grant_but_caches_are_told() -> None:
    assert LISTED.response_headers(None) == ((b"Vary", b"Origin"),)


def test_nobody_is_a_policy_too() -> None:
    assert not CorsPolicy((), 1).permits(b"https://app.example.com")


def preflight(policy: CorsPolicy, **asked: bytes) -> dict[bytes, bytes]:
    headers = [(b"origin", b"https://app.example.com"), (b"host", b"edge.example")]
    headers += [
        (b"access-control-request-" + name.replace("_", "-").encode(), value)
        for name, value in asked.items()
    ]
    answer = policy.preflight_headers(headers)
    return dict(answer)


@pytest.mark.parametrize("policy", [EVERYONE, LISTED])
def test_a_preflight_is_granted_what_it_asks_for(policy: CorsPolicy) -> None:
    answer = preflight(policy, method=b"PATCH", headers=b"authorization,content-type, x-y")
    assert answer[b"Access-Control-Allow-Methods"] == b"PATCH"
    assert answer[b"Access-Control-Allow-Headers"] == b"authorization, content-type, x-y"
    assert answer[b"Access-Control-Max-Age"] == str(policy.max_age_seconds).encode()
    assert b"Access-Control-Allow-Private-Network" not in answer
    assert b"Access-Control-Allow-Credentials" not in answer


def test_a_private_network_preflight_is_granted() -> None:
    answer = preflight(EVERYONE, method=b"GET", private_network=b"true")
    assert answer[b"Access-Control-Allow-Private-Network"] == b"true"
    assert b"Access-Control-Allow-Headers" not in answer


@pytest.mark.parametrize("method", [b"", b"GET POST", b"GET,POST", b"G\xc3T", b"GET\r\nX: y"])
def test_a_malformed_method_is_not_echoed(method: bytes) -> None:
    assert b"Access-Control-Allow-Methods" not in preflight(EVERYONE, method=method)


@pytest.mark.parametrize("names", [b"", b",", b"a,,b", b"a b", b"a:b", b"a\r\nX: y", b"\xc3\xa9"])
def test_malformed_names_are_not_echoed(names: bytes) -> None:
    answer = preflight(EVERYONE, method=b"GET", headers=names)
    assert b"Access-Control-Allow-Headers" not in answer


def test_an_options_request_that_asks_nothing_gets_what_an_answer_gets() -> None:
    origin = b"https://app.example.com"
    assert LISTED.preflight_headers([(b"origin", origin)]) == LISTED.response_headers(origin)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    b"origin",
                    b"access-control-request-method",
                    b"access-control-request-headers",
                    b"access-control-request-private-network",
                ]
            ),
            st.binary(max_size=12) | st.sampled_from([b"https://app.example.com", b"GET"]),
        )
    ),
    st.sampled_from([EVERYONE, LISTED]),
)
def test_no_answer_has_bytes_that_a_header_must_not(
    asked: list[tuple[bytes, bytes]], policy: CorsPolicy
) -> None:
    """Whatever is asked, every answered value is printable ASCII."""
    for _, value in policy.preflight_headers(asked):
        assert value
        assert all(0x20 <= byte < 0x7F for byte in value)
