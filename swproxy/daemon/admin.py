"""The admin listener: the live page, /metrics, /healthz and /readyz, on sockets of their own.

    GET   /  /live.css  /live.js     the page: three files that say nothing of what passes here
          /live                      what passes here, a frame a second (see `frame`)
          /metrics                   the same for Prometheus
          /healthz  /readyz          for whoever watches over the process
    POST  /login                     a cookie for the token
          /end  /revoke              a call, a user's URLs: where server.admin_actions lets them

A server apart from the proxy, so that no path of a public listener can ever lead here. It answers
one request a connection, which is all that a scraper or a balancer's check needs. Who may ask what
is for `guard` to say.

Who connects and says nothing keeps nobody out: when there are too many, the oldest that is still to
be read or answered gives way. Those who look are counted apart, and are few.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from socket import AF_UNIX

import h11
import trio

from swproxy.daemon.admin_http import Answer, Asked
from swproxy.daemon.compose import Watched
from swproxy.daemon.guard import Guard, is_local
from swproxy.daemon.listeners import Listener
from swproxy.daemon.live import Live
from swproxy.daemon.revoking import revoke_user
from swproxy.quota.ledger import LedgerDown

__all__ = ["Admin"]

_SECONDS = 10.0
_MOST_OPEN = 256
_RENDERED_AT_ONCE = 4
_FILES = {
    b"/": ("index.html", "text/html; charset=utf-8"),
    b"/live.css": ("live.css", "text/css; charset=utf-8"),
    b"/live.js": ("live.js", "text/javascript; charset=utf-8"),
}
_POSTED = (b"/login", b"/end", b"/revoke")

_UNKNOWN_NAME = Answer(
    421, b"asked under a name that is not known here: add it to server.admin_hosts\n"
)
_NO_TOKEN = Answer(
    401,
    b"asks for server.admin_token, as Authorization: Bearer\n",
    more=(("WWW-Authenticate", "Bearer"),),
)
_NOWHERE = Answer(
    403, b"the live page is served on loopback and Unix sockets, or with server.admin_token\n"
)
_NOT_FOUND = Answer(404, b"there are the page at /, /live, /metrics, /healthz and /readyz\n")
_NOT_OUR_PAGE = Answer(403, b"only the live page itself may ask that\n")
_NO_ACTIONS = Answer(403, b"server.admin_actions is false\n")
_MALFORMED = Answer(400, b"the body is not as expected\n")
_FULL = Answer(503, b"too many look already\n", more=(("Retry-After", "5"),))
_DONE = Answer(204)


class Admin:
    """Answers for a process: `watched` gives its numbers, `not_ready` why it isn't ready or "".

    `crashed` is told of faults, which must not end the process that is asked about.
    """

    def __init__(
        self,
        watched: Watched,
        not_ready: Callable[[], str],
        crashed: Callable[[BaseException], None],
    ) -> None:
        self._watched = watched
        self._not_ready = not_ready
        self._crashed = crashed
        self._guard = Guard(lambda: watched.config.server)
        self._live = Live(watched, crashed)
        self._rendering = trio.CapacityLimiter(_RENDERED_AT_ONCE)
        self._open: dict[trio.CancelScope, None] = {}  # the oldest first

    async def serve(self, listeners: Sequence[Listener]) -> None:
        """Serve on `listeners` until cancelled."""
        streams = [
            trio.SocketListener(trio.socket.from_stdlib_socket(listener.sock.dup()))
            for listener in listeners
        ]
        if streams:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._live.run)
                await trio.serve_listeners(self._serve_connection, streams)

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        scope = trio.move_on_after(_SECONDS)
        if len(self._open) >= _MOST_OPEN:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.cancel()
        self._open[scope] = None
        asked, looks = Asked(stream), False
        try:
            with scope:
                looks = await self._serve_request(asked)
            if looks:
                self._open.pop(scope, None)
                await self._live.look(asked.send_events)
        except (trio.BrokenResourceError, trio.TooSlowError, h11.RemoteProtocolError):
            pass  # whoever asked has gone, or does not speak HTTP
        except Exception as error:  # noqa: BLE001 - see the class
            self._crashed(error)
        finally:
            self._open.pop(scope, None)
            await trio.aclose_forcefully(stream)

    async def _serve_request(self, asked: Asked) -> bool:
        """Answer a request, or tell that it is one to look at the live feed."""
        request = await asked.head()
        if request is None:
            return False
        if not self._guard.knows(request, unix=asked.socket.family == AF_UNIX):
            answer: Answer | None = _UNKNOWN_NAME
        elif (path := request.target.partition(b"?")[0]) in _POSTED:
            answer = await self._post(path, request, asked)
        elif request.method not in (b"GET", b"HEAD"):
            answer = Answer(405, b"only GET and HEAD\n", more=(("Allow", "GET, HEAD"),))
        else:
            answer = await self._get(path, request, local=is_local(asked.socket))
        if answer is None:
            return True
        await asked.answer(answer, with_body=request.method != b"HEAD")
        return False

    async def _get(self, path: bytes, request: h11.Request, *, local: bool) -> Answer | None:
        """Return the answer, None for one that goes on."""
        if path in (b"/live", b"/metrics") and self._guard.from_other_page(request):
            return _NOT_OUR_PAGE
        if path in _FILES or path == b"/live":
            return self._show(path, request, local=local)
        if path == b"/metrics":
            return await self._metrics() if self._guard.scrapes(request) else _NO_TOKEN
        if path == b"/readyz":
            reason = self._not_ready()
            return Answer(503 if reason else 200, (reason or "ready").encode() + b"\n")
        return Answer(200, b"alive\n") if path == b"/healthz" else _NOT_FOUND

    def _show(self, path: bytes, request: h11.Request, *, local: bool) -> Answer | None:
        verdict = self._guard.judge(request, local=local)
        if verdict == "nowhere":
            return _NOWHERE
        if path in _FILES:
            return _file(path)
        if verdict == "unknown":
            return _NO_TOKEN
        if self._live.full:
            return _FULL
        return None if request.method == b"GET" else Answer(200, b"", "text/event-stream")

    async def _metrics(self) -> Answer:
        # prometheus_client takes as long to load as all of swproxy, and some never ask.
        from swproxy.daemon.exposition import CONTENT_TYPE, exposition  # noqa: PLC0415

        # Thousands of series take a while to write out, and streams must not wait for it.
        async with self._rendering:
            text = await trio.to_thread.run_sync(exposition, self._watched.tallies())
        return Answer(200, text, CONTENT_TYPE)

    async def _post(self, path: bytes, request: h11.Request, asked: Asked) -> Answer:
        refusal = self._refusal(path, request, local=is_local(asked.socket))
        if refusal is not None:
            return refusal
        said = _texts(await asked.body())
        if path == b"/end":
            return await self._end(said.get("id", ""))
        if path == b"/revoke":
            return await self._revoke(said.get("app", ""), said.get("user", ""))
        cookie = self._guard.exchange(said.get("token", ""), request)
        return Answer(204, more=(("Set-Cookie", cookie),)) if cookie else _NO_TOKEN

    def _refusal(self, path: bytes, request: h11.Request, *, local: bool) -> Answer | None:
        """Say why whoever asks may not change anything, None if he may."""
        if request.method != b"POST":
            return Answer(405, b"only POST\n", more=(("Allow", "POST"),))
        verdict = self._guard.judge(request, local=local)
        if verdict == "nowhere":
            return _NOWHERE
        if not self._guard.from_own_page(request):
            return _NOT_OUR_PAGE
        if path == b"/login":
            return None
        if verdict == "unknown":
            return _NO_TOKEN
        return None if self._watched.config.server.admin_actions else _NO_ACTIONS

    async def _end(self, request_id: str) -> Answer:
        if not request_id:
            return _MALFORMED
        if await self._watched.end_call(request_id):
            self._watched.note("call-ended-by-hand", request_id=request_id)
            return _DONE
        return Answer(404, b"there is no such call under way\n")

    async def _revoke(self, app: str, user: str) -> Answer:
        if not user or app not in self._watched.config.apps:
            return _MALFORMED
        try:
            await revoke_user(self._watched.config, app, user)
        except LedgerDown as down:
            return Answer(503, f"the store of limits cannot be asked: {down}\n".encode())
        self._watched.note("user-revoked-by-hand", app=app, user=user)
        return _DONE


@cache
def _file(path: bytes) -> Answer:
    name, content_type = _FILES[path]
    data = resources.files("swproxy.daemon").joinpath("page", name).read_bytes()
    return Answer(200, data, content_type)


def _texts(body: bytes | None) -> dict[str, str]:
    """Return the texts in a JSON object, none of what is anything else."""
    try:
        said = json.loads(body or b"")
        if not isinstance(said, dict):
            return {}
        texts = {name: text for name, text in said.items() if isinstance(text, str)}
        "".join(texts.values()).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        return {}
    return texts
