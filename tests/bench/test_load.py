"""The load generators: where an answer ends, what wrk says, and an upstream to talk to."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest

from bench import upstream, wrk
from bench.client import ClosedLoop, LoadError, answer_end, fetch
from bench.scenarios.bulk import download, upload
from bench.site import Request
from bench.streams import Streams

SIZED = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX: y\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
REPORT = """Running 1s test @ http://127.0.0.1:81/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.13ms  200.00us   9.99ms   90.00%
    Req/Sec    56.7k     1.20k    58.0k    70.00%
  Latency Distribution
     50%  920.00us
     75%    1.10ms
     90%    1.40ms
     99%    1.02s
  53303 requests in 1.00s, 4.00MB read
  Socket errors: connect 0, read 1, write 2, timeout 3
  Non-2xx or 3xx responses: 10
Requests/sec:  53100.12
Transfer/sec:      3.99MB
"""


@pytest.mark.parametrize("answer", [SIZED, CHUNKED, EMPTY])
def test_an_answer_ends_at_its_last_byte_and_not_before(answer: bytes) -> None:
    for length in range(len(answer)):
        assert answer_end(answer[:length]) is None
    assert answer_end(answer) == len(answer)
    assert answer_end(answer + b"HTTP/1.1") == len(answer)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nuntil close",
    ],
)
def test_another_answer_is_an_error(answer: bytes) -> None:
    with pytest.raises(LoadError, match="answered"):
        answer_end(answer)


def test_the_report_of_wrk() -> None:
    result = wrk.parse(REPORT)
    assert (result.requests, result.rate) == (53303, 53100.12)
    assert (result.p50_ms, result.p99_ms) == (0.92, 1020.0)
    assert result.failures == 16


def test_no_report_of_wrk() -> None:
    with pytest.raises(LoadError):
        wrk.parse("unable to connect")


def test_an_event_has_the_size_it_says() -> None:
    event = upstream.event(123456789)
    size, _, rest = event.partition(b"\r\n")
    assert int(size, 16) == upstream.EVENT_BYTES == len(rest) - 2
    assert rest.endswith(b"\n\n\r\n")
    assert upstream.STAMP.findall(event) == [b"00000000000123456789"]


@pytest.fixture
def port() -> Iterator[int]:
    """A plain-text upstream in a thread, ended by its listener's end."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = upstream.Upstream([(listener, None)])
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    server.end()
    thread.join(5)
    assert not thread.is_alive()


CONTEXT = ssl.create_default_context()


def test_the_upstream_answers_small_requests_over_kept_and_fresh_connections(port: int) -> None:
    for fresh in (False, True):
        with ClosedLoop(Request(port, "/small"), CONTEXT, concurrency=4, fresh=fresh) as loop:
            load = loop.run(requests=40, seconds=5)
        assert load.requests >= 40
        assert len(load.first_byte_ms) == load.requests


def test_the_upstream_tells_whether_the_key_came(port: int) -> None:
    key = (("authorization", upstream.API_KEY),)
    assert fetch(Request(port, "/key", headers=key), CONTEXT) == b"yes"
    assert fetch(Request(port, "/key"), CONTEXT) == b"no"
    with pytest.raises(LoadError, match="404"):
        fetch(Request(port, "/other"), CONTEXT)


def test_the_upstream_moves_large_bodies(port: int) -> None:
    size = 9_000_000
    assert download(Request(port, f"/bytes/{size}"), CONTEXT, size) > 0
    assert upload(Request(port, "/sink", method="POST"), CONTEXT, size) > 0
    stats = json.loads(fetch(Request(port, "/stats"), CONTEXT))
    assert stats["sent"] == size


def test_events_come_to_every_stream_and_count(port: int) -> None:
    with Streams(Request(port, "/sse/10/5"), CONTEXT) as streams:
        streams.open(10, seconds=5)
        seen = 0
        deadline = time.monotonic() + 5
        while seen < 50 and time.monotonic() < deadline:
            watch = streams.watch(0.05)
            seen += len(watch.latencies_ms)
            assert all(delay >= 0 for delay in watch.latencies_ms)
        assert seen >= 50
        stats = json.loads(fetch(Request(port, "/stats"), CONTEXT))
        assert stats["chunks"] >= seen
        assert stats["open"] == 11


def test_clients_that_do_not_read_stop_the_upstream(port: int) -> None:
    body = 100_000_000
    with Streams(Request(port, f"/bytes/{body}"), CONTEXT) as streams:
        streams.open(2, seconds=5, read=False)
        last = -1
        for _ in range(100):
            sent = json.loads(fetch(Request(port, "/stats"), CONTEXT))["sent"]
            if sent == last:
                break
            last = sent
            time.sleep(0.05)
        assert 0 < last < 2 * body
