"""The stand-in for a model's API: OpenAI's chat completions, spoken over TLS on loopback.

What it says is prepared (`answers`), how it says it is real: the caller's key is checked, errors
have OpenAI's shape, and a streamed answer is a row of server-sent events, a role first, then the
content token by token, a finish reason, the usage if it was asked for, and `[DONE]`. Beside that
it has a realtime API (`realtime`).
"""

import hmac
import json
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pydantic
import trio

from swproxy.demo import answers, realtime
from swproxy.demo.web import Exchange, converse

__all__ = ["CA_FILE", "LARGE_MODEL_NAME", "MODEL_NAME", "Model"]

CERTIFICATE = Path(__file__).with_name("certificate")
CA_FILE = CERTIFICATE / "ca.pem"
MODEL_NAME = "stand-in-1"
LARGE_MODEL_NAME = "stand-in-1-large"
"""Says more, at ten times the price, had either of them one."""


class _Part(pydantic.BaseModel):
    type: str
    text: str = ""


class _Message(pydantic.BaseModel):
    role: str
    content: str | list[_Part] | None = None

    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content if part.type == "text")
        return self.content or ""


class _StreamOptions(pydantic.BaseModel):
    include_usage: bool = False


class _ChatRequest(pydantic.BaseModel):
    model: Literal["stand-in-1", "stand-in-1-large"]
    messages: list[_Message] = pydantic.Field(min_length=1)
    stream: bool = False
    stream_options: _StreamOptions = _StreamOptions()
    max_completion_tokens: int | None = pydantic.Field(default=None, ge=1)

    def prompt(self) -> str:
        return next((m.text() for m in reversed(self.messages) if m.role == "user"), "")


@dataclass(frozen=True, slots=True)
class _Completion:
    """One answer, and the JSON in which OpenAI's API dresses it."""

    model: str
    prompt: str
    pieces: list[str]
    finish_reason: str
    with_usage: bool
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(self.pieces), "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": self.finish_reason,
        }
        return self._object("chat.completion", [choice], self._usage())

    def chunks(self) -> Iterator[dict[str, Any]]:
        yield self._chunk({"role": "assistant", "content": "", "refusal": None})
        for piece in self.pieces:
            yield self._chunk({"content": piece})
        yield self._chunk({}, finish_reason=self.finish_reason)
        if self.with_usage:
            yield self._object("chat.completion.chunk", [], self._usage())

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._object("chat.completion.chunk", [choice], None)

    def _object(
        self, kind: str, choices: list[dict[str, Any]], usage: dict[str, int] | None
    ) -> dict[str, Any]:
        value: dict[str, Any] = {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "service_tier": "default",
            "system_fingerprint": "fp_stand_in",
            "choices": choices,
        }
        if kind == "chat.completion" or self.with_usage:
            value["usage"] = usage
        return value

    def _usage(self) -> dict[str, int]:
        asked, said = len(answers.tokens(self.prompt)), len(self.pieces)
        return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


class Model:
    """The model's server.

    `pace` is awaited after each token; `report` is told a line about each streamed answer.
    """

    def __init__(
        self,
        api_key: str,
        *,
        pace: Callable[[], Awaitable[object]],
        report: Callable[[str], None],
    ) -> None:
        self._authorization = f"Bearer {api_key}".encode()
        self._pace = pace
        self._report = report

    async def serve(
        self,
        listeners: list[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve over TLS on `listeners` until cancelled."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE / "server.pem")
        await trio.serve_listeners(
            partial(converse, handle=self._handle),
            [trio.SSLListener(each, context, https_compatible=True) for each in listeners],
            task_status=task_status,
        )

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        known = {"/v1/chat/completions": "POST", "/v1/models": "GET", "/v1/realtime": "GET"}
        if not self._knows(request.headers.get("authorization")):
            await _refuse(exchange, 401, *_key_fault(request.headers.get("authorization")))
        elif request.path not in known:
            reason = f"Invalid URL ({request.method} {request.path})"
            await _refuse(exchange, 404, reason, None)
        elif request.method != known[request.path]:
            reason = f"Not allowed to {request.method} on {request.path}."
            await _refuse(exchange, 405, reason, "method_not_supported")
        elif request.path == "/v1/models":
            entries = [
                {"id": name, "object": "model", "created": 0, "owned_by": "swproxy"}
                for name in (MODEL_NAME, LARGE_MODEL_NAME)
            ]
            await exchange.answer_json(200, {"object": "list", "data": entries})
        elif request.path == "/v1/realtime":
            await self._talk(exchange)
        else:
            await self._complete(exchange)

    def _knows(self, authorization: str | None) -> bool:
        return hmac.compare_digest((authorization or "").encode(), self._authorization)

    async def _talk(self, exchange: Exchange) -> None:
        socket = await realtime.accept(exchange)
        if socket is None:
            await _refuse(exchange, 400, "This endpoint takes WebSockets only.", None)
        else:
            await realtime.converse(socket, pace=self._pace, report=self._report)

    async def _complete(self, exchange: Exchange) -> None:
        try:
            request = _ChatRequest.model_validate_json(exchange.request.body)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(step) for step in first["loc"]) or "body"
            await _refuse(exchange, 400, f"{where}: {first['msg']}", None)
            return
        text = answers.compose(request.prompt(), exchange.request.headers)
        if request.model == LARGE_MODEL_NAME:
            text += answers.MORE
        whole = answers.tokens(text)
        said = whole[: request.max_completion_tokens]
        completion = _Completion(
            request.model,
            request.prompt(),
            said,
            "stop" if len(said) == len(whole) else "length",
            request.stream_options.include_usage,
        )
        if request.stream:
            await self._stream(exchange, completion)
        else:
            await exchange.answer_json(200, completion.whole())

    async def _stream(self, exchange: Exchange, completion: _Completion) -> None:
        said, total = 0, len(completion.pieces)
        try:
            await exchange.start(200, "text/event-stream", [("Cache-Control", "no-cache")])
            for chunk in completion.chunks():
                await exchange.send(f"data: {json.dumps(chunk)}\n\n".encode())
                if chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                    said += 1
                    await self._pace()
            await exchange.send(b"data: [DONE]\n\n")
            await exchange.finish()
        except trio.BrokenResourceError:
            self._report(f"model: the caller left after {said} of {total} tokens, so I stopped")
            raise
        self._report(f"model: said all {total} tokens")


def _key_fault(authorization: str | None) -> tuple[str, str | None]:
    if authorization is None:
        return "You didn't provide an API key.", None
    return "Incorrect API key provided.", "invalid_api_key"


async def _refuse(exchange: Exchange, status: int, message: str, code: str | None) -> None:
    fault = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    await exchange.answer_json(status, {"error": fault})
