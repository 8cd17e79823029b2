"""Verifying: every URL that a real client makes for this request, and nothing else."""

import hmac
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from hashlib import sha256
from urllib.parse import parse_qsl, quote, quote_plus, urlencode

import ada_url
import pytest
import requests
import signway_sdk
from hypothesis import assume, given
from hypothesis import strategies as st

from swproxy.sw1 import verify as verifying
from swproxy.sw1.canonical import sign_digest, signing_key
from swproxy.sw1.claims import parse_target
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.verify import Verification, mismatch, verify
from tests.support.sw1_cases import (
    REQUESTS,
    VECTORS,
    Request,
    Vector,
    accepted,
    target_of,
    wire_headers,
)

Respell = Callable[[str], str]


def javascript(value: str) -> str:
    return quote(value, "!'()*")


def lower_case_escapes(value: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else quote(c, "").lower() for c in value)


def every_byte(value: str) -> str:
    return "".join(f"%{byte:02X}" for byte in value.encode())


# How a query may be written anew on its way: by a URLSearchParams, a proxy, a library.
RESPELLINGS: Sequence[Respell] = [
    quote_plus,
    javascript,
    lambda value: quote(value, ""),
    lambda value: quote(value, "/:;,$@"),
    lower_case_escapes,
    every_byte,
]


def respelt(target: bytes, write: Respell, reverse: bool = False) -> bytes:
    path, _, query = target.decode().partition("?")
    pairs = [f"{name}={write(value)}" for name, value in parse_qsl(query, True)]
    return f"{path}?{'&'.join(reversed(pairs) if reverse else pairs)}".encode()


def accepts_vector(vector: Vector, target: bytes) -> bool:
    body = None if vector.body is None else vector.body.encode()
    claims = accepted(
        target,
        vector.method,
        wire_headers(vector.headers, body),
        body or b"",
        (vector.secret,),
        vector.date.timestamp(),
    )
    return claims is not None and claims.app_id == vector.id


@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_the_published_clients_urls(vector: Vector) -> None:
    target = target_of(vector.url)
    assert accepts_vector(vector, target)
    for write in RESPELLINGS:
        assert accepts_vector(vector, respelt(target, write))
        assert accepts_vector(vector, respelt(target, write, reverse=True))
    browsers = ada_url.URL(vector.url).href
    assert accepts_vector(vector, target_of(browsers))
    assert accepts_vector(vector, target_of(vector.url + "&utm_source=x"))
    wrong = replace(vector, secret=vector.secret + "x")
    assert not accepts_vector(wrong, target)


def test_there_are_as_many_vectors_as_were_published() -> None:
    assert len(VECTORS) == 76


def sent_by_requests(url: str) -> bytes:
    """Return the target that a widespread Python client would send."""
    target: str = requests.Request("GET", url).prepare().path_url
    return target.encode()


def sent_by_a_browser(url: str) -> bytes:
    """Return the target that a WHATWG URL parser makes of it: browsers, Node, Deno."""
    return target_of(ada_url.URL(url).href)


@given(REQUESTS)
def test_whatever_the_published_python_client_signs(request: Request) -> None:
    assume(not isinstance(request.body, bytes))
    url = request.sign_with_sdk()
    for target in (sent_by_requests(url), sent_by_a_browser(url)):
        claims = request.accepted(target)
        assert claims is not None
        assert claims.proxy_url in (request.proxy_url, as_written(request.proxy_url))


def as_written(url: str) -> str:
    """Return a URL as the published Python client writes it down."""
    signed: str = signway_sdk.sign_url("i", "s", "http://h", url, 1, "GET")
    return dict(parse_qsl(signed.partition("?")[2], True))["X-Sw-Proxy"]


@given(REQUESTS, st.sampled_from(RESPELLINGS), st.booleans())
def test_spelt_anew_on_its_way(request: Request, write: Respell, reverse: bool) -> None:
    target = respelt(sent_by_requests(request.sign()), write, reverse)
    assert request.accepted(target) is not None


