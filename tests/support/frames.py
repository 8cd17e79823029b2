"""Frames of the live feed, as a stand-in for the daemon sends them."""

import json
from typing import Any

from swproxy.daemon.frame import VERSION
from tests.support.upstream import Handler
from tests.support.wire import End

NOTHING = {
    **dict.fromkeys(("streams", "requests", "refused", "failed", "bytes_up", "bytes_down"), 0),
    **dict.fromkeys(("tokens_in", "tokens_out", "tokens_unknown"), 0),
    **dict.fromkeys(("requests_rate", "refused_rate", "bytes_up_rate", "bytes_down_rate"), 0.0),
    "tokens_rate": None,
    "first_byte": {"p50": 0.2, "p95": 1.5, "p99": None, "count": 9},
}


def stream(**fields: object) -> dict[str, object]:
    """Return a call under way."""
    known = {
        **dict.fromkeys(("id", "client", "method", "origin"), "-"),
        "app": "chat",
        "user": "42",
        "kind": "http",
        "path": "/",
        "state": "streaming",
        "age": 3.5,
        "bytes_up": 10,
        "bytes_down": 2_500_000,
        "tokens": 7,
    }
    return known | fields


def frame(**fields: object) -> dict[str, Any]:
    """Return a frame of a daemon in which nothing happens, but for `fields`."""
    known: dict[str, Any] = {
        "v": VERSION,
        "time": 1764003588.12,
        "seconds": 1.0,
        "version": "0.1.0",
        "state": "serving",
        "uptime": 7322.0,
        "actions": False,
        "total": NOTHING,
        **dict.fromkeys(("connections", "upstream_active", "upstream_idle", "faults"), 0),
        **dict.fromkeys(("log_lines_dropped", "ledger_errors", "more_apps", "more_streams"), 0),
        **{name: [] for name in ("workers", "apps", "refusals", "streams", "requests")},
    }
    return known | fields


def feed(*frames: object, status: str = "200 OK", hang_up: bool = False) -> Handler:
    """Return what answers with these frames, and then keeps silent, or hangs up."""

    async def answer(end: End) -> None:
        await end.read_head()
        await end.send(
            f"HTTP/1.1 {status}\r\nContent-Type: text/event-stream\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        for each in frames:
            # Cut anywhere, as a network does.
            event = f": a comment\n\nevent: frame\ndata: {json.dumps(each)}\n\n".encode()
            for part in (event[:40], event[40:]):
                await end.send(b"%x\r\n%b\r\n" % (len(part), part))
        if not hang_up:
            await end.wait_closed()

    return answer
