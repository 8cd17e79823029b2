"""Patterns of an `allow` list: what they let through, and that nothing steps out of one."""

# ruff: noqa: RUF001 - look-alike characters are what this is about

import posixpath
import re
import unicodedata
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swproxy.policy.destination import Pattern, parse_destination
from swproxy.sw1.refusal import Refusal


def matches(pattern: str, url: str) -> bool:
    return Pattern.parse(pattern).matches(parse_destination(url))


MATCHING = [
    # long, and as bad as can be for a search that goes back
    ("https://h.example/p/*", "https://h.example/p/" + "." * 9000 + "x"),
    ("https://h.example/p/*", "https://h.example/p/" + "%20" * 3000 + "x"),
    ("https://h.example/p/*", "https://h.example/p/" + "/.a;" * 3000),
    ("https://api.openai.com/v1/*", "https://api.openai.com/v1/chat/completions"),
    ("https://api.openai.com/v1/*", "https://api.openai.com/v1/"),
    ("https://api.openai.com/v1/*", "https://api.openai.com/v1/?a=b"),
    ("https://api.openai.com/v1/*", "https://API.OpenAI.com:443/v1/x"),
    ("https://api.openai.com/v1/*", "wss://api.openai.com/v1/realtime"),
    ("wss://api.openai.com/v1/*", "https://api.openai.com/v1/realtime"),
    ("http://h.example/*", "ws://h.example/x"),
    ("https://h.example/*", "https://h.example"),
    ("https://h.example/*", "https://h.example/a/..%2fb"),  # nothing to escape from
    ("https://h.example", "https://h.example/"),
    ("https://h.example/", "https://h.example/?q=1"),
    ("https://h.example/exact", "https://h.example/exact?q=1"),
    ("https://h.example:8443/*", "https://h.example:8443/x"),
    ("HTTPS://H.Example/*", "https://h.example/x"),
    ("https://*.h.example/*", "https://a.h.example/x"),
    ("https://*.h.example/*", "https://b.a.h.example/x"),
    ("https://*.bücher.example/*", "https://a.xn--bcher-kva.example/x"),
    ("https://bücher.example/é/*", "https://xn--bcher-kva.example/%C3%A9/x"),
    ("https://[2606:4700:0::1]/*", "https://[2606:4700::1]/x"),
    ("https://h.example/p/*", "https://h.example/p/group%2Fproject"),
    ("https://h.example/p/*", "https://h.example/p/100%25"),
    ("https://h.example/p/*", "https://h.example/p/https:%2F%2Fx.example%2F"),
    ("https://h.example/p/*", "https://h.example/p/v1.2;a=b/..c/.d"),
    ("https://h.example/p/*", "https://h.example/p/%E2%82%AC/é"),
    ("*", "http://anything.example:8080/at/all?x"),
    ("*", "ws://[2606:4700::1]/"),
]


@pytest.mark.parametrize(("pattern", "url"), MATCHING, ids=lambda text: ascii(text)[:60])
def test_matches(pattern: str, url: str) -> None:
    assert matches(pattern, url)


DIFFERENT = [
    # paths
    ("https://api.openai.com/v1/*", "https://api.openai.com/v1"),
    ("https://api.openai.com/v1/*", "https://api.openai.com/v11"),
    ("https://api.openai.com/v1/*", "https://api.openai.com/v11/x"),
    ("https://api.openai.com/v1/*", "https://api.openai.com/V1/x"),
    ("https://api.openai.com/v1/*", "https://api.openai.com//v1/x"),
    ("https://api.openai.com/v1/*", "https://api.openai.com/?/v1/x"),
    ("https://api.openai.com/v1/*", "https://api.openai.com/%76%31/x"),
    ("https://h.example/exact", "https://h.example/exact/"),
    ("https://h.example/exact", "https://h.example/exact/x"),
    ("https://h.example", "https://h.example/x"),
    # hosts
    ("https://api.openai.com/v1/*", "https://api.openai.com.evil.com/v1/x"),
    ("https://api.openai.com/v1/*", "https://evilapi.openai.com/v1/x"),
    ("https://api.openai.com/v1/*", "https://openai.com/v1/x"),
    ("https://api.openai.com/v1/*", "https://api-openai.com/v1/x"),
    ("https://*.h.example/*", "https://h.example/x"),
    ("https://*.h.example/*", "https://evilh.example/x"),
    ("https://*.h.example/*", "https://a.h.example.evil/x"),
    ("https://h.example/*", "https://a.h.example/x"),
    # schemes and ports
    ("https://h.example/*", "http://h.example/x"),
    ("https://h.example/*", "ws://h.example/x"),
    ("https://h.example/*", "http://h.example:443/x"),
    ("http://h.example/*", "https://h.example:80/x"),
    ("https://h.example/*", "https://h.example:8443/x"),
    ("https://h.example:8443/*", "https://h.example/x"),
]


@pytest.mark.parametrize(("pattern", "url"), DIFFERENT)
def test_does_not_match(pattern: str, url: str) -> None:
    assert not matches(pattern, url)


