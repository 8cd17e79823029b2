"""Every code by which the scheme refuses, each with a request that earns it."""

import re
from pathlib import Path

import pytest

import swproxy.sw1
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.verify import mismatch
from tests.support.sw1_cases import NOW, WEEK, Request, accepted, target_of

PLAIN = target_of(Request().sign()).decode()
WITH_HEADERS = target_of(Request(headers={"A": "1", "B": "2"}).sign()).decode()
WITH_TERMS = target_of(Request(proxy_url="https://a.example/#sw1:user=42").sign()).decode()
TOO_LONG = target_of(Request(expiry=WEEK + 1).sign()).decode()

# code -> a target, the headers that come with it, and how many seconds after it was signed
EARNED: dict[str, tuple[str, list[tuple[bytes, bytes]], float]] = {
    "target-invalid": (PLAIN + "#", [], 0),
    "parameter-missing": (PLAIN.replace("&X-Sw-Body=false", ""), [], 0),
    "parameter-duplicate": (PLAIN + "&X-Sw-Body=false", [], 0),
    "parameter-unknown": (PLAIN + "&X-Sw-Region=eu", [], 0),
    "parameter-misspelled": (PLAIN + "&x-sw-body=true", [], 0),
    "parameter-encoding": (PLAIN.replace("%3A", "%3"), [], 0),
    "parameter-control-character": (PLAIN.replace("%3A", "%0A"), [], 0),
    "algorithm-unsupported": (PLAIN.replace("SW1-", "SW2-"), [], 0),
    "credential-invalid": (PLAIN.replace("my-id%2F", "my-id"), [], 0),
    "credential-scope-mismatch": (PLAIN.replace("%2F20261122", "%2F20261121"), [], 0),
    "date-invalid": (PLAIN.replace("T120000Z", "T126000Z"), [], 0),
    "date-in-future": (PLAIN, [], -61),
    "expires-invalid": (PLAIN.replace("=600", "=-600"), [], 0),
    "expiry-too-long": (TOO_LONG, [], 0),
    "expired": (PLAIN, [], 600),
    "signed-headers-invalid": (WITH_HEADERS.replace("a%3Bb", "a%3B"), [], 0),
    "signed-headers-duplicate": (WITH_HEADERS.replace("a%3Bb", "a%3Ba"), [], 0),
    "body-flag-invalid": (PLAIN.replace("=false", "=no"), [], 0),
    "signature-invalid": (PLAIN[:-1], [], 0),
    "terms-invalid": (WITH_TERMS.replace("user", "usher"), [], 0),
    "signed-header-missing": (WITH_HEADERS, [(b"a", b"1")], 0),
    "signed-header-duplicate": (WITH_HEADERS, [(b"a", b"1"), (b"b", b"2"), (b"a", b"1")], 0),
    "signed-header-invalid": (WITH_HEADERS, [(b"a", b"1\nb:2"), (b"b", b"2")], 0),
}


@pytest.mark.parametrize("code", EARNED)
def test_every_code_is_earned(code: str) -> None:
    target, headers, later = EARNED[code]
    with pytest.raises(Refusal) as caught:
        accepted(target.encode(), headers=headers, now=NOW + later)
    refusal = caught.value
    assert refusal.code == code
    assert refusal.detail.endswith(".")
    assert str(refusal) == f"{code}: {refusal.detail}"
    assert PLAIN[-64:-32] not in str(refusal)


def test_there_are_no_other_codes() -> None:
    room = Path(swproxy.sw1.__file__).parent
    source = "".join(path.read_text() for path in room.glob("*.py"))
    written = set(re.findall(r"Refusal\(\s*\"([^\"]+)\"", source))
    assert written == {*EARNED, mismatch().code}
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", code) for code in written)
