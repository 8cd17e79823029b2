"""What an API says a call has used, in the words of each of them, as one record.

Each API has its own place for it and its own names, and two ways of adding up: OpenAI's
`prompt_tokens` contain what came from the cache, Anthropic's `input_tokens` do not; OpenAI's
`completion_tokens` contain the reasoning, Gemini's `candidatesTokenCount` do not. `Tally` takes the
JSON documents of an answer, whether one or one an event, and turns them into a `Usage`.

Numbers are set, never added: streams report running totals (Anthropic's `message_delta`, Gemini's
chunks), and some report the same twice (Groq). Of each number the last that is not null wins, so
what only the first event tells is kept; 0 is a number.

Only the places where APIs put their account are looked at. Whatever else an answer contains may
have been written by the caller: tools and metadata that are echoed, text that was asked for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Tally", "Usage"]

_NAMES = frozenset(
    (
        "prompt_tokens",
        "prompt_tokens_details.cached_tokens",
        "prompt_cache_hit_tokens",
        "completion_tokens",
        "completion_tokens_details.reasoning_tokens",
        "total_tokens",
        "input_tokens",
        "input_tokens_details.cached_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "output_tokens",
        "output_tokens_details.reasoning_tokens",
        "cached_tokens",
        "promptTokenCount",
        "toolUsePromptTokenCount",
        "cachedContentTokenCount",
        "candidatesTokenCount",
        "thoughtsTokenCount",
        "totalTokenCount",
        "prompt_eval_count",
        "eval_count",
    )
)
"""The numbers in an account of any API that are of interest. No name means two things."""

_BARE = ("prompt_eval_count", "eval_count")
"""Those that stand in the document itself: Ollama's."""

_HOLDERS = {"message_start": "message", "message-end": "delta"}
"""Which part of an event has the account, by the event's type: Anthropic's, Cohere's."""

_RESPONSES = "response."
"""How the types of the Responses API begin; the events that have an account have a `response`."""

_MOST = 1 << 53
"""More than this is no number of tokens, and JSON's readers do not agree about it (RFC 8259)."""

_MODEL = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call used, in tokens; None where the API did not say.

    `input` contains `cached`, and `output` contains `reasoning`, whatever the API's own habit.
    """

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None
    model: str | None = None


class Tally:
    """Collects what the documents of one answer say."""

    __slots__ = ("_numbers", "model")

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.model: str | None = None
        """the last that was named, with numbers or without"""

    def take(self, document: object) -> None:
        """Take what a parsed document says, which may be nothing."""
        if not isinstance(document, dict):
            return
        kind = document.get("type")
        holder: object = document
        if isinstance(kind, str):
            if kind.startswith(_RESPONSES):
                holder = document.get("response")
            elif kind in _HOLDERS:
                holder = document.get(_HOLDERS[kind])
        if isinstance(holder, dict):
            self._take_model(holder)
            self._take_account(_account(holder))

    def usage(self) -> Usage | None:
        """Return what has been said so far, or None if no number has been."""
        said = self._numbers
        if not said:
            return None
        total = _first(said, "total_tokens", "totalTokenCount")
        read = _first(
            said, "prompt_tokens", "input_tokens", "promptTokenCount", "prompt_eval_count"
        )
        written = _first(
            said, "completion_tokens", "output_tokens", "candidatesTokenCount", "eval_count"
        )
        cached = _first(
            said,
            "prompt_tokens_details.cached_tokens",
            "input_tokens_details.cached_tokens",
            "prompt_cache_hit_tokens",
            "cachedContentTokenCount",
            "cached_tokens",
        )
        reasoning = _first(
            said,
            "completion_tokens_details.reasoning_tokens",
            "output_tokens_details.reasoning_tokens",
            "thoughtsTokenCount",
        )
        if cached is None and "prompt_tokens" not in said:
            # Anthropic counts what it read from its cache, or wrote there, beside the rest.
            cached = said.get("cache_read_input_tokens")
            read = _sum(read, cached, said.get("cache_creation_input_tokens"))
        read = _sum(read, said.get("toolUsePromptTokenCount"))
        if "thoughtsTokenCount" in said:
            written = _sum(written, reasoning)
        elif reasoning and total == (read or 0) + (written or 0) + reasoning:
            written = _sum(written, reasoning)  # xAI counts it apart, as its total tells
        if read is None and written is None:
            read = total
        return Usage(read, written, cached, reasoning, self.model)

    def _take_model(self, holder: Mapping[str, object]) -> None:
        model = holder.get("model") or holder.get("modelVersion")
        # It goes to logs, and is looked up in the configuration.
        if isinstance(model, str) and _MODEL.fullmatch(model):
            self.model = model

    def _take_account(self, account: Mapping[str, object], within: str = "") -> None:
        for key, value in account.items():
            name = within + key
            if name in _NAMES:
                number = _number(value)
                if number is not None:
                    self._numbers[name] = number
            elif isinstance(value, dict) and not within:
                self._take_account(value, name + ".")


def _account(holder: Mapping[str, object]) -> Mapping[str, object]:
    """Return the part of a document that has the numbers."""
    account = holder.get("usage")
    if not isinstance(account, dict):
        account = holder.get("usageMetadata")
    if not isinstance(account, dict):
        beside = holder.get("x_groq")
        account = beside.get("usage") if isinstance(beside, dict) else None
    if not isinstance(account, dict):
        # Ollama's stand in the document itself.
        return {
            name: holder[name] for name in ("prompt_eval_count", "eval_count") if name in holder
        }
    # Cohere's: what was billed is less than what was used.
    for inner in (account.get("tokens"), account.get("billed_units")):
        if isinstance(inner, dict):
            return {"cached_tokens": account.get("cached_tokens"), **inner}
    return account


def _number(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST:
        return value
    return None


def _first(said: Mapping[str, int], *names: str) -> int | None:
    return next((said[name] for name in names if name in said), None)


def _sum(*numbers: int | None) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None
