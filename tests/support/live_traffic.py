"""Traffic to look at: users of a chat and of a search, some of whom do what they may not.

The API's side speaks as OpenAI's does, at a pace; the clients' side counts what it was answered, so
that it can be held against what the daemon says.
"""

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import trio

from swproxy import sign_url
from tests.support.running import Daemon
from tests.support.wire import SECRET, End, Response

__all__ = ["LIMITS", "Clients", "Model"]

LIMITS = """
meter = "tokens"
[limits]
requests = "600/minute burst 400"
concurrent = 60
tokens = "2500000/day"
[limits.user]
concurrent = 12
"""

_USERS = [
    "ada",
    "grace",
    "alan",
    "katherine",
    "edsger",
    "barbara",
    "donald",
    "frances",
    "tim",
    "radia",
    "vint",
    "shafi",
]
_WORDS = [
    "What",
    "a",
    "page",
    "calls",
    "is",
    "what",
    "its",
    "backend",
    "has",
    "signed",
    "and",
    "nothing",
    "else",
    "may",
    "pass",
    "here",
]


class Model:
    """The API: a chat that answers token by token until it is told to come to an end."""

    def __init__(self, seed: int = 1, *, pause: float = 0.08, most: int = 400) -> None:
        self._random = random.Random(seed)
        self._pause = pause
        self._most = most
        self.finish = trio.Event()
        self.used: Counter[str] = Counter()
        """tokens read and written, as it has told"""

    async def __call__(self, end: End) -> None:
        while True:
            try:
                head, _ = await end.read_request()
            except trio.TooSlowError:
                return  # kept for long, and not needed
            end.forget()
            if b"/chat/" in head.split(b"\r\n", 1)[0]:
                await trio.sleep(self._random.uniform(0.5, 4) * self._pause)
                await self._answer(end)
            elif b"/broken" in head.split(b"\r\n", 1)[0]:
                return
            else:
                body = json.dumps({"object": "list", "data": [{"id": "gpt-5-mini"}]}).encode()
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d"
                await end.send(head % len(body) + b"\r\n\r\n" + body)

    async def _answer(self, end: End) -> None:
        await end.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        length = self._random.randrange(self._most // 4, self._most)
        said = 0
        while said < length and not self.finish.is_set():
            said += 1
            delta = {"content": f" {self._random.choice(_WORDS)}"}
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            await self._event(end, {"model": "gpt-5-mini", "choices": [choice]})
            with trio.move_on_after(self._pause * self._random.uniform(0.5, 1.5)):
                await self.finish.wait()
        used = {"prompt_tokens": self._random.randrange(20, 900), "completion_tokens": said}
        self.used.update(used)
        await self._event(end, {"model": "gpt-5-mini", "choices": [], "usage": used})
        await end.send(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    async def _event(self, end: End, value: Mapping[str, object]) -> None:
        data = b"data: %b\n\n" % json.dumps({"id": "chatcmpl-1", **value}).encode()
        await end.send(b"%x\r\n%b\r\n" % (len(data), data))


@dataclass
class Clients:
    """Who calls, and what came of it: statuses of whole answers, and bytes of their bodies."""

    running: Daemon
    url: str
    apps: tuple[str, ...]
    seed: int = 2
    statuses: Counter[int] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    """bytes of answers' bodies as they were on the wire, by application, "" for nobody's"""
    streaming: set[End] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    async def stream(self, app: str, user: str | None = None) -> None:
        """Have an answer streamed, to its end."""
        user = user or self.random.choice(_USERS)
        body = json.dumps({"model": "gpt-5-mini", "stream": True, "messages": []}).encode()
        signed = self._sign(app, "/v1/chat/completions", "POST", {"user": user})
        client = await self.running.connect()
        head = b"POST %b HTTP/1.1\r\nHost: edge\r\nContent-Length: %d\r\n\r\n"
        await client.send(head % (signed, len(body)) + body)
        answer = Response.parse(await client.read_head())
        if answer.status == 200:
            self.streaming.add(client)
            await client.read_until(b"\r\n0\r\n\r\n")
            self.streaming.discard(client)
            self.received[app] += len(client.received.partition(b"\r\n\r\n")[2])
        else:
            refusal = await client.read_exactly(int(answer.headers["content-length"]))
            self.received[app] += len(refusal)
        self.statuses[answer.status] += 1
        await client.aclose()

    async def ask(self, app: str, path: str = "/v1/models", *, spoil: str = "") -> None:
        """Ask for something small; with `spoil`, after `X-Sw-Signature=`, in vain."""
        target = self._sign(app, path, "GET", {"user": self.random.choice(_USERS)})
        if spoil:
            before, mark, after = target.partition(b"X-Sw-Signature=")
            target = before + mark + spoil.encode() + after[len(spoil) :]
        client = await self.running.connect()
        await client.send(b"GET %b HTTP/1.1\r\nHost: edge\r\n\r\n" % target)
        answer = await client.read_response()
        self.received["" if spoil else app] += len(answer.body)
        self.statuses[answer.status] += 1
        await client.aclose()

    async def stray(self) -> None:
        """Ask for what nobody has signed."""
        client = await self.running.connect()
        await client.send(b"GET /favicon.ico HTTP/1.1\r\nHost: edge\r\n\r\n")
        answer = await client.read_response()
        self.received[""] += len(answer.body)
        self.statuses[answer.status] += 1
        await client.aclose()

    def _sign(self, app: str, path: str, method: str, terms: dict[str, object]) -> bytes:
        signed = sign_url(app, SECRET, "http://edge", self.url + path, 600, method, terms=terms)
        return signed.removeprefix("http://edge").encode()
