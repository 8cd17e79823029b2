"""A fuzz target for the scheme: sign a request, let it be tampered with, and verify what arrives.

Invariant: whatever happens to a signed request on its way, it is either refused, by a Refusal or
by a signature that does not match, or each value that was signed arrives as it was signed; and if
nothing happened but another spelling, it is accepted.

What arrives is judged by readers of the standard library, not by the code under test. `explain`
must come to the verifier's verdict on the same request.

    python -m tests.support.fuzz_sw1 --seconds 600            random cases, one process
    python -m tests.support.fuzz_sw1 --seconds 600 --atheris  guided by coverage, with atheris

Ten minutes of random cases are about 1.6 million, of which a third is accepted. A failing case is
printed as hex; `--case HEX` runs it again. `test_sw1_fuzz.py` runs a few thousand cases with the
other tests.
"""

import argparse
import importlib
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from urllib.parse import parse_qsl, quote, quote_plus, unquote

from swproxy import sign_url
from swproxy.sw1.claims import Claims, check_time, parse_target
from swproxy.sw1.explain import explain
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.verify import verify

__all__ = ["CASE_BYTES", "fuzz_one", "main"]

# Enough choices for the longest case; what is missing is read as zeros.
CASE_BYTES = 256

_NAMES = (
    "X-Sw-Algorithm",
    "X-Sw-Credential",
    "X-Sw-Date",
    "X-Sw-Expires",
    "X-Sw-Proxy",
    "X-Sw-SignedHeaders",
    "X-Sw-Body",
    "X-Sw-Signature",
)
_CHARACTERS = "aZ09!'()*~ +%&=;/?#:@-._é€😀"
_TOKENS = (
    *(name.encode() for name in _NAMES),
    b"&", b";", b"=", b"?", b"%", b"+", b"/", b"#", b" ", b"\0", b"\n", b"%00", b"%0A", b"%26",
    b"%3B", b"%3D", b"%25", b"%58-Sw-", b"x-sw-", b"true", b"false", b"0", b"-1", b"%C3%A9",
    b"\xff",
)  # fmt: skip
_LATER = 700  # seconds; an expiry of a case is at most 600


_T = TypeVar("_T")


