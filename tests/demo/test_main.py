"""The demo's model and backend over real sockets, and the program's start and end."""

import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpcore
import pytest
import trio
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from swproxy.demo.answers import compose, tokens
from swproxy.demo.backend import EXPIRY_SECONDS, FILES, USERS, Backend, TokensLeft, swproxy_url_for
from swproxy.demo.main import Running, main
from swproxy.demo.model import CA_FILE, CERTIFICATE, LARGE_MODEL_NAME, MODEL_NAME, Model
from swproxy.sw1.claims import parse_target
from swproxy.sw1.verify import Verification

KEY = "sk-demo-canary"
SECRET = "signing-canary"


async def budget(user: str) -> TokensLeft:
    await trio.lowlevel.checkpoint()
    return TokensLeft(100 * len(user), 1000, "day")


BACKEND = Backend(
    "demo", SECRET, "https://127.0.0.1:5678", swproxy=trio.sleep_forever, budget=budget
)


class Called:
    """A server's address, a client for it, and what the server reported."""

    def __init__(self, url: str) -> None:
        context = ssl.create_default_context(cafile=CA_FILE)
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # Python 3.13's default
        self.url = url
        self.client = httpcore.AsyncConnectionPool(ssl_context=context)
        self.reports: list[str] = []

    async def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        key: str | None = KEY,
        **more: str,
    ) -> httpcore.Response:
        headers: dict[bytes | str, bytes | str] = {"Content-Type": "application/json"}
        headers.update(more)
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.request(method, self.url + path, headers=headers, content=content)


