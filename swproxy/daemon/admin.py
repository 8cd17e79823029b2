"""The admin listener: /metrics, /healthz and /readyz, on sockets of their own.

A server apart from the proxy, so that no path of a public listener can ever lead here. It answers
one GET or HEAD a connection, which is all that a scraper or a balancer's check needs.

A web page can have a browser ask anything on its machine or network, under a name of the page's own
that leads there (DNS rebinding), and read the answer as its own. So over TCP, only who asks by an
address, as localhost, or under a configured name is answered.

Who connects and says nothing keeps nobody out: when there are too many, the oldest that is still to
be read or answered gives way.
"""

from collections.abc import Callable, Collection, Sequence
from ipaddress import ip_address
from socket import AF_UNIX

import h11
import trio

from swproxy.daemon.listeners import Listener
from swproxy.daemon.tally import Tally

__all__ = ["Admin"]

_SECONDS = 10.0
_MOST_OPEN = 256
_RENDERED_AT_ONCE = 4
_MOST_HEAD = 16384
_PLAIN = "text/plain; charset=utf-8"
_UNKNOWN = b"asked under a name that is not known here: add it to server.admin_hosts\n"


class Admin:
    """Answers for a process: `tallies` gives its numbers, `not_ready` why it isn't ready or "".

    `hosts` are the names it may be asked under. `crashed` is told of faults, which must not end the
    process that is asked about.
    """

    def __init__(
        self,
        tallies: Callable[[], Sequence[Tally]],
        not_ready: Callable[[], str],
        hosts: Callable[[], Collection[str]],
        crashed: Callable[[BaseException], None],
    ) -> None:
        self._tallies = tallies
        self._not_ready = not_ready
        self._hosts = hosts
        self._crashed = crashed
        self._rendering = trio.CapacityLimiter(_RENDERED_AT_ONCE)
        self._open: dict[trio.CancelScope, None] = {}  # the oldest first

    async def serve(self, listeners: Sequence[Listener]) -> None:
        """Serve on `listeners` until cancelled."""
        streams = [
            trio.SocketListener(trio.socket.from_stdlib_socket(listener.sock.dup()))
            for listener in listeners
        ]
        if streams:
            await trio.serve_listeners(self._serve_connection, streams)

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        scope = trio.move_on_after(_SECONDS)
        if len(self._open) >= _MOST_OPEN:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.cancel()
        self._open[scope] = None
        try:
            with scope:
                await self._serve_request(stream)
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            pass  # whoever asked has gone, or does not speak HTTP
        except Exception as error:  # noqa: BLE001 - see the class
            self._crashed(error)
        finally:
            self._open.pop(scope, None)
            await trio.aclose_forcefully(stream)

    async def _serve_request(self, stream: trio.SocketStream) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEAD)
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(_MOST_HEAD)))
        if not isinstance(event, h11.Request):
            return
        if stream.socket.family == AF_UNIX or self._is_known(event):
            status, content_type, body = await self._answer(event)
        else:
            status, content_type, body = 421, _PLAIN, _UNKNOWN
        headers = [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
        ]
        if status == 405:
            headers.append(("Allow", "GET, HEAD"))
        answer = http.send(h11.Response(status_code=status, headers=headers)) or b""
        if event.method != b"HEAD":
            answer += body
        await stream.send_all(answer)
        await stream.send_eof()

    def _is_known(self, request: h11.Request) -> bool:
        """Tell whether the request was sent to us, and not to a name that somebody led here."""
        host = dict(request.headers).get(b"host")
        if host is None:
            return request.http_version == b"1.0"  # no browser's
        name = _host_name(host.decode("latin-1").lower())
        try:
            ip_address(name)
        except ValueError:
            return name == "localhost" or name in self._hosts()
        return True

    async def _answer(self, request: h11.Request) -> tuple[int, str, bytes]:
        if request.method not in (b"GET", b"HEAD"):
            return 405, _PLAIN, b"only GET and HEAD\n"
        path = request.target.partition(b"?")[0]
        if path == b"/healthz":
            return 200, _PLAIN, b"alive\n"
        if path == b"/readyz":
            reason = self._not_ready()
            return 503 if reason else 200, _PLAIN, (reason or "ready").encode() + b"\n"
        if path == b"/metrics":
            # prometheus_client takes as long to load as all of swproxy, and some never ask.
            from swproxy.daemon.exposition import CONTENT_TYPE, exposition  # noqa: PLC0415

            # Thousands of series take a while to write out, and streams must not wait for it.
            async with self._rendering:
                text = await trio.to_thread.run_sync(exposition, self._tallies())
            return 200, CONTENT_TYPE, text
        return 404, _PLAIN, b"there are /metrics, /healthz and /readyz\n"


def _host_name(host: str) -> str:
    """Return a Host header's value without its port and an address's brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")
