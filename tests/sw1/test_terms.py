"""Terms as they are written in a URL: what is read, and each refusal by its sentence."""

from decimal import Decimal
from ipaddress import ip_network

import pytest

from swproxy.sw1.body_terms import BadTermError, Range
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.terms import LONGEST_BYTES, MARK, Bounds, Terms, known_name, read_pairs, read_terms
from tests.support.sw1_cases import TERM_VECTORS, Vector, accepted, target_of, wire_headers

URL = "https://api.example/v1/chat#sw1:"


def terms(text: str) -> Terms:
    found = read_terms(URL + text)
    assert found is not None
    return found


def complaint(text: str) -> str:
    with pytest.raises(Refusal) as caught:
        read_terms(URL + text)
    assert caught.value.code == "terms-invalid"
    return caught.value.detail


@pytest.mark.parametrize(
    "url", ["", "#", "#frag", "#SW1:user=42", "#sw1", "#user=42", "#%73w1:user=42", "#/sw1:user=1"]
)
def test_a_url_without_the_mark_has_no_terms(url: str) -> None:
    assert read_terms(f"https://api.example/{url}") is None


def test_every_term_is_read() -> None:
    found = terms(
        "user=42&uses=1&seconds=120&tokens=5000&bytes=..2000&plan=trial"
        "&origin=https://app.example,chrome-extension://abc&client=10.0.0.0/8,2001:db8::1"
        "&websocket=no&tag.team=blue&tag.page=a%20b&body=only&body.model=small"
    )
    assert found.user == "42"
    assert found.uses == 1
    assert found.seconds == 120.0
    assert found.tokens == 5000
    assert found.length == Bounds(None, 2000)
    assert str(found.length) == "..2000"
    assert found.plan == "trial"
    assert found.origins == ("https://app.example", "chrome-extension://abc")
    assert found.clients == (ip_network("10.0.0.0/8"), ip_network("2001:db8::1"))
    assert found.websocket is False
    assert found.tags == (("team", "blue"), ("page", "a b"))
    assert found.body_only
    assert [term.path for term in found.body] == [("model",)]


def test_names_and_values_are_percent_decoded_once_and_a_plus_is_a_plus() -> None:
    found = terms("us%65r=a+b%2B%E2%82%AC%2525")
    assert found.user == "a+b+€%25"


def test_only_the_first_equals_sign_separates() -> None:
    assert terms("user=a=b").user == "a=b"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The terms have a pair without a name."),
        ("user=1&", "The terms have a pair without a name."),
        ("=1", "The terms have a pair without a name."),
        ("user", "The term 'user' has no value."),
        ("user=", "The term 'user' has no value."),
        ("User=1", "The term 'User' is no term that there is."),
        ("users=1", "The term 'users' is no term that there is."),
        ("tag=1", "The term 'tag' is no term that there is."),
        ("user.x=1", "The term 'user.x' is no term that there is."),
        ("body%2Emodel=a", "The term 'body%2Emodel' is no term that there is."),
        ("user=1&us%65r=1", "The term 'us%65r' is given twice."),
        ("body.a=1&body.%61?=2", "The term 'body.%61?' is given twice."),
        ("tag.a=1&tag.%61=2", "The term 'tag.%61' is given twice."),
        ("user=%FF", "The term 'user' is not UTF-8 once decoded."),
        ("user=%ED%A0%80", "The term 'user' is not UTF-8 once decoded."),
        ("user=%C0%AF", "The term 'user' is not UTF-8 once decoded."),
        ("%FF=1", "The term '%FF' is not UTF-8 once decoded."),
        ("uses=0", "The term 'uses' has to be a whole number from 1 to 1000000."),
        ("uses=1000001", "The term 'uses' has to be a whole number from 1 to 1000000."),
        ("uses=01", "The term 'uses' has to be a whole number from 1 to 1000000."),
        ("uses=1.0", "The term 'uses' has to be a whole number from 1 to 1000000."),
        ("uses=%D9%A1", "The term 'uses' has to be a whole number from 1 to 1000000."),
        ("websocket=true", "The term 'websocket' has to be yes or no."),
        ("body=all", "The term 'body' has to be only, or stand with a path: body.model."),
        ("body.=1", "The term 'body.' has a path with an empty name in it."),
        ("body.a..b=1", "The term 'body.a..b' has a path with an empty name in it."),
        ("body.?=1", "The term 'body.?' has a path with an empty name in it."),
        ("bytes=2..1", "The term 'bytes' has a range that ends before it begins."),
        ("body.n=2..1", "The term 'body.n' has a range that ends before it begins."),
        ("tag.a.b=1", "The term 'tag.a.b' has to be tag. and 1 to 64 letters, digits, - and _."),
    ],
)
def test_a_fault_is_told(text: str, sentence: str) -> None:
    assert complaint(text) == sentence


@pytest.mark.parametrize("character", [" ", '"', "<", ">", "\\", "^", "`", "{", "|", "}", "#", "é"])
def test_only_what_a_fragment_may_hold_is_read(character: str) -> None:
    detail = "The term 'user' holds a character, or a '%', that has to be percent-encoded."
    assert complaint(f"uses=1&user=a{character}b") == detail


