"""What a call used, read off its answer: when it is listened to, and what comes of it at the end.

    the answer is whole, and the API said what was used      that
    whole, and it did not                                    nobody knows; but an error, a redirect
                                                             and an empty answer used nothing
    cut: the client left, the API broke off, time was up     what the API said of its input, else
                                                             an estimate from the body's size, and
                                                             of its output as much as was seen
    not a byte of the call reached the API                   nothing

A whole answer that nobody can read (audio, another coding than gzip and deflate, a WebSocket) is
one whose use nobody knows.
"""

from dataclasses import dataclass, replace

from swproxy.http.framing import ContentLengthBody
from swproxy.http.meter import InflatingMeter, Meter, make_meter
from swproxy.http.usage import Usage
from swproxy.policy.weights import Weights
from swproxy.proxy.upstream import ResponseHead

__all__ = ["Metering", "Spent", "estimate"]

_BYTES_A_TOKEN = 4
"""Of English text and of JSON alike, about; what everybody estimates with."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a call used; `units` is that as budgets count it. None: nobody knows.

    What is `estimated` a budget is charged with only as far as it was held for the call.
    """

    tokens_in: int | None = None
    tokens_out: int | None = None
    units: int | None = None
    model: str = ""
    estimated: bool = False


class Metering:
    """Listens to the answer of one call.

    A call whose request is sent twice has one answer all the same.
    """

    __slots__ = ("_meter", "_response", "_weights")

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._meter: Meter | InflatingMeter | None = None
        self._response: ResponseHead | None = None

    def begin(self, response: ResponseHead) -> None:
        """Listen to an answer, of whose body nothing has been followed yet."""
        self._response = response
        fields = {name: value.decode("latin-1") for name, value in response.headers}
        self._meter = make_meter(fields.get(b"content-type"), fields.get(b"content-encoding"))
        if self._meter is not None:
            response.body.tap = self._meter.feed

    @property
    def seen(self) -> int | None:
        """About how many tokens have gone by, while the answer does; None where none can be read.

        Of an answer that comes as events, one each; one that comes whole says it at its end.
        """
        return self._meter.about if self._meter is not None else None

    def spent(self, *, sent: int, received: int) -> Spent:
        """Return what was used, once all is over.

        `sent` and `received` count the bytes of bodies that went to the API and came from it.
        """
        usage = self._meter.usage() if self._meter else None
        model = self._meter.model if self._meter else None
        if self._response is not None and self._response.body.ended:
            return self._of_whole(self._response, usage, model or "")
        events = self._meter.events if self._meter else 0
        guess = estimate(usage or Usage(model=model), events, sent, received)
        return replace(self._weighed(guess), estimated=True)

    def _of_whole(self, response: ResponseHead, usage: Usage | None, model: str) -> Spent:
        if usage is not None:
            return self._weighed(usage)
        empty = isinstance(response.body, ContentLengthBody) and not response.body.announced
        if empty or not 200 <= response.status < 300:
            return Spent(0, 0, 0, model)
        return Spent(model=model)

    def _weighed(self, usage: Usage) -> Spent:
        read, written = usage.input or 0, usage.output or 0
        units = self._weights.units(usage.model, read, written, usage.cached or 0)
        return Spent(read, written, units, usage.model or "")


def estimate(usage: Usage, events: int, sent: int, received: int) -> Usage:
    """Return what a call used whose answer was cut, by what the API has said and done so far."""
    written = usage.output or 0
    # Running totals say more than a count of events does, unless they are from before those.
    seen = events or received // _BYTES_A_TOKEN
    read = sent // _BYTES_A_TOKEN if usage.input is None else usage.input
    written = written if 2 * written >= seen else seen
    return Usage(read, written, usage.cached, usage.reasoning, usage.model)