ESCAPES = [
    "..%2fadmin",
    "..%2Fadmin",
    "%2e%2e%2fadmin",
    ".%2e%2fadmin",
    "x%2f..%2f..%2fadmin",
    "..%252fadmin",
    "%252e%252e/admin",
    "%25252e%25252e/admin",
    "%2525252525252e/admin",
    "..%5cadmin",
    "..%255cadmin",
    "%5c..%5cadmin",
    "a%5cb",
    "..;/admin",
    "..;a=b/admin",
    "..%3b/admin",
    ".;/..;/admin",
    "%2e%2e;/admin",
    "..%00/admin",
    "x%00",
    "..%20/admin",
    "%20../admin",
    "..%09/admin",
    ".../admin",
    "%c0%ae%c0%ae/admin",
    "%c0%ae%c0%ae%c0%afadmin",
    "%e0%80%ae%e0%80%ae/admin",
    "%u002e%u002e/admin",
    "%uff0e%uff0e/admin",
    "．．/admin",
    "%ef%bc%8e%ef%bc%8e%ef%bc%8fadmin",
    "‥/admin",
    "%e2%80%a5%e2%88%95admin",
    "." * 9000 + "/",
    "%",
    "%2",
    "%zz",
    "%e9",
]


@pytest.mark.parametrize("tail", ESCAPES, ids=lambda text: ascii(text)[:60])
def test_a_path_does_not_escape_its_pattern(tail: str) -> None:
    url = f"https://h.example/v1/{tail}"
    assert not matches("https://h.example/v1/*", url)
    assert matches("https://h.example/*", url)


pieces = st.lists(
    st.sampled_from(["..", ".", "%2e", "%2E", "%252e", "%25", "2e", "/", "%2f", "%252f", "%5c"])
    | st.sampled_from(["%255C", ";", "%3b", "%00", "%20", "%0a", "%2", "a", "%41", "é", "．"])
    | st.sampled_from(["%c0%ae", "%ef%bc%8e", "%e9", "%25252e"]),
    max_size=8,
).map("".join)


def lenient_servers(path: str) -> list[str]:
    """Return where servers that decode, fold, trim and truncate in every way look for `path`."""
    found = []
    for depth in range(5):
        decoded = path
        for _ in range(depth):
            decoded = unquote(decoded, errors="replace")
        folded = unicodedata.normalize("NFKC", decoded)
        for cut in (decoded, folded, decoded.partition("\0")[0]):
            for slashes in (cut, cut.replace("\\", "/")):
                parts = [part.partition(";")[0].strip() for part in slashes.split("/")]
                found += [slashes, "/".join(parts)]
    return [posixpath.normpath(where) + "/" for where in found]


@given(pieces)
@example("%25252e%25252e/")
@example("..;/x")
def test_whatever_matches_stays_below_for_every_server(tail: str) -> None:
    """No server, however it decodes, finds a matching path outside the pattern's prefix."""
    try:
        place = parse_destination(f"https://h.example/v1/{tail}")
    except Refusal:
        return
    if Pattern.parse("https://h.example/v1/*").matches(place):
        for where in lenient_servers(place.path):
            assert where.startswith("/v1/")


BAD_PATTERNS = {
    "": "scheme",
    "api.openai.com/v1/*": "scheme",
    "//api.openai.com/*": "scheme",
    "ftp://h.example/*": "scheme",
    "*://h.example/*": "scheme",
    "https://*/*": "*",
    "https://*": "*",
    "https://**.h.example/*": "*",
    "https://a.*.example/*": "*",
    "https://a*.h.example/*": "*",
    "https://*a.h.example/*": "*",
    "https://h.example*": "*",
    "https://h.*/*": "*",
    "https://h.example:*/*": "*",
    "https://h.example/v1*": "*",
    "https://h.example/*/x": "*",
    "https://h.example/*/*": "*",
    "https://h.example/**": "*",
    "https://h.example?a=/*": "query",
    "https://h.example/a?b": "query",
    "https://h.example/a#b": "fragment",
    "https://user@h.example/*": "user name",
    "https://h.example./*": "dot",
    "https://h.example:/*": "port",
    "https://h.example:0/*": "port",
    "https://127.1/*": "unusual spelling",
    "https://*.127.0.0.1/*": "address",
    "https://*.[::1]/*": "address",
    "https://h.example/a/../*": "dot segment",
    "https://h.example/a%2f../*": "different ways",
    "https://h.example/a%5c/*": "different ways",
    "https:// h.example/*": "blank",
    "https:///*": "no host",
}


@pytest.mark.parametrize("text", BAD_PATTERNS)
def test_refuses_a_bad_pattern_with_the_reason(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(BAD_PATTERNS[text])):
        Pattern.parse(text)


def test_a_pattern_keeps_its_text() -> None:
    assert Pattern.parse("https://*.bücher.example/v1/*").text == "https://*.bücher.example/v1/*"


@pytest.mark.parametrize(
    "url", sorted({url for _, url in MATCHING}), ids=lambda text: ascii(text)[:60]
)
def test_a_destination_matches_itself_as_a_pattern(url: str) -> None:
    place = parse_destination(url)
    assert Pattern.parse(place.origin + place.path).matches(place)