@pytest.mark.parametrize("escape", ["%", "%2", "%zz", "%2g", "%u0041"])
def test_a_broken_escape_is_told(escape: str) -> None:
    detail = "The term 'user' holds a character, or a '%', that has to be percent-encoded."
    assert complaint(f"user=a{escape}") == detail


@pytest.mark.parametrize("text", ["%20", "a%20b", "a%0A", "a%00", "a%C2%85", "a%E2%80%AE", "a%7F"])
def test_a_user_is_visible_characters(text: str) -> None:
    assert complaint(f"user={text}") == "The term 'user' has to be 1 to 128 visible characters."


def test_lengths_are_bounded() -> None:
    assert terms(f"user={'%C3%A9' * 128}").user == "é" * 128
    assert "1 to 128 visible" in complaint(f"user={'a' * 129}")
    assert terms(f"tag.{'n' * 64}={'v' * 64}").tags == (("n" * 64, "v" * 64),)
    assert "1 to 64 printable" in complaint(f"tag.a={'v' * 65}")
    assert "letters, digits" in complaint(f"tag.{'n' * 65}=v")
    eight = "&".join(f"tag.t{n}=x" for n in range(8))
    assert len(terms(eight).tags) == 8
    assert complaint(f"{eight}&tag.more=x") == (
        "The term 'tag.more' is one tag too many: there may be 8."
    )
    room = LONGEST_BYTES - len(MARK) - len("body.a=")
    assert terms(f"body.a={'x' * room}").body[0].texts == {"x" * room}
    assert complaint(f"body.a={'x' * (room + 1)}") == "The terms are longer than 4096 bytes."
    assert complaint("€" * 2000) == "The terms are longer than 4096 bytes."


@pytest.mark.parametrize(
    "text", ["0", "0.0", "-1", "1e3", "1234567890", "0.1234", "1.", ".5", "inf"]
)
def test_seconds_are_a_plain_number_more_than_0(text: str) -> None:
    assert "has to be a number of seconds" in complaint(f"seconds={text}")
    assert "at most 999999999, with up to three decimals" in complaint(f"seconds={text}")
    assert terms("seconds=0.5").seconds == 0.5


@pytest.mark.parametrize("text", ["..", "5", "a..b", "-1..2", "1...2", "01..2", "1..2..3", "1.5.."])
def test_bytes_are_a_range_of_lengths(text: str) -> None:
    assert "has to be a range of lengths" in complaint(f"bytes={text}")
    assert terms("bytes=3..").length == Bounds(3, None)
    assert terms("bytes=0..0").length == Bounds(0, 0)


@pytest.mark.parametrize(
    "text",
    [
        "app.example",
        "https://app.example/",
        "https://App.example",
        "https://app.example:443",
        "http://app.example:80",
        "https://*.example",
        "null",
        "*",
        "https://a.example,",
        "https://a.example,,https://b.example",
        "https://b%C3%BCcher.example",
        "https://a@b.example",
    ],
)
def test_origins_are_spelt_as_browsers_do(text: str) -> None:
    assert "has to be origins as browsers write them" in complaint(f"origin={text}")
    assert terms("origin=https://a.example:80,http://%5B::1%5D:8443").origins == (
        "https://a.example:80",
        "http://[::1]:8443",
    )


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0", "10.0.0.0/8,", "a.example", "1", "::g"])
def test_clients_are_networks(text: str) -> None:
    assert "has to be networks or addresses" in complaint(f"client={text}")


def test_a_mapped_address_is_the_one_that_it_maps() -> None:
    # As sockets for both families tell an IPv4 client, and so whoever signs for its address.
    text = "client=::ffff:192.0.2.7,::ffff:198.51.100.0/120,::ffff:0:0/96,2001:db8::/32,::/0"
    assert [str(network) for network in terms(text).clients] == [
        *("192.0.2.7/32", "198.51.100.0/24", "0.0.0.0/0"),
        *("2001:db8::/32", "::/0"),
    ]


def test_a_dot_in_a_bodys_name_is_escaped_and_a_number_stays_a_name() -> None:
    [term] = terms("body.a%2Eb.0.%3F%25?=x").body
    assert term.path == ("a.b", "0", "?%")
    assert term.optional
    assert term.name == "body.a%2Eb.0.%3F%25"
    assert "a '?' before the end" in complaint("body.a?.b=x")
    assert "more than 64 names" in complaint(f"body.{'.'.join('a' * 65)}=1")


