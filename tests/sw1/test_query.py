"""From target to parameters: anything that two readers could read in two ways is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy.sw1.query import decode_value, disguised_names, show, spellings, split_target
from swproxy.sw1.refusal import Refusal
from tests.support.sw1_cases import TEXT, Request, target_of

TARGET = target_of(Request().sign())


def refusal_of(target: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        split_target(target)
    return caught.value


def test_splits_path_and_parameters_without_decoding() -> None:
    path, raw = split_target(b"/sw" + TARGET)
    assert path == "/sw/"
    assert raw["X-Sw-Proxy"] == "https%3A%2F%2Fapi.openai.com%2Fv1%2Fmodels"
    assert len(raw) == 8


def test_foreign_parameters_and_empty_pairs_are_skipped() -> None:
    plain = split_target(TARGET)
    assert split_target(TARGET + b"&&utm_source=x-sw-news&=&a;b=c&_=1") == plain
    assert split_target(TARGET.replace(b"?", b"?cache=%58&")) == plain


@pytest.mark.parametrize(
    "target",
    [b"", b"*", b"http://h/?a", b"/a b", b"/\x00", b"/\xc3\xa9", b"/a#b", TARGET + b"#top", b"/\n"],
)
def test_a_target_that_is_no_target(target: bytes) -> None:
    assert refusal_of(target).code == "target-invalid"


@pytest.mark.parametrize("target", [b"/", b"/?", b"/?a=b", b"/v1/models"])
def test_an_unsigned_url_is_told_apart(target: bytes) -> None:
    refusal = refusal_of(target)
    assert refusal.code == "parameter-missing"
    assert "not signed" in refusal.detail


def test_a_missing_parameter_is_named() -> None:
    refusal = refusal_of(TARGET.replace(b"&X-Sw-Body=false", b""))
    assert (refusal.code, refusal.detail) == ("parameter-missing", "The URL lacks X-Sw-Body.")
    assert refusal_of(TARGET.replace(b"Body=false", b"Body")).code == "parameter-missing"


@pytest.mark.parametrize("pair", TARGET.partition(b"?")[2].split(b"&"))
def test_every_parameter_given_twice_is_refused(pair: bytes) -> None:
    assert refusal_of(TARGET + b"&" + pair).code == "parameter-duplicate"
    assert refusal_of(TARGET.replace(b"?", b"?" + pair + b"&")).code == "parameter-duplicate"


@pytest.mark.parametrize(
    ("pair", "code"),
    [
        (b"x-sw-proxy=https://evil.example/", "parameter-misspelled"),
        (b"X-SW-PROXY=", "parameter-misspelled"),
        (b"X-Sw-proxy", "parameter-misspelled"),
        (b"%58-Sw-Proxy=", "parameter-misspelled"),
        (b"X%2dSw%2DProxy=", "parameter-misspelled"),
        (b"X-Sw-Prox%79=", "parameter-misspelled"),
        (b"+X-Sw-Proxy=", "parameter-misspelled"),
        (b"%20%09X-Sw-Proxy=", "parameter-misspelled"),
        (b"X-Sw-Proxy+=", "parameter-misspelled"),
        (b"a=1;X-Sw-Proxy=https://evil.example/", "parameter-misspelled"),
        (b"a;%78-sw-body=true", "parameter-misspelled"),
        (b"X-Sw-Body;a=1", "parameter-misspelled"),
        (b"X-Sw-Nonce=1", "parameter-unknown"),
        (b"x-sw-=1", "parameter-unknown"),
        (b"X-Sw-Proxy[]=1", "parameter-unknown"),
        (b"%78%2d%73%57%2D%ff=1", "parameter-unknown"),
    ],
)
def test_names_that_some_reader_might_take_for_ours(pair: bytes, code: str) -> None:
    assert refusal_of(TARGET + b"&" + pair).code == code
    assert refusal_of(TARGET.replace(b"?", b"?" + pair + b"&")).code == code


def test_every_disguise_is_reported() -> None:
    faults = [fault.code for fault in disguised_names("a=b&x-sw-a=1&c=d;X-Sw-Date=2&e=x-sw-f")]
    assert faults == ["parameter-unknown", "parameter-misspelled"]


def test_a_separator_is_an_ampersand_and_nothing_else() -> None:
    assert refusal_of(TARGET.replace(b"&", b";")).code == "parameter-missing"


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("", ""),
        ("a", "a"),
        ("a+b%20c", "a b c"),
        ("%2B", "+"),
        ("caf%c3%A9", "café"),
        ("a=b", "a=b"),
    ],
)
def test_decoding(raw: str, value: str) -> None:
    assert decode_value("X-Sw-Proxy", raw) == value


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("%", "parameter-encoding"),
        ("a%2", "parameter-encoding"),
        ("%zz", "parameter-encoding"),
        ("%u0041", "parameter-encoding"),
        ("%+1", "parameter-encoding"),
        ("%ff", "parameter-encoding"),
        ("%c0%af", "parameter-encoding"),
        ("%ed%a0%80", "parameter-encoding"),
        ("%c3", "parameter-encoding"),
        ("a%00", "parameter-control-character"),
        ("a%0d%0aHost:+evil", "parameter-control-character"),
        ("%09", "parameter-control-character"),
        ("%7f", "parameter-control-character"),
        ("%c2%85", "parameter-control-character"),
    ],
)
def test_what_does_not_decode(raw: str, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        decode_value("X-Sw-Proxy", raw)
    assert caught.value.code == code
    assert caught.value.detail.startswith("X-Sw-Proxy ")


@given(TEXT)
def test_all_spellings_of_a_value_decode_to_it(text: str) -> None:
    _, raw = split_target(target_of(Request(id="x").sign()))
    decoded = {name: decode_value(name, value) for name, value in raw.items()}
    # A raw value that is no client's: every byte escaped, in lower case.
    raw["X-Sw-Proxy"] = "".join(f"%{byte:02x}" for byte in text.encode())
    decoded["X-Sw-Proxy"] = text
    texts = [spelling.decode() for _, spelling in spellings("/a!b/", raw, decoded)]
    assert len(set(texts)) == len(texts)
    for spelling in texts:
        path, _, query = spelling.partition("\n")
        assert path in ("/a!b/", "/a%21b/")
        fields = dict(pair.split("=", 1) for pair in query.split("&"))
        assert decode_value("X-Sw-Proxy", fields["X-Sw-Proxy"]) == text
        assert query.split("&") == sorted(query.split("&"))


def test_a_plain_url_has_one_spelling() -> None:
    path, raw = split_target(TARGET)
    decoded = {name: decode_value(name, value) for name, value in raw.items()}
    assert len(spellings(path, raw, decoded)) == 1


@given(st.text())
def test_untrusted_text_is_shown_short_and_in_plain_ascii(text: str) -> None:
    shown = show(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert show("a" * 81) == f"'{'a' * 80}'..."