def signed_as(write: Respell, request: Request) -> bytes:
    """Sign as a client that spells values its own way; return the target."""
    path, _, query = target_of(request.sign()).decode().partition("?")
    pairs = [f"{name}={write(value)}" for name, value in parse_qsl(query, True)][:-1]
    text = f"{request.method}\n{path}\n{'&'.join(sorted(pairs))}\n\n\n\n"
    date = request.date.strftime("%Y%m%dT%H%M%SZ")
    digest = sha256(text.encode()).hexdigest()
    to_sign = f"SW1-HMAC-SHA256\n{date}\n{date[:8]}\n{digest}"
    day_key = hmac.digest(b"SW1-HMAC-SHA256" + request.secret.encode(), date[:8].encode(), "sha256")
    signature = hmac.digest(day_key, to_sign.encode(), "sha256").hex()
    return f"{path}?{'&'.join(pairs)}&X-Sw-Signature={signature}".encode()


@pytest.mark.parametrize("write", RESPELLINGS)
def test_a_client_with_a_spelling_of_its_own_is_taken_as_received(write: Respell) -> None:
    request = Request(proxy_url="https://api.openai.com/a b!'()*~/é?q=+")
    assert request.accepted(signed_as(write, request)) is not None


@pytest.mark.parametrize("write", RESPELLINGS[:3])
@pytest.mark.parametrize("on_the_way", RESPELLINGS)
def test_the_clients_spellings_survive_being_spelt_anew(
    write: Respell, on_the_way: Respell
) -> None:
    request = Request(id="a*b c", proxy_url="https://api.openai.com/a b!'()*~/é?q=+")
    target = signed_as(write, request)
    assert request.accepted(respelt(target, on_the_way)) is not None
    browsers = sent_by_a_browser("https://edge.example" + target.decode())
    assert request.accepted(browsers) is not None


def test_a_query_written_by_a_form_serializer() -> None:
    request = Request(proxy_url="https://api.openai.com/a b!'()*~")
    target = signed_as(javascript, request)
    path, _, query = target.decode().partition("?")
    again = urlencode(parse_qsl(query, True)).replace("%2A", "*").replace("~", "%7E")
    assert request.accepted(f"{path}?{again}".encode()) is not None


# --- and nothing else ---------------------------------------------------------------------------


@given(
    REQUESTS,
    st.sampled_from(
        [
            "X-Sw-Credential",
            "X-Sw-Date",
            "X-Sw-Expires",
            "X-Sw-Proxy",
            "X-Sw-SignedHeaders",
            "X-Sw-Body",
            "X-Sw-Signature",
        ]
    ),
    st.data(),
)
def test_any_change_of_a_decoded_value_is_refused(
    request: Request, name: str, data: st.DataObject
) -> None:
    path, _, query = sent_by_requests(request.sign()).decode().partition("?")
    values = dict(parse_qsl(query, True))
    old = values[name]
    if name == "X-Sw-Date":
        # A well-formed date, with the scope of its day, still valid: only the signature objects.
        day = request.date + timedelta(seconds=data.draw(st.integers(1, 60)))
        values[name] = day.strftime("%Y%m%dT%H%M%SZ")
        values["X-Sw-Credential"] = f"{request.id}/{values[name][:8]}"
    elif name == "X-Sw-Expires":
        values[name] = str(data.draw(st.integers(1, 604_800)))
    elif name == "X-Sw-Body":
        values[name] = {"true": "false", "false": "true"}[old]
    elif name == "X-Sw-Credential":
        values[name] = data.draw(st.text(min_size=1)) + old[-9:]
    else:
        place = data.draw(st.integers(0, len(old)))
        length = data.draw(st.integers(0, 2))
        alphabet = "0123456789abcdef" if name == "X-Sw-Signature" else None
        insertion = data.draw(st.text(alphabet, max_size=2) if alphabet else st.text(max_size=2))
        values[name] = old[:place] + insertion + old[place + length :]
    assume(values[name] != old)
    write = data.draw(st.sampled_from(RESPELLINGS))
    target = f"{path}?{'&'.join(f'{key}={write(value)}' for key, value in values.items())}"
    assert_refused(lambda: request.accepted(target.encode()) is not None)


