"""The grammar of request heads: each case whole, byte by byte, and with more behind it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swproxy.config.config import Limits
from swproxy.http.request import RequestHead, skip_empty_lines, take_head
from swproxy.sw1.refusal import Refusal
from tests.support.hostile_requests import FRAMING, METHODS, SYNTAX, TARGET

LIMITS = Limits()
BEHIND = b"GET /behind HTTP/1.1\r\nHost: b\r\n\r\n"


def take_bytewise(data: bytes, limits: Limits = LIMITS) -> tuple[RequestHead | None, bytes]:
    buffer = b""
    for index in range(len(data)):
        seen = len(buffer)
        head, buffer = take_head(buffer + data[index : index + 1], seen, limits)
        if head is not None:
            return head, buffer + data[index + 1 :]
    return None, buffer


def parse(data: bytes) -> RequestHead:
    """Return the head of `data`, the same whether it came whole, byte by byte, or with more."""
    heads = []
    for behind in (b"", BEHIND):
        for take in (take_bytewise, lambda data: take_head(data, 0, LIMITS)):
            head, rest = take(data + behind)
            assert head is not None
            assert rest == behind
            heads.append(head)
    first, *others = heads
    for other in others:
        assert (other.method, other.target, other.headers, other.content_length) == (
            first.method,
            first.target,
            first.headers,
            first.content_length,
        )
    return first


HOSTILE = FRAMING | SYNTAX


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_head_is_refused_however_it_arrives(name: str) -> None:
    data = HOSTILE[name].replace(TARGET, b"/?X-Sw-Algorithm=SW1-HMAC-SHA256")
    for whole in (data, data + BEHIND):
        with pytest.raises(Refusal) as refused:
            take_head(whole, 0, LIMITS)
        assert refused.value.code == "request-malformed"
        with pytest.raises(Refusal) as refused:
            take_bytewise(whole)
        assert refused.value.code == "request-malformed"


@pytest.mark.parametrize("name", METHODS)
def test_methods_that_are_never_served(name: str) -> None:
    with pytest.raises(Refusal) as refused:
        take_head(METHODS[name].replace(TARGET, b"/"), 0, LIMITS)
    assert refused.value.code == "method-not-allowed"


GOOD_LINES = [
    b"GET / HTTP/1.1",
    b"GET /a/b;c=d?e=f&g=%20 HTTP/1.1",
    b"get / HTTP/1.1",
    b"M-SEARCH / HTTP/1.1",
    b"!#$%&'*+-.^_`|~ / HTTP/1.1",
    b'GET /"<>[]^`{|} HTTP/1.1',
    b"GET // HTTP/1.1",
    b"GET /? HTTP/1.0",
]


@pytest.mark.parametrize("line", GOOD_LINES)
def test_a_good_request_line_is_taken(line: bytes) -> None:
    head = parse(line + b"\r\nHost: a\r\n\r\n")
    assert b"%b %b HTTP/1.%d" % (head.method, head.target, head.http11) == line


@pytest.mark.parametrize(
    "host",
    [b"a", b"a:80", b"a:", b"127.0.0.1:3000", b"[::1]", b"[2001:db8::1]:443", b"a_b.c", b"%41"],
)
def test_a_good_host_is_taken(host: bytes) -> None:
    assert parse(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n").get(b"host") == host


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"X-A: b", b"b"),
        (b"X-A:b", b"b"),
        (b"X-A:  \t b \t ", b"b"),
        (b"X-A:", b""),
        (b"x-A: b, c: d", b"b, c: d"),
        (b"X-A: caf\xc3\xa9 \xff", b"caf\xc3\xa9 \xff"),
        (b"X-A: b\tc", b"b\tc"),
    ],
)
def test_a_good_header_is_taken(line: bytes, value: bytes) -> None:
    assert parse(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n").get(b"x-a") == value


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        (b"", 0),
        (b"Content-Length: 0\r\n", 0),
        (b"Content-Length:5\r\n", 5),
        (b"content-length: \t 123456789012345678 \r\n", 123456789012345678),
        (b"Transfer-Encoding: chunked\r\n", None),
        (b"TRANSFER-ENCODING:\tCHUNKED \r\n", None),
        (b"X-Transfer-Encoding: gzip\r\nX-Content-Length: a\r\n", 0),
    ],
)
def test_the_framing_of_a_good_head(lines: bytes, length: int | None) -> None:
    head = parse(b"POST / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
    assert head.content_length == length


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: keep-alive\r\n", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: TE , CLOSE\r\n", False),
        (b"1.1", b"Connection: TE\r\nConnection: close\r\n", False),
        (b"1.1", b"Connection: x-close\r\n", True),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", False),
    ],
)
def test_what_keeps_a_connection(version: bytes, connection: bytes, kept: bool) -> None:
    head = parse(b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + connection + b"\r\n")
    assert head.keep_alive == kept


@pytest.mark.parametrize(
    ("version", "lines", "expects_continue", "expects_other"),
    [
        (b"1.1", b"", False, False),
        (b"1.1", b"Expect: 100-continue\r\n", True, False),
        (b"1.1", b"Expect: 100-Continue\r\n", True, False),
        (b"1.1", b"Expect: 200-ok\r\n", False, True),
        (b"1.1", b"Expect:\r\n", False, True),
        (b"1.1", b"Expect: 100-continue, x\r\n", True, True),
        (b"1.1", b"Expect: 100-continue\r\nExpect: x\r\n", True, True),
        (b"1.0", b"Expect: 100-continue\r\n", False, False),
        (b"1.0", b"Expect: x\r\n", False, False),
    ],
)
def test_expectations(
    version: bytes, lines: bytes, expects_continue: bool, expects_other: bool
) -> None:
    head = parse(b"POST / HTTP/" + version + b"\r\nHost: a\r\n" + lines + b"\r\n")
    assert (head.expects_continue, head.expects_other) == (expects_continue, expects_other)


def test_http_1_0_needs_no_host() -> None:
    assert parse(b"GET / HTTP/1.0\r\n\r\n").get(b"host") is None


def test_empty_lines_before_a_request_are_skipped_however_they_arrive() -> None:
    head = parse(b"\r\n\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n")
    assert head.target == b"/a"
    assert skip_empty_lines(b"\r\n\r\n") == b""
    assert skip_empty_lines(b"\r\n\r") == b"\r"


def test_too_many_empty_lines_are_refused() -> None:
    assert skip_empty_lines(b"\r\n" * 16 + b"GET") == b"GET"
    with pytest.raises(Refusal) as refused:
        skip_empty_lines(b"\r\n" * 17 + b"GET")
    assert refused.value.code == "request-malformed"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET /" + b"a" * 2000, "target-too-long"),
        (b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", "target-too-long"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 2000, "head-too-large"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 2000 + b"\r\n\r\n", "head-too-large"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 400, "head-too-large"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 30 + b"\r\n", "too-many-headers"),
        (b"GET / HTTP/1.1\nHost: a\r\nX-A: " + b"a" * 2000, "request-malformed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_head_beyond_its_limits(data: bytes, code: str) -> None:
    limits = Limits(head_bytes=1024, header_count=20)
    with pytest.raises(Refusal) as whole:
        take_head(data, 0, limits)
    with pytest.raises(Refusal) as bytewise:
        take_bytewise(data, limits)
    assert whole.value.code == bytewise.value.code == code


def test_a_head_of_exactly_the_limit_is_taken() -> None:
    limits = Limits(head_bytes=1024, header_count=2)
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: "
    head += b"b" * (1024 - len(head) - 4) + b"\r\n\r\n"
    assert take_head(head, 0, limits)[0] is not None
    assert take_bytewise(head, limits)[0] is not None
    with pytest.raises(Refusal):
        take_head(head.replace(b"bb", b"bbb", 1), 0, limits)


MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, 200), st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b":"])
    ),
    max_size=4,
)
CHARACTERS = st.lists(st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=2)), max_size=3)


@settings(max_examples=400, deadline=None)
@given(st.one_of(MUTATIONS, CHARACTERS))
def test_a_mutated_head_is_taken_alike_whole_and_byte_by_byte_or_refused(
    mutations: list[tuple[int, bytes]],
) -> None:
    """Whatever the bytes: one answer for all ways to arrive, and no other exception."""
    data = b"POST /a?b=c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello"
    for number, inserted in mutations:
        place = number % len(data)
        data = data[:place] + inserted + data[place + 1 :]
    outcomes = []
    for take in (take_bytewise, lambda data: take_head(data, 0, LIMITS)):
        try:
            head, rest = take(data)
        except Refusal as refusal:
            outcomes.append(refusal.code)
        else:
            outcomes.append(
                repr((head.method, head.target, head.headers, head.content_length, rest))
                if head
                else rest.hex()
            )
    assert outcomes[0] == outcomes[1]