@pytest.fixture
async def model(nursery: trio.Nursery) -> AsyncIterator[Called]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    called = Called(f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
    served = Model(KEY, pace=trio.lowlevel.checkpoint, report=called.reports.append)
    await nursery.start(served.serve, listeners)
    async with called.client:
        yield called


@pytest.fixture
async def backend(nursery: trio.Nursery) -> AsyncIterator[Called]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    called = Called(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
    await nursery.start(BACKEND.serve, listeners)
    async with called.client:
        yield called


async def connect(port: int, cafile: Path | None) -> trio.SSLStream[trio.SocketStream]:
    context = ssl.create_default_context(cafile=cafile)
    return await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context)


def chat(prompt: object = "A haiku, please", **more: Any) -> dict[str, Any]:
    return {"model": MODEL_NAME, "messages": [{"role": "user", "content": prompt}], **more}


JSON: Mapping[bytes | str, bytes | str] = {"Content-Type": "application/json"}


def granted(prompt: str = "A haiku, please") -> bytes:
    """Return a body that meets the terms of the backend's URLs."""
    more = {"stream": True, "stream_options": {"include_usage": True}, "max_completion_tokens": 300}
    return json.dumps(chat(prompt, **more)).encode()


def header(response: httpcore.Response, name: bytes) -> str:
    [value] = [v for k, v in response.headers if k.lower() == name]
    return value.decode()


@given(st.text())
def test_tokens_are_short_and_join_to_the_text_again(text: str) -> None:
    assert "".join(tokens(text)) == text
    assert all(len(token.strip()) <= 6 for token in tokens(text) if token.strip().isalnum())


def test_the_answer_fits_the_prompt() -> None:
    prompts = ("a haiku", "what if it is stolen?", "who saw it?", "is it fast?", "what happened?")
    assert len({compose(prompt, ()) for prompt in prompts}) == len(prompts)
    assert '"Good morning"' in compose("  Good\n morning ", ())
    assert "accept, authorization." in compose("Who saw the key?", ["authorization", "accept"])


async def test_a_streamed_answer_is_openai_chunks(model: Called) -> None:
    prompt = "What happened?"
    body = chat(prompt, stream=True, stream_options={"include_usage": True})
    response = await model("POST", "/v1/chat/completions", body)
    assert (response.status, header(response, b"content-type")) == (200, "text/event-stream")

    *events, done, rest = response.content.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    first, *middle, last, usage = [json.loads(event.removeprefix("data: ")) for event in events]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    said = [chunk["choices"][0]["delta"]["content"] for chunk in middle]
    assert "".join(said) == compose(prompt, ())
    assert len(said) > 100
    assert last["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(said)
    for chunk in (first, *middle, last, usage):
        assert chunk["object"] == "chat.completion.chunk"
        assert (chunk["id"], chunk["created"]) == (first["id"], first["created"])
        assert chunk["model"] == MODEL_NAME
    assert all(chunk["usage"] is None for chunk in (first, *middle, last))
    assert model.reports == [f"model: said all {len(said)} tokens"]


async def test_usage_is_streamed_only_if_asked_for(model: Called) -> None:
    response = await model("POST", "/v1/chat/completions", chat(stream=True))
    assert b"usage" not in response.content


async def test_an_answer_in_one_piece(model: Called) -> None:
    parts = [{"type": "text", "text": "A hai"}, {"type": "text", "text": "ku"}]
    response = await model("POST", "/v1/chat/completions", chat(parts))
    answer = json.loads(response.content)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == compose("A haiku", ())
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["total_tokens"] > answer["usage"]["completion_tokens"] > 0


async def test_the_models_are_listed(model: Called) -> None:
    response = await model("GET", "/v1/models")
    names = [each["id"] for each in json.loads(response.content)["data"]]
    assert names == [MODEL_NAME, LARGE_MODEL_NAME]


async def test_the_model_that_is_asked_answers_no_longer_than_it_may(model: Called) -> None:
    async def said(**more: Any) -> tuple[str, str, str]:
        response = await model("POST", "/v1/chat/completions", chat(**more))
        answer = json.loads(response.content)
        [choice] = answer["choices"]
        return answer["model"], choice["message"]["content"], choice["finish_reason"]

    whole = compose("A haiku, please", ())
    assert await said(max_completion_tokens=4000) == (MODEL_NAME, whole, "stop")
    assert await said(max_completion_tokens=7) == (MODEL_NAME, "".join(tokens(whole)[:7]), "length")
    name, longer, _ = await said(model=LARGE_MODEL_NAME)
    assert name == LARGE_MODEL_NAME
    assert longer.startswith(whole)
    assert len(longer) > len(whole)


@pytest.mark.parametrize(
    ("key", "code"), [(None, None), ("x", "invalid_api_key"), (KEY + "x", "invalid_api_key")]
)
async def test_a_wrong_key_gets_401_and_no_echo(
    model: Called, key: str | None, code: str | None
) -> None:
    for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models")):
        response = await model(method, path, chat(), key=key)
        error = json.loads(response.content)["error"]
        assert (response.status, error["code"]) == (401, code)
        assert error["type"] == "invalid_request_error"
        assert KEY not in response.content.decode()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", {"model": MODEL_NAME, "messages": []}, 400),
        ("POST", "/v1/chat/completions", {**chat(), "model": "other"}, 400),
        ("POST", "/v1/chat/completions", chat(max_completion_tokens=0), 400),
        ("GET", "/v1/chat/completions", None, 405),
        ("POST", "/v1/completions", chat(), 404),
    ],
)
async def test_what_the_model_refuses(
    model: Called, method: str, path: str, body: object, status: int
) -> None:
    response = await model(method, path, body)
    assert response.status == status
    assert json.loads(response.content)["error"]["message"]


async def test_a_caller_who_leaves_ends_the_answer(nursery: trio.Nursery) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    reports, receive = trio.open_memory_channel[str](1)
    model = Model(KEY, pace=partial(trio.sleep, 0.01), report=reports.send_nowait)
    await nursery.start(model.serve, listeners)

    body = json.dumps(chat("What happened?", stream=True)).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    stream = await connect(listeners[0].socket.getsockname()[1], cafile=CA_FILE)
    await stream.send_all(head.encode() + body)
    assert await stream.receive_some()
    await trio.aclose_forcefully(stream)
    with trio.fail_after(10):
        assert "the caller left" in await receive.receive()


async def test_only_the_demos_own_authority_vouches_for_the_model(model: Called) -> None:
    stream = await connect(int(model.url.rpartition(":")[2]), cafile=None)
    with pytest.raises(trio.BrokenResourceError) as failure:
        await stream.do_handshake()
    assert isinstance(failure.value.__cause__, ssl.SSLCertVerificationError)
    await trio.aclose_forcefully(stream)