def assert_refused(attempt: Callable[[], bool]) -> None:
    """Check that an attempt is refused with a code, or does not match."""
    try:
        matched = attempt()
    except Refusal:
        matched = False
    assert not matched


@given(REQUESTS, REQUESTS)
def test_any_other_method_header_body_or_secret_is_refused(signed: Request, sent: Request) -> None:
    target = sent_by_requests(signed.sign())
    changes: dict[str, object] = {"method": sent.method, "secret": sent.secret}
    if signed.body is not None and sent.body is not None:
        changes["body"] = sent.body
    if signed.headers:
        name = min(signed.headers)
        changes["headers"] = {**signed.headers, name: signed.headers[name] + "x"}
    for name, value in changes.items():
        if value == getattr(signed, name):
            continue
        changed = replace(signed, **{name: value})  # type: ignore[arg-type]
        if name == "body" and changed.content == signed.content:
            continue
        assert_refused(lambda changed=changed: changed.accepted(target) is not None)  # type: ignore[misc]


@given(REQUESTS.filter(lambda request: bool(request.content)), st.data())
def test_any_changed_byte_of_the_body_is_refused(request: Request, data: st.DataObject) -> None:
    target = sent_by_requests(request.sign())
    content = bytearray(request.content or b"")
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    assert replace(request, body=bytes(content)).accepted(target) is None
    assert replace(request, body=bytes(content[:-1])).accepted(target) is None
    assert replace(request, body=bytes(content) + b"\0").accepted(target) is None


def test_truncated_altered_and_extended_signatures() -> None:
    request = Request()
    url = request.sign()
    target, signature = target_of(url)[:-64], url[-64:]
    dice = random.Random(1)
    altered = [signature[:n] for n in range(64)]
    altered += [signature + more for more in ("0", "00", "\0", " ", "%00", "&", signature)]
    altered += [
        signature.upper(),
        "0" * 64,
        "f" * 64,
        signature[::-1],
        signature[32:] + signature[:32],
    ]
    altered += [f"{int(signature, 16) ^ (1 << bit):064x}" for bit in range(256)]
    altered += [f"{dice.getrandbits(256):064x}" for _ in range(100)]
    assert request.accepted(target + signature.encode()) is not None
    for text in altered:
        if text not in (signature, signature + "&"):
            assert_refused(
                lambda text=text: request.accepted(target + text.encode()) is not None  # type: ignore[misc]
            )


def test_a_path_is_part_of_what_is_signed() -> None:
    request = Request(host="https://edge.example/sw")
    target = target_of(request.sign())
    assert target.startswith(b"/sw/?")
    for path in (b"/sw/", b"/%73w/"):
        assert request.accepted(path + target[4:]) is not None
    for path in (b"/", b"/sw", b"/sw//", b"/sw/x", b"/SW/", b"/%2573w/"):
        assert request.accepted(path + target[4:]) is None


# --- secrets ------------------------------------------------------------------------------------


def test_rotation_takes_either_of_two_secrets() -> None:
    target = target_of(Request(secret="new").sign())
    for secrets in (["new"], ["new", "old"], ["old", "new"]):
        assert accepted(target, secrets=secrets) is not None
    for secrets in (["old"], ["old", "older"], [""], []):
        assert accepted(target, secrets=secrets) is None
    assert accepted(target, secrets=None) is None
    with pytest.raises(ValueError, match="secrets"):
        accepted(target, secrets=["new", "old", "older"])


def test_unknown_and_wrong_take_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_of(Request(proxy_url="https://api.openai.com/!").sign())
    work: list[str] = []

    def counting(name: str) -> None:
        original = getattr(verifying, name)

        def counted(*arguments: object) -> object:
            work.append(name)
            return original(*arguments)

        monkeypatch.setattr(verifying, name, counted)

    for name in ("sha256", "signing_key", "sign_digest"):
        counting(name)
    traces = []
    for secrets in (None, [], ["wrong"], ["wrong", "wronger"], ["my-secret"], ["x", "my-secret"]):
        work.clear()
        accepted(target, secrets=secrets)
        traces.append(list(work))
    assert all(trace == traces[0] for trace in traces)
    assert traces[0].count("signing_key") == 2


