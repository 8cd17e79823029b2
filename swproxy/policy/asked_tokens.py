"""How many tokens a body asks a model to write at most, read so that nobody gains by hiding it.

    max_completion_tokens, max_tokens    OpenAI's new and old name, and Anthropic's
    max_output_tokens                    OpenAI's Responses
    maxOutputTokens                      Gemini's, in `generationConfig`

It counts only where an API looks for it: a small number elsewhere says nothing. There the
largest counts, whichever of two equal names, or of names that fold to one, the API takes. Whoever
asks for several answers at once asks for as many times the tokens.
"""

import json
import math
import re
from typing import Any, Final

__all__ = ["asked_tokens"]

_PARSED_BYTES: Final = 65536
"""As many as are read without a stream noticing."""

_MOST: Final = 10**9

_NAMES: Final = frozenset({"maxcompletiontokens", "maxoutputtokens", "maxtokens"})
_ANSWERS: Final = frozenset({"n", "bestof", "candidatecount"})
_BELOW: Final = "generationconfig"

_ANYWHERE: Final = re.compile(
    rb'"(?:max_completion_tokens|max_output_tokens|max_tokens|maxOutputTokens)"\s*:\s*([0-9]{1,9})'
)


def asked_tokens(body: bytes, *, whole: bool = True) -> int | None:
    """Return the most tokens that a model may write, None if the body does not say.

    Of a body too large to be parsed, or not at hand as a `whole`, the first 64 KiB are searched.
    """
    if not whole or len(body) > _PARSED_BYTES:
        return max(map(int, _ANYWHERE.findall(body[:_PARSED_BYTES])), default=None)
    try:
        # Pairs keep what is given twice, and tuples tell an object from a list.
        top = json.loads(body, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return None
    asked: list[int] = []
    answers = [1]
    _look(top, asked, answers)
    return min(max(asked) * max(answers), _MOST) if asked else None


def _look(pairs: Any, asked: list[int], answers: list[int], *, below: bool = False) -> None:
    for name, value in pairs if type(pairs) is tuple else ():
        folded = name.casefold().replace("_", "")
        if folded == _BELOW and not below:
            _look(value, asked, answers, below=True)
        elif folded in _NAMES:
            asked += _number(value)
        elif folded in _ANSWERS:
            answers += _number(value)


def _number(value: Any) -> tuple[int, ...]:
    """Return the number that some reader takes a value for; protobuf takes one written as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return ()
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return ()
    return (math.ceil(min(number, _MOST)),) if number >= 0 else ()