class _Choices:
    """A case, read as a row of choices."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def upto(self, limit: int) -> int:
        """Return a number from 0 to below `limit`, at most 256."""
        byte = self._data[self._place] if self._place < len(self._data) else 0
        self._place += 1
        return byte % limit

    def pick(self, options: Sequence[_T]) -> _T:
        return options[self.upto(len(options))]

    def text(self, longest: int, alphabet: str = _CHARACTERS) -> str:
        return "".join([self.pick(alphabet) for _ in range(self.upto(longest + 1))])


@dataclass(frozen=True)
class _Sent:
    """A request on its way."""

    target: bytes
    method: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    secret: str
    now: float


def _signed_request(choices: _Choices) -> tuple[_Sent, bool]:
    """Return a signed request as it leaves, and whether its body is signed."""
    body: str | bytes | None = choices.pick(
        [None, "", choices.text(8), choices.text(8).encode() + b"\xff", "plain"]
    )
    headers = {
        choices.pick(["X-Foo", "x-b", "A", "A-B", "a!"]): choices.text(4).strip()
        for _ in range(choices.upto(3))
    }
    headers = {} if len({name.lower() for name in headers}) < len(headers) else headers
    secret = "s" + choices.text(3)
    method = choices.pick(["GET", "POST", "get"])
    date = datetime(2026, 11, 22, 23, 59, 30, tzinfo=UTC) + timedelta(seconds=choices.upto(60))
    url = sign_url(
        "i" + choices.text(4).replace("/", ""),
        secret,
        choices.pick(["http://h", "http://h/sw/", "http://h/it's@a"]),
        choices.pick(["https://up.example", "ws://up.example:1"]) + "/" + choices.text(12),
        1 + choices.upto(256),
        method,
        headers,
        body,
        date,
    )
    content = body.encode() if isinstance(body, str) else body
    sent = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    if content is not None and choices.upto(4):  # else chunked
        sent.append((b"content-length", b"%d" % len(content)))
    target = url.removeprefix("http://h").encode()
    leaves = _Sent(target, method.encode(), tuple(sent), content or b"", secret, date.timestamp())
    return leaves, body is not None


def _respell(target: bytes, choices: _Choices) -> bytes:
    """Write a query anew, as something harmless on the way might."""
    writers: tuple[Callable[[str], str], ...] = (
        quote_plus,
        lambda value: quote(value, "!'()*"),
        lambda value: quote(value, ""),
        lambda value: quote(value, "/:;,$@"),
        lambda value: "".join(f"%{byte:02x}" for byte in value.encode()),
    )
    path, _, query = target.decode().partition("?")
    write = choices.pick(writers)
    pairs = [f"{name}={write(value)}" for name, value in parse_qsl(query, keep_blank_values=True)]
    if choices.upto(2):
        pairs.insert(choices.upto(len(pairs) + 1), pairs.pop(choices.upto(len(pairs))))
    if choices.upto(2):
        pairs.insert(choices.upto(len(pairs) + 1), "utm=" + quote(choices.text(3)))
    return f"{path}?{'&'.join(pairs)}".encode()


def _damage(target: bytes, choices: _Choices) -> bytes:
    """Change a target at random: bytes, tokens, whole parameters."""
    place = choices.upto(256) * len(target) // 256
    until = min(len(target), place + choices.upto(8))
    kind = choices.upto(6)
    if kind == 0:
        return target[:place] + bytes([choices.upto(256)]) + target[place + 1 :]
    if kind == 1:
        return target[:place] + target[until:]
    if kind == 2:
        return target[:place] + choices.pick(_TOKENS) + target[until:]
    if kind == 3:
        return target[:place] + target[place : place + 1].swapcase() + target[place + 1 :]
    pairs = target.split(b"&")
    chosen = choices.upto(len(pairs))
    if kind == 4:
        name, _, value = pairs[chosen].partition(b"=")
        pairs[chosen] = (
            name + b"=" + choices.pick([b"", quote(choices.text(5)).encode(), value * 2])
        )
    else:
        pairs.insert(choices.upto(len(pairs) + 1), pairs[chosen])
    return b"&".join(pairs)


def _tamper(sent: _Sent, choices: _Choices) -> _Sent:
    """Change anything at all of a request."""
    kind = choices.upto(10)
    if kind == 0:
        return replace(sent, method=choices.pick([b"GET", b"POST", b"get", b"G\nET", b""]))
    if kind == 1 and sent.headers:
        name, value = choices.pick(sent.headers)
        other = choices.pick([value + b"x", value + b"\na:b", b"", b" " + value, value.upper()])
        return replace(sent, headers=(*sent.headers, (name, other))[choices.upto(2) :])
    if kind == 2:
        return replace(sent, body=sent.body[choices.upto(2) :] + choices.pick([b"", b"x", b"\n"]))
    if kind == 3:
        return replace(sent, secret=sent.secret + choices.pick(["x", "\n", " "]))
    if kind == 4:
        return replace(sent, now=sent.now + choices.pick([-61.0, -60.0, 0.5, 256.0, _LATER]))
    return replace(sent, target=_damage(sent.target, choices))


def _accepted(sent: _Sent) -> Claims | None:
    try:
        claims = parse_target(sent.target)
        check_time(claims, now=sent.now, expiry_seconds=604_800, clock_skew_seconds=60)
        held = verify(claims, sent.method, sent.headers, [sent.secret], sent.body)
    except Refusal as refusal:
        fault = refusal
    else:
        return claims if held else None
    assert fault.code, "a refusal has a code"
    assert fault.detail.isascii(), "a refusal's detail is plain text"
    return None


def _query(target: bytes) -> list[tuple[str, str]]:
    query = target.decode().partition("?")[2]
    pairs = parse_qsl(query, keep_blank_values=True)
    return sorted((name, value) for name, value in pairs if name.lower().startswith("x-sw-"))


def _path(target: bytes) -> str:
    path = target.decode().partition("?")[0]
    return unquote(unquote(path))


def _assert_arrived_as_signed(left: _Sent, came: _Sent, claims: Claims, body_signed: bool) -> None:
    query = _query(came.target)
    assert query == _query(left.target), "a parameter changed"
    assert dict(query)["X-Sw-Proxy"] == claims.proxy_url, "verified is what is forwarded"
    assert _path(came.target) == _path(left.target), "the path changed"
    assert came.method == left.method, "the method changed"
    assert came.secret == left.secret, "the secret changed"
    assert claims.body_signed is body_signed
    assert not body_signed or came.body == left.body, "the signed body changed"
    for name in claims.signed_headers:
        if name == "content-length" and body_signed:
            continue
        values = [[v.strip() for n, v in s.headers if n == name.encode()] for s in (left, came)]
        assert values[0] == values[1], "a signed header changed"
        assert len(values[1]) == 1, "a signed header came twice"
    assert claims.signed_at - 60 <= came.now < claims.signed_at + claims.expires, "out of time"


def _assert_explained_alike(came: _Sent, accepted: bool) -> None:
    try:
        target, method = came.target.decode("ascii"), came.method.decode()
        headers = [(name.decode(), value.decode()) for name, value in came.headers]
    except UnicodeDecodeError:
        return
    if target != target.strip() or "://" in target:
        return  # explain takes what people paste, which a request line cannot hold
    body = came.body if any(name == "content-length" for name, _ in headers) else None
    if body is None and came.body:
        return  # a chunked upload cannot be told to explain
    explanation = explain(target, method, headers, body, [came.secret], now=came.now)
    assert (explanation.verdict == "ok") is accepted, "explain and verify disagree"
    assert (explanation.refusal is None) is accepted, "explain's refusal and verify disagree"


def fuzz_one(data: bytes) -> bool:
    """Run one case; raise AssertionError if the invariant does not hold; return if accepted."""
    choices = _Choices(data)
    left, body_signed = _signed_request(choices)
    harmless = choices.upto(4) == 0
    came = replace(left, target=_respell(left.target, choices)) if choices.upto(2) else left
    if not harmless:
        for _ in range(1 + choices.upto(3)):
            came = _tamper(came, choices)
    claims = _accepted(came)
    if harmless:
        assert claims is not None, "a harmless change was refused"
    if claims is not None:
        _assert_arrived_as_signed(left, came, claims, body_signed)
    if choices.upto(4) == 0:
        _assert_explained_alike(came, claims is not None)
    return claims is not None


def _run(seconds: float, seed: int) -> tuple[int, int]:
    """Run random cases for a time; return how many there were and how many were accepted."""
    dice = random.Random(seed)
    deadline = time.monotonic() + seconds
    cases = accepted = 0
    while time.monotonic() < deadline:
        for _ in range(1000):
            data = dice.randbytes(CASE_BYTES)
            try:
                accepted += fuzz_one(data)
            except BaseException:
                print(f"failing case: {data.hex()}", file=sys.stderr)  # noqa: T201
                raise
            cases += 1
    return cases, accepted


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the fuzz target from the command line."""
    parser = argparse.ArgumentParser(description="Fuzz the signing scheme.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=bytes.fromhex, help="run one case, given as hex")
    parser.add_argument("--atheris", action="store_true", help="let coverage guide the cases")
    options = parser.parse_args(arguments)
    if options.case is not None:
        fuzz_one(options.case)
    elif options.atheris:
        atheris = importlib.import_module("atheris")
        atheris.instrument_all()
        atheris.Setup(
            [sys.argv[0], f"-max_total_time={options.seconds:.0f}", f"-seed={options.seed}"],
            lambda data: fuzz_one(data) and None,
        )
        atheris.Fuzz()
    else:
        cases, accepted = _run(options.seconds, options.seed)
        print(f"{cases} cases, {accepted} accepted, seed {options.seed}")  # noqa: T201


if __name__ == "__main__":
    main()