def test_what_the_stand_in_secret_signs_is_not_accepted() -> None:
    target = target_of(Request(secret=verifying._DUMMY).sign())
    for secrets in (None, [], ["my-secret"]):
        assert accepted(target, secrets=secrets) is None


def test_one_answer_says_no_to_all() -> None:
    assert mismatch().code == "signature-mismatch"
    assert str(mismatch()) == str(mismatch())


# --- headers ------------------------------------------------------------------------------------


def signed_header_attempt(sent: list[tuple[bytes, bytes]], value: str = "a") -> bool:
    target = target_of(Request(headers={"X-Foo": value}).sign())
    return accepted(target, headers=sent) is not None


def test_a_signed_header_must_come_exactly_once() -> None:
    assert signed_header_attempt([(b"accept", b"*/*"), (b"x-foo", b"a"), (b"x-bar", b"b")])
    with pytest.raises(Refusal) as caught:
        signed_header_attempt([(b"x-bar", b"a")])
    assert caught.value.code == "signed-header-missing"
    assert "'x-foo'" in caught.value.detail
    for twice in ([b"a", b"a"], [b"a", b"b"], [b"b", b"a"]):
        with pytest.raises(Refusal) as caught:
            signed_header_attempt([(b"x-foo", value) for value in twice])
        assert caught.value.code == "signed-header-duplicate"


def test_a_signed_value_is_compared_byte_for_byte_but_for_space_around_it() -> None:
    assert signed_header_attempt([(b"x-foo", b" \ta\t ")])
    assert signed_header_attempt([(b"x-foo", "é".encode())], "é")
    assert signed_header_attempt([(b"x-foo", b"a  b")], " a  b ")
    for other in (b"A", b"", b"a b", b"a\x0b", b"\xa0a", b"a,a"):
        assert not signed_header_attempt([(b"x-foo", other)])
    assert not signed_header_attempt([(b"x-foo", b"\xe9")], "é")
    assert not signed_header_attempt([(b"x-foo", b"a b")], "a  b")