def test_the_certificates_are_good_for_loopback_only_and_for_long() -> None:
    authority = x509.load_pem_x509_certificate(CA_FILE.read_bytes())
    server = x509.load_pem_x509_certificate((CERTIFICATE / "server.pem").read_bytes())
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert [str(name.value) for name in constraints.value.permitted_subtrees or ()] == [
        "localhost",
        "127.0.0.0/8",
    ]
    assert min(authority.not_valid_after_utc, server.not_valid_after_utc).year > 2100
    # Whoever had the authority's key could sign more; it was thrown away.
    assert server.public_key() != authority.public_key()
    keys = [each.name for each in CERTIFICATE.iterdir() if b"PRIVATE KEY-" in each.read_bytes()]
    assert keys == ["server.pem"]


async def test_the_backend_serves_a_page_that_trusts_nobody_else(backend: Called) -> None:
    for path, (_, content_type) in FILES.items():
        response = await backend("GET", path, Host="127.0.0.1:1234")
        assert (response.status, header(response, b"content-type")) == (200, content_type)
        policy = header(response, b"content-security-policy")
        assert "default-src 'none'" in policy
        assert "connect-src 'self' http://localhost:1234 ws://localhost:1234;" in policy
        assert "unsafe" not in policy
        assert SECRET.encode() not in response.content
        head = await backend("HEAD", path)
        assert (head.status, head.content) == (200, b"")
        assert header(head, b"content-length") == str(len(response.content))


async def test_the_backend_signs_for_one_endpoint_and_a_minute(backend: Called) -> None:
    response = await backend("POST", "/sign", {"user": "ada"}, Host="127.0.0.1:1234")
    assert header(response, b"cache-control") == "no-store"
    url = json.loads(response.content)["url"]
    assert SECRET not in url
    prefix = "http://localhost:1234"
    assert url.startswith(prefix + "/sw/?")
    claims = parse_target(url.removeprefix(prefix).encode())
    endpoint, terms = claims.proxy_url.split("#")
    assert endpoint == "https://127.0.0.1:5678/v1/chat/completions"
    assert claims.terms is not None
    assert (claims.terms.user, claims.terms.uses, claims.terms.seconds) == ("ada", 1, 60)
    assert "&body.model=stand-in-1&" in terms
    again = await backend("POST", "/sign", {"user": "ada"}, Host="127.0.0.1:1234")
    assert json.loads(again.content)["url"] != url
    assert claims.terms.body_only
    assert (claims.expires, EXPIRY_SECONDS) == (60, 60)
    assert claims.path == b"/sw/"
    assert Verification(claims, b"POST", [], [SECRET]).accept()
    assert not Verification(claims, b"GET", [], [SECRET]).accept()


@pytest.mark.parametrize(("method", "path"), [("GET", "/sign"), ("POST", "/"), ("GET", "/x")])
async def test_the_backend_knows_nothing_else(backend: Called, method: str, path: str) -> None:
    response = await backend(method, path)
    assert response.status == 404


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1:3000", "http://localhost:3000/sw"),
        ("LOCALHOST:3000", "http://127.0.0.1:3000/sw"),
        ("localhost", "http://127.0.0.1/sw"),
        ("build-7.example:80", "http://build-7.example:80/sw"),
        ("[::1]:3000", "http://[::1]:3000/sw"),
        ("a; script-src *", None),
        ("user@localhost", None),
        ("", None),
    ],
)
def test_a_page_calls_swproxy_where_it_came_from_itself(host: str, url: str | None) -> None:
    assert swproxy_url_for(host) == url


async def test_a_tunnel_s_own_address_is_signed_for(backend: Called) -> None:
    tunnel = {
        "Host": "localhost:3000",
        "X-Forwarded-Host": "box-3000.example",
        "X-Forwarded-Proto": "https",
    }
    response = await backend("POST", "/sign", {"user": USERS[0]}, **tunnel)
    url = json.loads(response.content)["url"]
    assert url.startswith("https://box-3000.example/sw/?")
    policy = header(await backend("GET", "/", **tunnel), b"content-security-policy")
    assert "connect-src 'self' https://box-3000.example wss://box-3000.example;" in policy


