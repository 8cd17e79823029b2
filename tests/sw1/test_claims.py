"""What a URL says: each parameter read strictly, each fault with a code of its own."""

from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy.sw1 import claims as reading
from swproxy.sw1.claims import Claims, check_time, parse_target
from swproxy.sw1.refusal import Refusal
from tests.support.sw1_cases import NOW, REQUESTS, Request, target_of

TARGET = target_of(Request(headers={"X-Foo": "a", "Accept": "b"}, body="x").sign())


def with_value(name: str, value: str) -> bytes:
    """Return a signed target with one parameter's value replaced."""
    path, _, query = TARGET.decode().partition("?")
    pairs = dict(pair.split("=", 1) for pair in query.split("&"))
    assert name in pairs
    pairs[name] = quote(value, safe="")
    return f"{path}?{'&'.join(f'{key}={text}' for key, text in pairs.items())}".encode()


def refusal_of(target: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        parse_target(target)
    return caught.value


def test_claims_are_what_was_signed() -> None:
    claims = parse_target(TARGET)
    assert claims.app_id == "my-id"
    assert claims.date == "20261122T120000Z"
    assert claims.signed_at == NOW
    assert claims.expires == 600
    assert claims.proxy_url == "https://api.openai.com/v1/models"
    assert claims.signed_headers == ("accept", "content-length", "x-foo")
    assert claims.body_signed is True
    assert claims.path == b"/"


def test_the_signature_is_not_in_the_repr() -> None:
    claims = parse_target(TARGET)
    assert claims.signature not in repr(claims)


@given(REQUESTS)
def test_what_is_claimed_is_what_was_signed(request: Request) -> None:
    target = target_of(request.sign()).partition(b"?")
    claims = parse_target(b"/?" + target[2])
    assert claims.app_id == request.id
    assert claims.expires == request.expiry
    assert claims.signed_at == request.now
    assert claims.body_signed is (request.body is not None)
    names = {name.decode() for name, _ in request.sent_headers}
    assert claims.signed_headers == tuple(sorted(names))


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("X-Sw-Algorithm", "", "algorithm-unsupported"),
        ("X-Sw-Algorithm", "SW1-HMAC-SHA1", "algorithm-unsupported"),
        ("X-Sw-Algorithm", "sw1-hmac-sha256", "algorithm-unsupported"),
        ("X-Sw-Credential", "", "credential-invalid"),
        ("X-Sw-Credential", "my-id", "credential-invalid"),
        ("X-Sw-Credential", "/20261122", "credential-invalid"),
        ("X-Sw-Credential", "a/b/20261122", "credential-invalid"),
        ("X-Sw-Credential", "my-id/", "credential-invalid"),
        ("X-Sw-Credential", "my-id/2026112", "credential-invalid"),
        ("X-Sw-Credential", "my-id/２０２６1122", "credential-invalid"),  # noqa: RUF001
        ("X-Sw-Credential", "my-id/20261121", "credential-scope-mismatch"),
        ("X-Sw-Credential", "my-id/20261123", "credential-scope-mismatch"),
        ("X-Sw-Date", "", "date-invalid"),
        ("X-Sw-Date", "2026-11-22T12:00:00Z", "date-invalid"),
        ("X-Sw-Date", "20261122T120000", "date-invalid"),
        ("X-Sw-Date", "20261122T120000z", "date-invalid"),
        ("X-Sw-Date", "20261122T120000ZZ", "date-invalid"),
        ("X-Sw-Date", " 20261122T120000Z", "date-invalid"),
        ("X-Sw-Date", "20261131T120000Z", "date-invalid"),
        ("X-Sw-Date", "20260229T120000Z", "date-invalid"),
        ("X-Sw-Date", "20261122T240000Z", "date-invalid"),
        ("X-Sw-Date", "20261122T126000Z", "date-invalid"),
        ("X-Sw-Date", "20261122T120060Z", "date-invalid"),
        ("X-Sw-Date", "00001122T120000Z", "date-invalid"),
        ("X-Sw-Date", "\u0662\u0660\u0662\u06661122T120000Z", "date-invalid"),
        ("X-Sw-Expires", "", "expires-invalid"),
        ("X-Sw-Expires", "0", "expires-invalid"),
        ("X-Sw-Expires", "-1", "expires-invalid"),
        ("X-Sw-Expires", "+600", "expires-invalid"),
        ("X-Sw-Expires", "0600", "expires-invalid"),
        ("X-Sw-Expires", "1e9", "expires-invalid"),
        ("X-Sw-Expires", "600.0", "expires-invalid"),
        ("X-Sw-Expires", "6_00", "expires-invalid"),
        ("X-Sw-Expires", " 600", "expires-invalid"),
        ("X-Sw-Expires", "0x10", "expires-invalid"),
        ("X-Sw-Expires", "６００", "expires-invalid"),  # noqa: RUF001
        ("X-Sw-Expires", "9" * 11, "expires-invalid"),
        ("X-Sw-Expires", "9" * 9999, "expires-invalid"),
        ("X-Sw-SignedHeaders", ";", "signed-headers-invalid"),
        ("X-Sw-SignedHeaders", "x-foo;", "signed-headers-invalid"),
        ("X-Sw-SignedHeaders", "X-Foo", "signed-headers-invalid"),
        ("X-Sw-SignedHeaders", "x foo", "signed-headers-invalid"),
        ("X-Sw-SignedHeaders", "x-foo,accept", "signed-headers-invalid"),
        ("X-Sw-SignedHeaders", "x-foo; accept", "signed-headers-invalid"),
        ("X-Sw-SignedHeaders", "x-foo:1", "signed-headers-invalid"),
        ("X-Sw-SignedHeaders", "é", "signed-headers-invalid"),
        ("X-Sw-SignedHeaders", "x-foo;accept;x-foo", "signed-headers-duplicate"),
        ("X-Sw-Body", "", "body-flag-invalid"),
        ("X-Sw-Body", "True", "body-flag-invalid"),
        ("X-Sw-Body", "1", "body-flag-invalid"),
        ("X-Sw-Body", "true;a=b", "body-flag-invalid"),
        ("X-Sw-Signature", "", "signature-invalid"),
        ("X-Sw-Signature", "a" * 63, "signature-invalid"),
        ("X-Sw-Signature", "a" * 65, "signature-invalid"),
        ("X-Sw-Signature", "A" * 64, "signature-invalid"),
        ("X-Sw-Signature", "g" * 64, "signature-invalid"),
        ("X-Sw-Signature", "a" * 63 + " ", "signature-invalid"),
        ("X-Sw-Signature", "а" * 64, "signature-invalid"),  # noqa: RUF001 - Cyrillic
    ],
)
def test_a_malformed_value_has_its_own_code(name: str, value: str, code: str) -> None:
    refusal = refusal_of(with_value(name, value))
    assert refusal.code == code
    assert refusal.detail.isascii()
    assert name in refusal.detail
    assert len(refusal.detail) < 300