@pytest.mark.parametrize("value", [b"a\nx-bar:b", b"a\r", b"a\0"])
def test_a_line_break_in_a_signed_header_forges_no_line(value: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        signed_header_attempt([(b"x-foo", value)])
    assert caught.value.code == "signed-header-invalid"


def test_lines_and_names_are_sorted_each_for_itself() -> None:
    request = Request(headers={"X-A": "1", "X-A-B": "2", "X!": "3"})
    url = signway_sdk.sign_url(
        "my-id", "my-secret", "http://h", request.proxy_url, 600, "GET",
        dict(request.headers or {}), None, request.date,
    )  # fmt: skip
    assert request.accepted(target_of(url)) is not None


# --- bodies -------------------------------------------------------------------------------------


def counted(unit: str, body: bytes) -> int:
    if unit == "bytes":
        return len(body)
    text = body.decode()
    return len(text) if unit == "points" else len(text.encode("utf-16-le")) // 2


def signed_with_length(length: int, body: bytes) -> bytes:
    """Sign a body with any Content-Length at all: as a header, with the body appended by hand."""
    request = Request(method="POST", body=body)
    path, _, query = target_of(request.sign()).decode().partition("?")
    pairs = query.split("&")[:-1]
    head = f"POST\n{path}\n{'&'.join(sorted(pairs))}\ncontent-length:{length}\n\ncontent-length\n"
    digest = sha256(head.encode() + body).hexdigest()
    key = signing_key("my-secret", "20261122")
    signature = sign_digest(key, "20261122T120000Z", digest).hex()
    return f"{path}?{'&'.join(pairs)}&X-Sw-Signature={signature}".encode()


@pytest.mark.parametrize("unit", ["bytes", "points", "units"])
@pytest.mark.parametrize("body", ["", "plain", "café", "😀", "a😀é\u2028", "\ufffd" * 100])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_content_length_may_count_bytes_code_points_or_utf_16_units(
    unit: str, body: str, chunked: bool, step: int
) -> None:
    content = body.encode()
    target = signed_with_length(counted(unit, content), content)
    headers = [] if chunked else [(b"content-length", b"%d" % len(content))]
    assert piecewise(target, headers, content, step)
    assert not piecewise(target, headers, content + b"x", step)


def piecewise(target: bytes, headers: list[tuple[bytes, bytes]], body: bytes, step: int) -> bool:
    """Feed a body in small pieces, twice if asked to."""
    verification = Verification(parse_target(target), b"POST", headers, ["my-secret"])
    pieces = [body[i : i + step] for i in range(0, len(body), step)]
    for piece in pieces:
        verification.update(memoryview(piece))
    if verification.accept():
        return True
    if not verification.needs_replay():
        return False
    verification = verification.replay()
    for piece in pieces:
        verification.update(piece)
    assert not verification.needs_replay()
    return verification.accept()


@given(st.text(max_size=8), st.integers(0, 40))
def test_no_other_count_is_accepted(body: str, length: int) -> None:
    content = body.encode()
    right = {counted(unit, content) for unit in ("bytes", "points", "units")}
    target = signed_with_length(length, content)
    for headers in ([], [(b"content-length", b"%d" % len(content))]):
        assert piecewise(target, headers, content, 1000) is (length in right)


@given(st.binary(max_size=12), st.integers(1, 3))
def test_a_body_that_is_not_text_counts_in_bytes_alone(body: bytes, step: int) -> None:
    body += b"\xff"
    target = signed_with_length(len(body), body)
    assert piecewise(target, [(b"content-length", b"%d" % len(body))], body, step)
    assert piecewise(target, [], body, step)
    shorter = signed_with_length(len(body) - 1, body)
    assert not piecewise(shorter, [], body, step)
    cut_inside_a_character = body[:-1] + b"\xf0\x9f\x98"
    target = signed_with_length(len(cut_inside_a_character), cut_inside_a_character)
    assert piecewise(target, [], cut_inside_a_character, step)


def test_plain_text_needs_no_second_pass() -> None:
    request = Request(method="POST", body="plain")
    claims = parse_target(target_of(request.sign()))
    verification = Verification(claims, b"POST", request.sent_headers, ["wrong"])
    verification.update(b"plain")
    assert not verification.accept()
    assert not verification.needs_replay()
    with pytest.raises(RuntimeError):
        verification.replay()


def test_a_second_pass_is_asked_for_whether_the_id_is_known_or_not() -> None:
    request = Request(method="POST", body="café")
    claims = parse_target(target_of(request.sign()))
    for secrets in (None, ["wrong"], ["my-secret"]):
        verification = Verification(claims, b"POST", request.sent_headers, secrets)
        verification.update("café".encode())
        assert not verification.accept()
        assert verification.needs_replay()


def test_an_unsigned_body_is_free_but_a_signed_length_still_holds() -> None:
    request = Request(method="POST")
    claims = parse_target(target_of(request.sign()))
    assert verify(claims, b"POST", [(b"content-length", b"3")], ["my-secret"], b"any")
    signed = Request(method="POST", headers={"Content-Length": "3"})
    claims = parse_target(target_of(signed.sign()))
    assert verify(claims, b"POST", [(b"content-length", b"3")], ["my-secret"])
    assert not verify(claims, b"POST", [(b"content-length", b"4")], ["my-secret"])
    with pytest.raises(Refusal) as caught:
        verify(claims, b"POST", [], ["my-secret"])
    assert caught.value.code == "signed-header-missing"


def test_nothing_shows_a_secret_or_a_signature() -> None:
    request = Request(secret="canary-secret")
    claims = parse_target(target_of(request.sign()))
    verification = Verification(claims, b"GET", [], ["canary-secret"])
    for text in (repr(verification), str(verification), repr(claims), str(mismatch())):
        assert "canary" not in text
        assert claims.signature not in text


def test_the_date_of_a_request_is_its_own() -> None:
    request = Request()
    target = target_of(request.sign())
    assert accepted(target, now=request.date.replace(tzinfo=UTC).timestamp() + 599) is not None
