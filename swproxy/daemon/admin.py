"""The admin listener: /metrics, /healthz and /readyz, on sockets of their own.

A server apart from the proxy, so that no path of a public listener can ever lead here. It answers
one GET or HEAD a connection, which is all that a scraper or a balancer's check needs.
"""

from collections.abc import Callable, Sequence

import h11
import trio

from swproxy.daemon.listeners import Listener
from swproxy.daemon.tally import Tally

__all__ = ["Admin"]

_SECONDS = 10.0
_MOST_AT_ONCE = 64
_MOST_HEAD = 16384
_PLAIN = "text/plain; charset=utf-8"


class Admin:
    """Answers for a process: `tallies` gives its numbers, `not_ready` why it isn't ready or "".

    `crashed` is told of faults, which must not end the process that is asked about.
    """

    def __init__(
        self,
        tallies: Callable[[], Sequence[Tally]],
        not_ready: Callable[[], str],
        crashed: Callable[[BaseException], None],
    ) -> None:
        self._tallies = tallies
        self._not_ready = not_ready
        self._crashed = crashed
        self._places = trio.CapacityLimiter(_MOST_AT_ONCE)

    async def serve(self, listeners: Sequence[Listener]) -> None:
        """Serve on `listeners` until cancelled."""
        streams = [
            trio.SocketListener(trio.socket.from_stdlib_socket(listener.sock.dup()))
            for listener in listeners
        ]
        if streams:
            await trio.serve_listeners(self._serve_connection, streams)

    async def _serve_connection(self, stream: trio.abc.Stream) -> None:
        try:
            with trio.move_on_after(_SECONDS):
                async with self._places:
                    await self._serve_request(stream)
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            pass  # whoever asked has gone, or does not speak HTTP
        except Exception as error:  # noqa: BLE001 - see the class
            self._crashed(error)
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve_request(self, stream: trio.abc.Stream) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEAD)
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(_MOST_HEAD)))
        if not isinstance(event, h11.Request):
            return
        status, content_type, body = await self._answer(event)
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
        if isinstance(stream, trio.SocketStream):
            await stream.send_eof()

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
            text = await trio.to_thread.run_sync(exposition, self._tallies())
            return 200, CONTENT_TYPE, text
        return 404, _PLAIN, b"there are /metrics, /healthz and /readyz\n"
