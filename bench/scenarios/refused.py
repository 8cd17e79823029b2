"""Requests that are refused: what each kind costs, beside good ones of the same shape."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import replace

from bench.client import LoadError
from bench.figures import Metric
from bench.session import Session, usage
from bench.site import EXPIRY_SECONDS, Request
from bench.subjects import Subject, Swproxy

NAME = "refused"
TITLE = "Requests that are refused"
CPU = Metric("cpu_us_per_request", "us", "CPU/request")
NOTES = (
    (
        "One request after the other on one connection, or each on a new one where the refusal "
        "ends it; good ones of either kind stand beside them. Large: a URL of 15 KB, a signed body "
        "of 16 MB."
    ),
)
_LARGE = 16 * 1024 * 1024


def run(session: Session) -> None:
    """Measure every kind in turns."""
    rounds = session.options.rounds_of(5)
    count = 300 if session.options.quick else 1500
    with session.bed(NAME, only=[Swproxy]) as bed:
        for subject in bed.subjects:
            assert isinstance(subject, Swproxy)
            kinds = _kinds(subject)
            session.progress.begin(NAME, rounds * len(kinds))
            for _ in range(rounds):
                for kind, (data, status) in kinds.items():
                    session.progress.step(kind)
                    large = len(data) >= _LARGE
                    with session.attempt(NAME, subject, kind):
                        times = 4 if large else count
                        cost = _cost(subject, data, status, times, fresh="new" in kind or large)
                        session.add(NAME, subject, {"kind": kind}, {CPU: cost})


def _kinds(subject: Swproxy) -> Mapping[str, tuple[bytes, int]]:
    """Return requests by their kinds, with the status that answers them."""
    good = subject.request("http", "/small")
    long = subject.request("http", "/small?" + "a=%2F&" * 1200)
    body = b"x" * _LARGE
    late = good.target.replace(f"X-Sw-Expires={EXPIRY_SECONDS}", "X-Sw-Expires=0")

    def upload(size: int) -> tuple[Request, bytes]:
        return subject.upload_request("http", "/sink", body[:size].decode()), body[:size]

    def forged(size: int) -> bytes:
        request, sent = upload(size)
        return _forged(request).head(length=size) + sent

    request, sent = upload(_LARGE)

    return {
        "good": (good.head(), 200),
        "good, new connection": (good.head(), 200),
        "good, large URL": (long.head(), 200),
        "signature forged": (_forged(good).head(), 400),
        "signature forged, large URL": (_forged(long).head(), 400),
        "unknown application": (good.head().replace(b"bench", b"other", 1), 400),
        "expired": (replace(good, target=late).head(), 400),
        "no signature": (replace(good, target="/").head(), 400),
        "preflight": (
            replace(
                good,
                method="OPTIONS",
                headers=(("Origin", "https://a"), ("Access-Control-Request-Method", "GET")),
            ).head(),
            204,
        ),
        "good, signed body of 16 MB": (request.head(length=_LARGE) + sent, 200),
        "signature forged, signed body of 16 MB": (forged(_LARGE), 400),
        "signature forged, body of 1 KB, new connection": (forged(1024), 400),
        "head malformed, new connection": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    }


def _forged(request: Request) -> Request:
    other = "0" if not request.target.endswith("0") else "1"
    return replace(request, target=request.target[:-1] + other)


def _cost(subject: Subject, data: bytes, status: int, count: int, *, fresh: bool) -> float:
    """Return processor microseconds of the subject for one of `count` requests."""
    port = subject.request("http", "/small").port
    with _Client(port) as client:
        client.ask(data, status)
    with usage(subject.family()) as spent, _Client(port) as client:
        for _ in range(count):
            client.ask(data, status)
            if fresh:
                client.renew()
        time.sleep(0.05)  # what it does when it has answered
    return 1e6 * spent.total / count


class _Client:
    """One blocking connection after the other."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._sock = socket.create_connection(self._address)

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def renew(self) -> None:
        self._sock.close()
        self._sock = socket.create_connection(self._address)

    def ask(self, data: bytes, status: int) -> None:
        """Send a request and read its answer, which is short; raise LoadError."""
        self._sock.sendall(data)
        answer = b""
        while not _is_whole(answer):
            piece = self._sock.recv(65536)
            if not piece:
                break
            answer += piece
        if not answer.startswith(b"HTTP/1.1 %d " % status):
            raise LoadError(f"{answer[:40]!r} in place of {status}")


def _is_whole(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    _, has_length, rest = head.lower().partition(b"content-length:")
    length = int(rest.split(b"\r\n")[0]) if has_length else 0
    return bool(found) and len(body) >= length