@pytest.mark.parametrize(
    ("value", "permitted", "refused"),
    [
        ("gpt-5-mini", ["gpt-5-mini"], ["gpt-5", "GPT-5-MINI", None, 5]),
        ("a,b", ["a", "b"], ["a,b", "c"]),
        ("%22a,b%22,c", ["a,b", "c"], ["a", "b"]),
        ("%22a%5C%22b*%22", ['a"b*'], ['a"b', 'a"b*c']),
        ("%22%22", [""], ["a", None]),
        ("%22true%22", ["true"], [True]),
        ("true", [True], ["true", 1, False]),
        ("false", [False], [0, None, ""]),
        ("null", [None], [False, 0, "null", ""]),
        ("gpt-5*", ["gpt-5", "gpt-5-mini"], ["gpt-4", 5]),
        ("*", ["", "a"], [None, 1, True]),
        ("%22-%22", ["-"], [None]),
        ("say%20%22hi%22", ['say "hi"'], ["say hi"]),
        ("a..b", ["a..b"], ["a", 1]),
        ("007", ["007"], [7]),
        ("5", [5], ["5", Decimal("5.0"), True, 4]),
        ("5.0", [5, Decimal("5.0"), Decimal("5e0")], ["5.0", 6]),
        ("1..800", [1, 800, 42], [0, 801, Decimal("1.0"), Decimal("1e2"), True, "5", None]),
        ("-2..2", [-2, 0], [Decimal("-0"), -3]),
        ("..2", [2, -99], [3, Decimal("1.5")]),
        ("2..", [2, 10**30], [1]),
        ("0.5..", [Decimal("0.5"), 1, Decimal("1e2")], [0, Decimal("0.49")]),
        ("0..1.5", [0, 1, Decimal("1.5"), Decimal("0.1")], [Decimal("1.51"), 2]),
        ("0,10..20,x", [0, 10, "x"], [1, 21, "0"]),
    ],
)
def test_what_alternatives_permit(
    value: str, permitted: list[object], refused: list[object]
) -> None:
    [term] = terms(f"body.a={value}").body
    assert not term.absent
    for each in permitted:
        assert term.permits(each), each
    for each in [*refused, [], {}]:
        assert not term.permits(each), each


def test_a_dash_alone_is_absence() -> None:
    [term] = terms("body.tools=-").body
    assert term.absent
    assert 'written "-"' in complaint("body.tools=a,-")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (",", "an empty value among its alternatives"),
        ("a,", "an empty value among its alternatives"),
        ("a,,b", "an empty value among its alternatives"),
        ("%22a", "in double quotes that is none"),
        ("%22a%22b", "in double quotes that is none"),
        ("%22%5Cq%22", "in double quotes that is no JSON string"),
        ("%22%5Cud800%22", "in double quotes that is no JSON string"),
        ("..", "a range without bounds"),
        ("1..2..3", "not a JSON number"),
        ("01..5", "not a JSON number"),
        ("1...5", "not a JSON number"),
        ("+1..5", "not a JSON number"),
        ("9007199254740993", "beyond 2^53"),
        ("1..9007199254740993", "beyond 2^53"),
        ("1e400", "not every reader can hold"),
        (f"0.{'1' * 40}", "not every reader can hold"),
    ],
)
def test_alternatives_that_cannot_be_meant(value: str, reason: str) -> None:
    assert reason in complaint(f"body.a={value}")


def test_whole_bounds_reach_as_far_as_all_readers_do() -> None:
    [term] = terms("body.a=-9007199254740992..9007199254740992").body
    assert term.ranges == (Range(-(2**53), 2**53, whole=True),)


@pytest.mark.parametrize("vector", TERM_VECTORS, ids=str)
def test_the_published_clients_keep_terms_byte_for_byte(vector: Vector) -> None:
    body = (vector.body or "").encode()
    sent = wire_headers(vector.headers, None if vector.body is None else body)
    claims = accepted(target_of(vector.url), vector.method, sent, body)
    assert claims is not None
    assert claims.proxy_url == vector.proxy_url
    assert claims.terms == read_terms(vector.proxy_url)
    assert claims.terms is not None


def test_three_clients_made_terms() -> None:
    assert len({vector.sdk for vector in TERM_VECTORS}) == 3
    escapes = next(vector for vector in TERM_VECTORS if "escapes" in vector.case)
    found = read_terms(escapes.proxy_url)
    assert found is not None
    assert found.user == "a+b@cé"
    assert found.tags == (("page", "it's (new)!"),)
    assert found.body[1].path == ("a.b", "0")
    assert found.body[1].texts == {"x,y"}
    assert found.body[2].text == "Be kind\n100%~$;:@/?"


def test_terms_know_what_they_have() -> None:
    found = terms("user=42&websocket=no&tag.a=b&body=only&body.m.0?=x&bytes=..0")
    for name in ("user", "websocket", "tag.a", "body", "body.m.0", "bytes"):
        assert found.has(known_name(name))
    for name in ("uses", "seconds", "tokens", "plan", "origin", "client", "tag.b", "body.m"):
        assert not found.has(known_name(name))
    assert known_name("body.%6D.0?") == "body.m.0"
    for name in ("usr", "tag", "tag.", "tag.a.b", "body.", "body..a", "User"):
        with pytest.raises(BadTermError):
            known_name(name)


def test_what_is_read_is_not_changed_by_what_was_read_before() -> None:
    assert read_pairs("body.a?=1").body != read_pairs("body.a=1").body
