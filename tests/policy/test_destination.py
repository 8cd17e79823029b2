"""Destinations: what is refused and why, and that the rest is what the URL standard says."""

# ruff: noqa: RUF001 - look-alike characters are what this is about

import json
from functools import cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swproxy.policy.addresses import may_connect
from swproxy.policy.destination import Destination, parse_destination
from swproxy.sw1.refusal import Refusal
from tests.support import DATA


def attempt(url: str) -> Destination | str:
    """Return the destination, or the reason why `url` is refused."""
    try:
        return parse_destination(url)
    except Refusal as refusal:
        return refusal.detail


def refusal(url: str) -> str:
    """Return the reason why `url` is refused."""
    with pytest.raises(Refusal) as caught:
        parse_destination(url)
    assert caught.value.code == "destination-invalid"
    return caught.value.detail


ACCEPTED = {
    # spelled: (origin, host, port, target)
    "https://api.openai.com/v1/models": ("https://api.openai.com", 443, "/v1/models"),
    "https://github.com": ("https://github.com", 443, "/"),
    "https://github.com?a=1": ("https://github.com", 443, "/?a=1"),
    "https://github.com/?": ("https://github.com", 443, "/?"),
    "HTTPS://GitHub.com/Path": ("https://github.com", 443, "/Path"),
    "https://h.example:443/": ("https://h.example", 443, "/"),
    "http://h.example:80/": ("http://h.example", 80, "/"),
    "http://h.example:443/": ("http://h.example:443", 443, "/"),
    "https://h.example:8443/a": ("https://h.example:8443", 8443, "/a"),
    "https://h.example:65535/": ("https://h.example:65535", 65535, "/"),
    "ws://h.example/socket": ("ws://h.example", 80, "/socket"),
    "wss://h.example/socket": ("wss://h.example", 443, "/socket"),
    "https://h.example/a#fragment": ("https://h.example", 443, "/a"),
    "https://h.example/a?b=c#d?e=f": ("https://h.example", 443, "/a?b=c"),
    "https://h.example#/a?b": ("https://h.example", 443, "/"),
    "https://httpbin.org/anything/é": ("https://httpbin.org", 443, "/anything/%C3%A9"),
    "https://h.example/a b/ c?q=d e& f": (
        "https://h.example",
        443,
        "/a%20b/%20c?q=d%20e&%20f",
    ),
    "https://h.example/a ?b#c d ": ("https://h.example", 443, "/a%20?b"),
    "https://httpbin.org/anything/%C3%A9": ("https://httpbin.org", 443, "/anything/%C3%A9"),
    "https://httpbin.org/a!b'c(d)e*f": ("https://httpbin.org", 443, "/a!b'c(d)e*f"),
    "https://h.example/?q=a%20b&q=a+b&q=a%2Bb": (
        "https://h.example",
        443,
        "/?q=a%20b&q=a+b&q=a%2Bb",
    ),
    "https://h.example//double//slash": ("https://h.example", 443, "//double//slash"),
    "https://h.example/.../..a/.b/c.": ("https://h.example", 443, "/.../..a/.b/c."),
    "https://h.example/?a=/../b": ("https://h.example", 443, "/?a=/../b"),
    "https://h.example/a@b:c": ("https://h.example", 443, "/a@b:c"),
    "https://h.example?u=a@b": ("https://h.example", 443, "/?u=a@b"),
    "https://bücher.example/": ("https://xn--bcher-kva.example", 443, "/"),
    "https://BÜCHER.example/": ("https://xn--bcher-kva.example", 443, "/"),
    "https://日本語。jp/": ("https://xn--wgv71a119e.jp", 443, "/"),
    "https://xn--bcher-kva.example/": ("https://xn--bcher-kva.example", 443, "/"),
    "https://my_bucket.s3.example/": ("https://my_bucket.s3.example", 443, "/"),
    "http://localhost:8000/": ("http://localhost:8000", 8000, "/"),
    "https://93.184.216.34/": ("https://93.184.216.34", 443, "/"),
}


@pytest.mark.parametrize("url", ACCEPTED)
def test_accepts(url: str) -> None:
    origin, port, target = ACCEPTED[url]
    place = parse_destination(url)
    assert (place.origin, place.port, place.target.decode()) == (origin, port, target)
    assert f"{place.scheme}://{place.authority.decode()}" == origin
    assert place.host == origin.partition("://")[2].partition(":")[0]
    assert place.tls is (place.scheme in {"https", "wss"})
    assert place.path == target.partition("?")[0]


@pytest.mark.parametrize(
    ("url", "origin", "host"),
    [
        ("https://[2606:4700::1111]/", "https://[2606:4700::1111]", "2606:4700::1111"),
        (
            "https://[2606:4700:0:0::1111]:8443/",
            "https://[2606:4700::1111]:8443",
            "2606:4700::1111",
        ),
        ("http://[::FFFF:1.2.3.4]/", "http://[::ffff:102:304]", "::ffff:102:304"),
    ],
)
def test_ipv6_literal_gets_its_canonical_form(url: str, origin: str, host: str) -> None:
    place = parse_destination(url)
    assert (place.origin, place.host) == (origin, host)
    assert place.authority.decode() == origin.partition("://")[2]
    assert place.address == ip_address(host)