async def test_a_host_that_is_none_is_refused(backend: Called) -> None:
    for method, path in (("GET", "/"), ("POST", "/sign")):
        response = await backend(method, path, {"user": "ada"}, Host="a; script-src *")
        assert response.status == 400


@pytest.mark.parametrize("body", [None, b"{", [], {}, {"user": "mallory"}, {"user": None}])
async def test_a_user_that_is_none_gets_no_url(backend: Called, body: object) -> None:
    for path in ("/sign", "/sign-realtime", "/budget"):
        response = await backend("POST", path, body)
        assert response.status == 400
        assert json.loads(response.content)["title"] == "There is no such user"


async def test_the_backend_tells_what_a_user_has_left(backend: Called) -> None:
    response = await backend("POST", "/budget", {"user": "grace"})
    assert json.loads(response.content) == {"left": 500, "of": 1000, "each": "day"}
    assert (await backend("GET", "/budget")).status == 404


async def test_one_port_is_enough_and_may_be_forwarded(nursery: trio.Nursery) -> None:
    running: Running = await nursery.start(partial(main, 0, pace=trio.lowlevel.checkpoint))
    port = int(running.page_url.rpartition(":")[2])

    async def forward(near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", port)
        async with near, far, trio.open_nursery() as both:
            both.start_soon(copy, near, far, both.cancel_scope)
            both.start_soon(copy, far, near, both.cancel_scope)

    async def copy(
        source: trio.SocketStream, sink: trio.SocketStream, end: trio.CancelScope
    ) -> None:
        async for data in source:
            await sink.send_all(data)
        end.cancel()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    elsewhere = f"http://localhost:{listeners[0].socket.getsockname()[1]}"
    await nursery.start(trio.serve_listeners, forward, listeners)
    async with httpcore.AsyncConnectionPool() as pool:
        page = await pool.request("GET", elsewhere)
        assert page.status == 200
        for _ in range(3):  # over connections that are kept, and over those that are not
            user = b'{"user":"grace"}'
            response = await pool.request("POST", f"{elsewhere}/sign", content=user)
            signed = json.loads(response.content)["url"]
            prefix = f"{elsewhere.replace('localhost', '127.0.0.1')}/sw/?"
            assert signed.startswith(prefix)
            signed = f"{elsewhere}/sw/?{signed.removeprefix(prefix)}"
            answer = await pool.request("POST", signed, headers=JSON, content=granted())
            assert answer.status == 200, answer.content
            assert answer.content.endswith(b"data: [DONE]\n\n")


def start(port: int) -> subprocess.Popen[str]:
    program = f"import sys; from swproxy.demo.main import run; sys.exit(run({port}))"
    return subprocess.Popen(
        [sys.executable, "-u", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_program_ends_quietly_in_the_middle_of_an_answer(end: signal.Signals) -> None:
    with start(0) as process, httpcore.ConnectionPool() as pool:
        assert process.stdout
        page = process.stdout.readline().split()[-1]
        tunnel = process.stdout.readline().split()
        port = page.rpartition(":")[2]
        assert tunnel[-4:-1] == ["ssh", "-NL", f"{port}:127.0.0.1:{port}"]
        signed = pool.request("POST", f"{page}/sign", content=b'{"user":"ada"}')
        url = json.loads(signed.content)["url"]
        body = granted("What happened?")
        with pool.stream("POST", url, headers=JSON, content=body) as answer:
            parts = answer.iter_stream()
            assert b"chat.completion.chunk" in next(parts)
            process.send_signal(end)
            _, errors = process.communicate(timeout=30)
            with pytest.raises((httpcore.ReadError, httpcore.RemoteProtocolError)):
                list(parts)
    assert process.returncode == 0
    assert "Traceback" not in errors


def test_a_taken_port_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start(port) as process:
            output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (1, "")
    assert errors.count("\n") == 1
    assert f"127.0.0.1:{port}: " in errors
    assert "--port" in errors
