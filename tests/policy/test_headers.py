"""Header policy: what ends here in each direction, and what always arrives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy.policy.headers import (
    ANSWER_HEADERS,
    configurable,
    downstream_headers,
    upstream_headers,
)
from swproxy.policy.page_headers import DEFAULT_FROM_PAGE, PageHeaders

Headers = list[tuple[bytes, bytes]]


def words(text: str) -> list[str]:
    return text.split()


KEY = (b"Authorization", b"Bearer sk-canary-1234567890")
HOST = (b"Host", b"api.example")


def up(
    *client: tuple[bytes, bytes],
    signed: tuple[str, ...] = (),
    app: tuple[tuple[bytes, bytes], ...] = (KEY,),
    from_page: tuple[str, ...] = ("*",),
    websocket: bool = False,
) -> Headers:
    page = PageHeaders(from_page)
    return upstream_headers(
        client, signed, app, b"api.example", from_page=page, websocket=websocket
    )


def down(*upstream: tuple[bytes, bytes], app: tuple[tuple[bytes, bytes], ...] = ()) -> Headers:
    """Return what is relayed of an answer that says how it is cached, without what is added."""
    headers = downstream_headers([(b"cache-control", b"private"), *upstream], app)
    assert headers[0] == (b"cache-control", b"private")
    assert tuple(headers[-len(ANSWER_HEADERS) :]) == ANSWER_HEADERS
    return headers[1 : -len(ANSWER_HEADERS)]


# Upstream

HOP_BY_HOP = words(
    """
    connection keep-alive proxy-connection proxy-authenticate proxy-authorization proxy-anything te
    trailer transfer-encoding upgrade http2-settings
    """
)

REMADE = ["host", "content-length", "expect", "max-forwards"]

CLIENT_ONLY = words(
    """
    authorization cookie cookie2 origin referer dnt from forwarded via priority
    sec-fetch-mode sec-fetch-site sec-fetch-dest sec-ch-ua sec-gpc sec-purpose sec-websocket-key
    x-forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-prefix x-real-ip
    x-client-ip true-client-ip cf-connecting-ip access-control-request-method
    access-control-request-headers access-control-request-private-network upgrade-insecure-requests
    x-http-method-override x-http-method x-method-override x-original-url x-rewrite-url
    x-original-method x-original-uri
    """
)

TRAVELLING = words(
    """
    accept accept-encoding accept-language user-agent content-type content-encoding range if-range
    if-none-match if-modified-since cache-control last-event-id idempotency-key x-custom prefer
    x-request-id traceparent secret x-sectional forwarder
    """
)


@pytest.mark.parametrize("name", HOP_BY_HOP + REMADE)
@pytest.mark.parametrize("signed", [False, True])
def test_never_goes_upstream_even_if_signed(name: str, *, signed: bool) -> None:
    for spelled in {name, name.replace("-", "_")}:
        covered = (spelled,) if signed else ()
        assert up((spelled.encode(), b"value"), signed=covered) == [HOST, KEY]


@pytest.mark.parametrize("name", CLIENT_ONLY)
def test_goes_upstream_only_if_signed(name: str) -> None:
    field = (name.encode(), b"value")
    assert up(field, app=()) == [HOST]
    assert up((name.replace("-", "_").encode(), b"value"), app=()) == [HOST]
    assert up(field, signed=(name,), app=()) == [HOST, field]
    assert up(field, signed=("x-other",), app=()) == [HOST]


@pytest.mark.parametrize("name", ["x-user-id", "x_user_id", "x-forwarded-for", "accept"])
@pytest.mark.parametrize("from_page", [("*",), DEFAULT_FROM_PAGE])
def test_the_twin_of_a_signed_field_does_not_travel(name: str, from_page: tuple[str, ...]) -> None:
    signed = (name.encode(), b"1")
    spelled = [name.translate({0x2D: mark, 0x5F: mark}) for mark in map(ord, "-_.~!|")]
    twins = [(each.encode(), b"2") for each in spelled if each != name]
    got = up(*twins, signed, *twins, signed=(name,), app=(), from_page=from_page)
    assert got == [HOST, signed]


def test_two_spellings_that_are_both_signed_both_travel() -> None:
    fields = [(b"x-user-id", b"1"), (b"x_user_id", b"2")]
    assert up(*fields, signed=("x-user-id", "x_user_id"), app=()) == [HOST, *fields]


@pytest.mark.parametrize("name", CLIENT_ONLY)
def test_goes_upstream_if_named_but_under_no_star(name: str) -> None:
    field = (name.encode(), b"value")
    assert up(field, app=(), from_page=(name.title(),)) == [HOST, field]
    assert up(field, app=(), from_page=("*", name[:1] + "*")) == [HOST]


FROM_FETCH = words(
    """
    accept accept-encoding accept-language cache-control content-language content-type if-match
    if-modified-since if-none-match if-range if-unmodified-since last-event-id pragma range
    user-agent x-stainless-arch x-stainless-retry-count
    """
)

ORDERS = words(
    """
    openai-organization openai-project stripe-account stripe-context impersonate-user
    impersonate-group impersonate-extra-scopes sudo x-original-url x-original-method
    x-goog-user-project x-ms-client-principal x-api-key api-key x-amz-security-token x-user-id
    x-custom x-tenant-id anthropic-dangerous-direct-browser-access accept-anything x-stainless
    """
)


def test_by_default_passes_what_fetch_and_openai_need_and_nothing_else() -> None:
    sent = [(name.encode(), b"value") for name in FROM_FETCH + ORDERS]
    kept = sent[: len(FROM_FETCH)]
    assert up(*sent, app=(), from_page=DEFAULT_FROM_PAGE) == [HOST, *kept]
    signed = tuple(ORDERS)
    assert up(*sent, signed=signed, app=(), from_page=DEFAULT_FROM_PAGE) == [HOST, *sent]


def test_an_application_s_list_replaces_the_default() -> None:
    sent = [(b"accept", b"a"), (b"x-a", b"b"), (b"x_a", b"c"), (b"x-b-c", b"d"), (b"x-b", b"e")]
    assert up(*sent, app=(), from_page=("X-A", "X-B-*")) == [HOST, sent[1], sent[3]]
    assert up(*sent, app=(), from_page=()) == [HOST]


@pytest.mark.parametrize(
    "pattern", ["", "*a", "a*b", "x y", "a:", "**", "é", "sec-*", "X-Forwarded-*", "x_forwarded_*"]
)
def test_a_pattern_that_could_match_nothing_is_none(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"is not a header name|one by one"):
        PageHeaders((pattern,))


@pytest.mark.parametrize("name", TRAVELLING)
def test_goes_upstream(name: str) -> None:
    field = (name.encode(), b"value")
    assert up(field) == [HOST, field, KEY]


def test_duplicates_and_order_are_kept_host_first_ours_last() -> None:
    fields = [(b"accept", b"a"), (b"x-b", b"1"), (b"accept", b"b"), (b"x-b", b"2"), (b"x-a", b"")]
    assert up(*fields) == [HOST, *fields, KEY]


@pytest.mark.parametrize(
    "connection",
    [b"x-foo", b"close, X-Foo", b"x-bar,x-foo , keep-alive", b"X_FOO", b",,x-foo,", b"\tx-foo\t"],
)
def test_what_the_client_calls_hop_by_hop_ends_here(connection: bytes) -> None:
    assert up((b"x-foo", b"1"), (b"connection", connection)) == [HOST, KEY]


def test_every_connection_field_counts() -> None:
    client = [(b"connection", b"x-a"), (b"x-a", b"1"), (b"x-b", b"1"), (b"connection", b"x-b")]
    assert up(*client) == [HOST, KEY]


def test_connection_cannot_take_away_what_is_ours() -> None:
    """Row 5 of the classic hop-by-hop abuse: the key, the host and the signed stay."""
    client = (
        (b"connection", b"authorization, host, x-foo, x-signed, x-api-key"),
        (b"te", b"trailers"),
        (b"x-foo", b"1"),
        (b"x-signed", b"user 42"),
        (b"authorization", b"Bearer theirs"),
    )
    api_key = (b"X-Api-Key", b"canary")
    assert up(*client, signed=("x-signed",), app=(KEY, api_key)) == [
        HOST,
        (b"x-signed", b"user 42"),
        KEY,
        api_key,
    ]


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key", b"x_api_key", b"x_api-key"])
def test_the_application_replaces_the_clients_field(name: bytes) -> None:
    app = (KEY, (b"X-Api-Key", b"ours"))
    assert up((name, b"theirs"), (name, b"again"), app=app) == [HOST, *app]
    assert up((name, b"theirs"), signed=(name.decode(),), app=app) == [HOST, *app]


def test_the_application_may_have_a_field_twice() -> None:
    app = ((b"X-Tag", b"1"), (b"x-tag", b"2"))
    assert up((b"x-tag", b"theirs"), app=app) == [HOST, *app]


def test_a_websocket_handshake_travels_but_nothing_else_of_the_browser() -> None:
    handshake = [
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-protocol", b"chat"),
        (b"sec-websocket-extensions", b"permessage-deflate"),
    ]
    client = [
        (b"connection", b"Upgrade"),
        (b"upgrade", b"websocket"),
        *handshake,
        (b"sec-fetch-mode", b"websocket"),
        (b"sec-websocket-accept", b"not a client's field"),
        (b"origin", b"https://app.example"),
    ]
    for from_page in [("*",), DEFAULT_FROM_PAGE, ()]:
        assert up(*client, websocket=True, from_page=from_page) == [HOST, *handshake, KEY]
    twin = (b"sec_websocket_protocol", b"chat")
    assert up(twin, websocket=True) == [HOST, KEY]
    assert up(*client) == [HOST, KEY]


@pytest.mark.parametrize("name", HOP_BY_HOP + REMADE)
def test_an_application_cannot_configure_framing(name: str) -> None:
    assert not configurable(name.encode())
    assert not configurable(name.title().replace("-", "_").encode())


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "Origin", "User-Agent", "X-Api-Key"])
def test_an_application_can_configure_the_rest(name: str) -> None:
    assert configurable(name.encode())


names = st.sampled_from([name.encode() for name in HOP_BY_HOP + REMADE + CLIENT_ONLY + TRAVELLING])
fields = st.tuples(names | st.from_regex(rb"[a-z_-]{1,12}", fullmatch=True), st.binary(max_size=9))
options = st.lists(names | st.sampled_from([b"Authorization", b"X-Signed"])).map(b", ".join)


@given(st.lists(fields, max_size=12), options)
def test_our_fields_arrive_whatever_the_client_sends(client: Headers, connection: bytes) -> None:
    """Host once and first, ours last and once, the signed one kept, nothing invented."""
    signed = (b"x-signed", b"yes")
    sent = [*client, (b"connection", connection), signed]
    got = up(*sent, signed=("x-signed",))
    assert got[0] == HOST
    assert got[-1] == KEY
    assert [field for field in got if field[0].lower() == b"authorization"] == [KEY]
    assert [field for field in got if field[0].lower() == b"host"] == [HOST]
    assert signed in got
    assert all(field in sent for field in got[1:-1])
    nominated = {option.strip().lower() for option in connection.split(b",")}
    assert not nominated & {name for name, _ in got[1:-1] if name != b"x-signed"}


# Downstream

UPSTREAM_ONLY = words(
    """
    set-cookie set-cookie2 clear-site-data alt-svc strict-transport-security expect-ct
    public-key-pins public-key-pins-report-only nel report-to reporting-endpoints
    content-security-policy content-security-policy-report-only
    x-frame-options permissions-policy feature-policy refresh
    service-worker-allowed origin-agent-cluster timing-allow-origin www-authenticate no-vary-search
    use-as-dictionary speculation-rules accept-ch critical-ch
    access-control-allow-origin access-control-allow-credentials access-control-expose-headers
    access-control-anything cross-origin-opener-policy cross-origin-embedder-policy
    cross-origin-resource-policy referrer-policy x-content-type-options x-request-id
    x-accel-redirect x-accel-buffering x-accel-expires x-accel-charset x-sendfile
    x-lighttpd-send-file x-reproxy-url surrogate-control cdn-cache-control
    content-length proxy-authenticate proxy-status max-forwards
    secure-session-registration secure-session-challenge sec-session-registration
    attribution-reporting-register-source attribution-reporting-register-trigger
    x-litespeed-location x-litespeed-cache-control x-accel-limit-rate x-sendfile-type
    x-lighttpd-send-tempfile x-reproxy-file netlify-cdn-cache-control akamai-cache-control
    permissions-policy-report-only origin-trial observe-browsing-topics
    """
)

RELAYED = words(
    """
    content-type content-encoding content-language content-disposition content-range accept-ranges
    date server etag last-modified vary age expires pragma location retry-after link allow
    x-ratelimit-remaining openai-processing-ms server-timing sec-websocket-accept
    sec-websocket-protocol x-cookie reset-cookie
    """
)


@pytest.mark.parametrize("name", HOP_BY_HOP + UPSTREAM_ONLY)
def test_ends_here_on_its_way_down(name: str) -> None:
    for spelled in {name, name.replace("-", "_")}:
        assert down((spelled.encode(), b"value")) == []


@pytest.mark.parametrize("name", RELAYED)
def test_is_relayed(name: str) -> None:
    assert down((name.encode(), b"value")) == [(name.encode(), b"value")]


def test_what_the_upstream_calls_hop_by_hop_ends_here() -> None:
    assert down((b"connection", b"close, X-Hop"), (b"x-hop", b"1"), (b"x-end", b"2")) == [
        (b"x-end", b"2")
    ]


def test_duplicates_and_order_are_kept() -> None:
    fields = [(b"link", b"a"), (b"x-b", b"1"), (b"link", b"b"), (b"vary", b"accept")]
    assert down(*fields) == fields


def test_an_answer_that_says_nothing_of_caching_is_not_stored() -> None:
    assert (b"Cache-Control", b"no-store") in downstream_headers([(b"etag", b'"a"')])
    for said in [(b"cache-control", b"max-age=60"), (b"expires", b"0")]:
        assert (b"Cache-Control", b"no-store") not in downstream_headers([said])


def test_an_answer_opened_as_a_page_is_inert_and_streams_through_nginx() -> None:
    headers = dict(downstream_headers([]))
    assert headers[b"Content-Security-Policy"] == b"sandbox"
    assert headers[b"X-Content-Type-Options"] == b"nosniff"
    assert headers[b"X-Accel-Buffering"] == b"no"
    assert headers[b"Cross-Origin-Resource-Policy"] == b"cross-origin"


@pytest.mark.parametrize("control", [*range(9), *range(0x0A, 0x20), 0x7F])
def test_a_control_character_fails_the_answer(control: int) -> None:
    for name in (b"x-fine", b"set-cookie"):
        with pytest.raises(ValueError, match="control character"):
            downstream_headers([(b"etag", b"a"), (name, b"canary" + bytes([control]))])


def test_tabs_and_bytes_beyond_ascii_are_values() -> None:
    field = (b"x-name", b"a\tb \xc3\xa9 \xff")
    assert down(field) == [field]


def test_a_field_that_repeats_the_application_s_key_ends_here() -> None:
    echoed = (b"x-echo", b'{"got": "' + KEY[1] + b'"}')
    assert down(echoed, (b"etag", b"a"), app=(KEY,)) == [(b"etag", b"a")]
    assert down(echoed, app=()) == [echoed]