def test_only_literal_hosts_have_an_address() -> None:
    assert parse_destination("https://1.1.1.1/").address == ip_address("1.1.1.1")
    assert parse_destination("https://1.1.1.1.example/").address is None


REFUSED = {
    # credentials
    "https://user@h.example/": "user name",
    "https://user:password@h.example/": "user name",
    "https://@h.example/": "user name",
    "https://api.openai.com@evil.example/": "user name",
    "https://api.openai.com:443@evil.example/": "user name",
    # blanks and controls, anywhere
    " https://h.example/": "blank",
    "https://h.example/ ": "blank",
    "https://h.example/ #a": "ends in a blank",
    "https://h.example/?a=b ": "ends in a blank",
    "https://h.exa mple/": "blank",
    "https ://h.example/": "blank",
    "https://h.example :443/": "blank",
    "https://h.example/\xa0a": "blank",
    "https://h.ex\tample/": "blank",
    "https://h.example/a\nb": "blank",
    "https://h.example/a\r\nHost: evil": "blank",
    "https://h.example/#a\tb": "blank",
    "https://h.example/\x00": "blank",
    "https://h.example/\x7f": "blank",
    "https://h.example/\x85": "blank",
    "https://h.example/\u3000": "blank",
    "ht\ntps://h.example/": "blank",
    # backslashes
    "https:\\\\h.example\\": "backslash",
    "https://h.example\\@evil.example/": "backslash",
    "https://h.example/a\\..\\b": "backslash",
    "https://h.example/?a=\\": "backslash",
    # shape
    "": "not an absolute URL",
    "h.example/a": "not an absolute URL",
    "//h.example/a": "not an absolute URL",
    "/a": "not an absolute URL",
    "https:h.example": "not an absolute URL",
    "https:/h.example": "not an absolute URL",
    "https:///h.example": "no host",
    "https:////h.example": "no host",
    "https://": "no host",
    "https://?a": "no host",
    "https://:443/": "no host",
    # scheme
    "ftp://h.example/": "scheme",
    "file:///etc/passwd": "scheme",
    "javascript://h.example/%0aalert(1)": "scheme",
    "httpss://h.example/": "scheme",
    "://h.example/": "scheme",
    "blob:https://h.example/x": "not an absolute URL",
    "view-source:https://h.example/": "not an absolute URL",
    # port
    "https://h.example:/": "port is empty",
    "https://h.example:": "port is empty",
    "https://h.example:0/": "port",
    "https://h.example:65536/": "port",
    "https://h.example:99999999999999999999/": "port",
    "https://h.example:+443/": "port",
    "https://h.example:-1/": "port",
    "https://h.example:0443/": "port",
    "https://h.example:443:443/": "port",
    "https://h.example:４４３/": "port",
    "https://h.example:4a/": "port",
    # dot segments
    "https://h.example/a/../b": "dot segment",
    "https://h.example/a/./b": "dot segment",
    "https://h.example/..": "dot segment",
    "https://h.example/.": "dot segment",
    "https://h.example/a/%2e%2E/b": "dot segment",
    "https://h.example/a/.%2e?q": "dot segment",
    "https://h.example/a/%2e/#": "dot segment",
    # names
    "https://h.example./": "dot",
    "https://h.example。/": "dot",
    "https://./": "dot",
    "https://h..example/": "name",
    "https://.h.example/": "name",
    "https://*.h.example/": "name",
    "https://h!.example/": "name",
    "https://h,evil.example/": "name",
    'https://h".example/': "name",
    "https://h|.example/": "name",
    f"https://{'a' * 64}.example/": "name",
    f"https://{'.'.join(['a' * 49] * 6)}/": "name",
    "https://%68.example/": "percent-encoded",
    "https://h.example%2f@evil/": "user name",
    "https://h.example%2fevil/": "valid name",
    "https://h%00.example/": "valid name",
    "https://xn--a.example/": "Punycode",
    "https://xn--abc-.example/": "Punycode",
    "https://ｅｘａｍｐｌｅ.com/": "unusual spelling of example.com",
    "https://exa\u00admple.com/": "unusual spelling of example.com",
    "https://example。com/": "unusual spelling of example.com",
    "https://ℂ.example/": "unusual spelling of c.example",
    "https://a\ud800.example/": "surrogate",
    # addresses in disguise
    "http://2130706433/": "unusual spelling of the address 127.0.0.1",
    "http://0x7f000001/": "unusual spelling of the address 127.0.0.1",
    "http://017700000001/": "unusual spelling of the address 127.0.0.1",
    "http://0177.0.0.1/": "unusual spelling of the address 127.0.0.1",
    "http://0x7f.1/": "unusual spelling of the address 127.0.0.1",
    "http://127.1/": "unusual spelling of the address 127.0.0.1",
    "http://127.0.0.1./": "dot",
    "http://127.0.0.01/": "unusual spelling of the address 127.0.0.1",
    "http://１２７.0.0.1/": "unusual spelling of 127.0.0.1",
    "http://①②⑦.0.0.1/": "unusual spelling of 127.0.0.1",
    "http://127。0。0。1/": "unusual spelling of 127.0.0.1",
    "http://169.254.43518/": "unusual spelling of the address 169.254.169.254",
    "http://256.0.0.1/": "valid name",
    "http://1.2.3.4.5/": "valid name",
    "http://example.0x1/": "valid name",
    "http://[fe80::1%25eth0]/": "valid name or address",
    "http://[fe80::1%eth0]/": "valid name or address",
    "http://[::1/": "told apart",
    "http://::1/": "no host",
    "http://[]/": "valid name or address",
    "http://[1.2.3.4]/": "valid name or address",
    "http://[::1]x/": "told apart",
    "http://[::1]]/": "told apart",
    "http://x[::1]/": "told apart",
}