@given(st.text(min_size=1))
def test_details_carry_neither_the_signature_nor_raw_text(text: str) -> None:
    signature = parse_target(TARGET).signature
    altered = refusal_of(with_value("X-Sw-Signature", signature + text))
    assert signature[:8] not in altered.detail
    for name in ("X-Sw-Algorithm", "X-Sw-Credential", "X-Sw-SignedHeaders"):
        detail = refusal_of(with_value(name, " ;" + text)).detail
        assert detail.isascii()
        assert detail.isprintable()


def check(claims: Claims, now: float, expiry_seconds: int = 604_800) -> None:
    check_time(claims, now=now, expiry_seconds=expiry_seconds, clock_skew_seconds=60)


@pytest.mark.parametrize(
    ("offset", "code"),
    [
        (-60.001, "date-in-future"),
        (-60, None),
        (0, None),
        (599.999, None),
        (600, "expired"),
        (600.001, "expired"),
        (601, "expired"),
        (1e12, "expired"),
        (-1e9, "date-in-future"),
    ],
)
def test_both_ends_of_the_time(offset: float, code: str | None) -> None:
    claims = parse_target(TARGET)
    if code is None:
        check(claims, NOW + offset)
        return
    with pytest.raises(Refusal) as caught:
        check(claims, NOW + offset)
    assert caught.value.code == code


def test_the_longest_expiry_is_allowed_and_no_second_more() -> None:
    claims = parse_target(TARGET)
    check(claims, NOW, expiry_seconds=600)
    with pytest.raises(Refusal) as caught:
        check(claims, NOW, expiry_seconds=599)
    assert caught.value.code == "expiry-too-long"
    assert "600" in caught.value.detail
    assert "599" in caught.value.detail


def test_a_url_that_expires_after_one_second_does() -> None:
    # The published clients' own test: expiry 1, sleep 1, expect 400.
    claims = parse_target(target_of(Request(expiry=1).sign()))
    check(claims, NOW + 0.999)
    with pytest.raises(Refusal):
        check(claims, NOW + 1)


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (reading.read_date, "19700101T000000Z", 0),
        (reading.read_date, "20240229T235959Z", 1_709_251_199),
        (reading.read_date, "00010101T000000Z", -62_135_596_800),
        (reading.read_expires, "1", 1),
        (reading.read_expires, "9999999999", 9_999_999_999),
        (reading.read_signed_headers, "", ()),
        (reading.read_signed_headers, "b;a-b;a", ("a", "a-b", "b")),
        (reading.read_body_flag, "true", True),
        (reading.read_body_flag, "false", False),
    ],
)
def test_readers(read: Callable[[str], object], value: str, expected: object) -> None:
    assert read(value) == expected