@pytest.mark.parametrize("url", REFUSED, ids=ascii)
def test_refuses_with_the_reason(url: str) -> None:
    assert REFUSED[url] in refusal(url)


def test_a_refusal_does_not_repeat_the_path_or_query() -> None:
    assert "canary" not in refusal("https://h.example:0/canary?canary=canary")
    assert "canary" not in refusal("https://canary:canary@h.example/")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://0.0.0.0/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[::ffff:8.8.8.8]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[fd00:ec2::254]/",
    ],
)
def test_a_literal_private_address_parses_and_is_judged(url: str) -> None:
    address = parse_destination(url).address
    assert address is not None
    assert not may_connect(address, ())


# The URL standard's own tests as the oracle.


@cache
def cases(name: str) -> list[dict[str, Any]]:
    rows = json.loads((DATA / name).read_text("utf-8"))
    return [row for row in rows if isinstance(row, dict)]


def test_the_standard_agrees_with_whatever_is_accepted() -> None:
    accepted = 0
    for case in cases("urltestdata.json"):
        place = attempt(case["input"])
        if isinstance(place, str):
            continue
        accepted += 1
        assert not case.get("failure"), case
        assert place.origin + place.target.decode() == case["href"].partition("#")[0], case
        assert place.host == case["hostname"].strip("[]"), case
        assert place.authority.decode() == case["host"], case
        assert place.path == case["pathname"], case
    assert accepted >= 70


def test_what_the_standard_accepts_is_refused_only_by_rules_of_ours() -> None:
    ours = ("user name", "dot", "blank", "backslash", "unusual", "absolute", "percent", "surrogate")
    refused = 0
    for case in cases("urltestdata.json"):
        absolute = case["base"] in (None, "about:blank") and not case.get("failure")
        if not absolute or case["protocol"] not in {"http:", "https:", "ws:", "wss:"}:
            continue
        reason = attempt(case["input"])
        # One host in there is made of all the punctuation that the standard lets through.
        if isinstance(reason, str) and '!"$&' not in case["input"]:
            refused += 1
            assert any(rule in reason for rule in ours), case
    assert refused


def test_the_standard_agrees_with_every_host() -> None:
    accepted = 0
    for case in cases("toascii.json"):
        place = attempt(f"https://{case['input']}/x")
        if isinstance(place, str):
            # The standard lets empty and overlong labels through, and repairs spellings.
            loose = any(rule in place for rule in ("too long", "unusual", "dot"))
            assert case["output"] is None or loose, case
        else:
            accepted += 1
            assert place.host == case["output"], case
    assert accepted >= 15


urlish = st.lists(
    st.sampled_from(
        ["http", "https", "ws", ":", "/", "//", "@", "?", "#", "\\", ".", "..", "%2e", "%2f", "%"]
    )
    | st.sampled_from(
        ["a", "b.example", "127.0.0.1", "0x7f", "[::1]", "xn--", ":80", "é", "\t", " ", "１", "*"]
    )
    | st.text(max_size=3),
    max_size=10,
).map("".join)


@given(st.one_of(urlish, urlish.map("https://h.example/".__add__), urlish.map("http://".__add__)))
@example("https://h.example/%C3%A9?'")
def test_what_is_accepted_reads_the_same_to_everybody(url: str) -> None:
    """An accepted destination, written out, is itself, and the standard library finds its host."""
    place = attempt(url)
    if isinstance(place, str):
        return
    written = place.origin + place.target.decode("ascii")
    assert parse_destination(written) == place
    other = urlsplit(written)
    assert (other.hostname, other.port or {"http": 80, "ws": 80}.get(other.scheme, 443)) == (
        place.host,
        place.port,
    )
    assert other.username is None
    assert place.target.startswith(b"/")
    assert all(0x20 < byte < 0x7F for byte in place.target + place.authority)
    assert not {".", ".."} & set(place.path.split("/"))


def test_long_urls_are_parsed_too() -> None:
    url = "https://h.example/" + "a" * 10_000
    assert len(parse_destination(url).target) == 10_001


@pytest.mark.parametrize("url", sorted(ACCEPTED))
def test_a_destination_says_no_more_than_it_must_in_a_log(url: str) -> None:
    assert "?" not in parse_destination(url).origin
