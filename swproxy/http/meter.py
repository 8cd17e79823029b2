"""Finds an API's own account of a call in the answer, as the answer passes.

A meter stands beside the relay: it is fed the payload that goes by, keeps the end of it, and is
asked once when all is over. What an answer costs here is decided by what one chunk of a token
stream costs, so `feed` appends to a buffer and no more, and every few kilobytes the front of it is
dropped, event by event. Two things are read: the first events, which have what only they tell
(Anthropic's input, the model), and at the end the last ones, where every API has its totals.

An event that is still going on is kept whole, up to MOST_BYTES. Beyond that its middle is lost, and
with it the knowledge where in the document anything stands: a caller can send a tool whose schema
has a property `usage`, and the Responses API echoes it. So of such an event nothing is believed but
what its end proves (see `documents`), at the depth at which that kind of document has it.

Everything is bounded: bytes kept, times that something is parsed, elements of a list. What was not
found within the bounds is unknown, which is an answer too.
"""

import re

from swproxy.http.documents import decode, find_elements, parse, prove
from swproxy.http.inflate import InflateError, Inflater
from swproxy.http.usage import Tally, Usage

__all__ = ["MOST_BYTES", "InflatingMeter", "Meter", "make_meter"]

_TRIM_BYTES = 4096
_KEPT_BYTES = 768
"""The buffer is cut back to whole events of at least the second when it exceeds the first. The
events that follow an account, `[DONE]` and the like, are shorter."""

MOST_BYTES = 262144
"""One event is kept whole up to this size. What ends a stream of the Responses API has all of the
call in it: its text, its tools."""

_KEPT_PIECES = 4

_FIRST_PARTS = 8
_LAST_PARTS = 64
"""Of all that is read at once, where accounts are; a large piece may have thousands of parts."""

_OPENING_BYTES = 1024
"""Kept of an event whose middle is lost: what kind of document it is stands in front."""

_ALWAYS_COUNTED = 4
_COUNTED_EACH = 16
"""Events are counted in the first pieces that are dropped and then in every sixteenth, for all of
them: counting costs more than all the rest."""

_DOCUMENT_END = re.compile(rb"(?<=\})[ \t\r]*+\n\s*+(?=\{)")
"""Never inside a document: between two objects there would be a comma, and no string has a raw
line feed."""

_USAGE = re.compile(rb'usage(?:Metadata)?"\s*:\s*\{')
_COUNT = re.compile(rb'_count"\s*:\s*\d')

_MEDIA_TYPE = re.compile(r"\s*([\w.+-]+/[\w.+-]+)\s*(?:;|$)", re.ASCII)
_JSON_TYPE = re.compile(r"\w+/(?:[\w.-]+\+)?(?:x-)?(?:nd)?json(?:l|lines)?", re.ASCII)
_INFLATED = ("gzip", "x-gzip", "deflate")


class Meter:
    """Follows the payload of one answer; the subclasses know where its parts end."""

    __slots__ = (
        "_counted",
        "_ends",
        "_events",
        "_last_count",
        "_opening",
        "_pieces",
        "_read_first",
        "_room",
        "_tally",
        "_trims",
    )

    separators: tuple[tuple[bytes, int], ...] = ()
    """What stands between two parts, and how much of it belongs to the first."""

    def __init__(self) -> None:
        self._ends: tuple[bytes, ...] = ()
        self._pieces: list[bytes] = []
        self._room = _TRIM_BYTES
        self._opening: bytes | None = None
        self._tally = Tally()
        self._trims = 0
        self._counted = 0
        self._events = 0
        self._last_count = 0
        self._read_first = False

    def feed(self, payload: bytes) -> None:
        """Take what has gone by."""
        self._pieces.append(payload)
        self._room -= len(payload)
        if self._room < 0:
            self._trim()

    def usage(self) -> Usage | None:
        """Return what the API has said, or None; to be asked when nothing more is fed."""
        self._read(b"".join(self._pieces))
        return self._tally.usage()

    @property
    def model(self) -> str | None:
        """The model that answers, if it has been named by what was read."""
        return self._tally.model

    @property
    def events(self) -> int:
        """About how many events have gone by, without one that has not ended."""
        uncounted = (self._trims - self._counted) * self._last_count
        return self._events + uncounted + self._count(b"".join(self._pieces))

    @property
    def about(self) -> int:
        """The same, less exactly and at no cost: what was counted, and a piece for an event."""
        return self._events + (self._trims - self._counted) * self._last_count + self._pending

    @property
    def _pending(self) -> int:
        """About how many events are held."""
        return 0

    def _trim(self) -> None:
        pieces = self._pieces
        trims = self._trims = self._trims + 1
        if trims > _ALWAYS_COUNTED and trims % _COUNTED_EACH and not self._opening:
            # Of a token stream nearly every piece is an event: then nothing has to be joined.
            last = pieces[-_KEPT_PIECES:]
            size = sum(map(len, last))
            if _KEPT_BYTES <= size < _TRIM_BYTES // 2:
                before = pieces[-_KEPT_PIECES - 1]
                if before.endswith(self._ends):
                    self._pieces = last
                    self._room = _TRIM_BYTES - size
                    return
        held = b"".join(pieces)
        size = len(held)
        cut = self._boundary(held, size - _KEPT_BYTES)
        if cut:
            self._look(held[:cut])
        elif size >= MOST_BYTES:
            self._opening = self._opening or held[:_OPENING_BYTES]
            cut = size - MOST_BYTES // 2
        self._pieces = [held[cut:]]
        size -= cut
        # What lasts is looked at whenever it has doubled: all of it no more than twice.
        self._room = _TRIM_BYTES - size if size < _TRIM_BYTES // 2 else min(size, MOST_BYTES - size)

    def _look(self, region: bytes) -> None:
        """Count and read, as far as need be, what is dropped."""
        if self._trims <= _ALWAYS_COUNTED or not self._trims % _COUNTED_EACH:
            self._last_count = self._count(region)
            self._events += self._last_count * (self._trims - self._counted)
            self._counted = self._trims
        if not self._read_first or self._opening:
            self._read(region)
            self._opening = None

    def _boundary(self, held: bytes, end: int) -> int:
        """Return where the last part that begins at or before `end` does so, or 0."""
        for separator, kept in self.separators:
            at = held.rfind(separator, 0, end + len(separator) - kept)
            if at >= 0:
                return at + kept
        return 0

    def _count(self, region: bytes) -> int:
        """Return how many parts end in `region`."""
        counts = (region.count(separator) for separator, _ in self.separators)
        return next(filter(None, counts), 0)

    def _read(self, region: bytes) -> None:
        """Take what the parts of `region` say; the first of all tells the model at least."""
        parts = self._parts(region)
        if self._opening:
            rest = self._text(parts.pop(0), begun=True)
            for document in prove(self._text(self._opening), rest):
                self._tally.take(document)
        for part in parts[:_FIRST_PARTS] + parts[_FIRST_PARTS:][-_LAST_PARTS:]:
            if not self._read_first or self._may_count(part):
                text = self._text(part)
                self._read_first = self._read_first or bool(text)
                self._tally.take(parse(text))

    def _may_count(self, part: bytes) -> bool:
        """Tell whether it is worth while to parse a part."""
        return bool(_USAGE.search(part))

    def _parts(self, region: bytes) -> list[bytes]:
        """Return the parts of `region`, of which the last may be unfinished."""
        raise NotImplementedError

    def _text(self, part: bytes, *, begun: bool = False) -> str:
        """Return the JSON in a part, or in the rest of one that had `begun` before."""
        raise NotImplementedError


class EventMeter(Meter):
    """Follows an event stream (WHATWG HTML section 9.2.6)."""

    __slots__ = ()

    separators = ((b"\n\n", 2), (b"\n\r\n", 3), (b"\r\r", 2))

    def __init__(self) -> None:
        super().__init__()
        self._ends = (b"\n\n", b"\n\r\n")

    @property
    def _pending(self) -> int:
        return len(self._pieces)

    def _parts(self, region: bytes) -> list[bytes]:
        if b"\r" in region:
            region = region.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return region.split(b"\n\n")

    def _text(self, part: bytes, *, begun: bool = False) -> str:
        lines = (b"data:" + part if begun else part).split(b"\n")
        return decode(b"\n".join(line[5:] for line in lines if line.startswith(b"data:")))


class DocumentMeter(Meter):
    """Follows JSON: one document, one a line, or a list of them, which is how Gemini streams."""

    __slots__ = ("_listed",)

    separators = ((b"}\n{", 2), (b"}\r\n{", 3))

    def __init__(self) -> None:
        super().__init__()
        self._listed: bool | None = None

    def _is_list(self, held: bytes) -> bool:
        if self._listed is None and (begun := held.lstrip()):
            self._listed = begun.startswith(b"[")
        return self._listed is True

    def _boundary(self, held: bytes, end: int) -> int:
        if not self._is_list(held):
            cut = super()._boundary(held, end)
            if cut:
                self._ends = (b"}\n",)  # a document a line, then
            return cut
        if self._opening:
            return 0  # which bracket closes what can't be told any more
        ends = (element.end for element in find_elements(decode(held)))
        return max((each for each in ends if each <= end), default=0)

    def _count(self, region: bytes) -> int:
        if not self._is_list(region):
            return super()._count(region)
        return 0 if self._opening else len(find_elements(decode(region)))

    def _may_count(self, part: bytes) -> bool:
        return bool(_USAGE.search(part) or _COUNT.search(part))  # Ollama has no more than numbers

    def _parts(self, region: bytes) -> list[bytes]:
        if not self._is_list(region):
            return _DOCUMENT_END.split(region)
        if self._opening:
            return [region]
        return [region[element.start : element.end] for element in find_elements(decode(region))]

    def _text(self, part: bytes, *, begun: bool = False) -> str:  # noqa: ARG002 - the same in both
        return decode(part)


class InflatingMeter:
    """A meter of an answer that its API has compressed, although it was asked not to."""

    __slots__ = ("_inflater", "_meter")

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._inflater: Inflater | None = Inflater()

    def feed(self, payload: bytes) -> None:
        """Take what has gone by, and follow it as long as that costs no more than it should."""
        if self._inflater is None:
            return
        try:
            for piece in self._inflater.feed(payload):
                self._meter.feed(piece)
        except InflateError:
            self._inflater = None

    def usage(self) -> Usage | None:
        """Return what the API has said, or None, as always when it could not be followed."""
        return None if self._inflater is None else self._meter.usage()

    @property
    def model(self) -> str | None:
        """The model that answers, if it has been named by what was read."""
        return self._meter.model

    @property
    def events(self) -> int:
        """About how many events have gone by while they could be followed."""
        return self._meter.events

    @property
    def about(self) -> int:
        """The same, less exactly and at no cost."""
        return self._meter.about


def make_meter(
    content_type: str | None, content_coding: str | None
) -> Meter | InflatingMeter | None:
    """Return a meter for an answer with these fields, or None if it can't be read."""
    media = _MEDIA_TYPE.match(content_type or "")
    kind = media[1].lower() if media else ""
    meter: Meter
    if kind == "text/event-stream":
        meter = EventMeter()
    elif _JSON_TYPE.fullmatch(kind):
        meter = DocumentMeter()
    else:
        return None
    coding = (content_coding or "identity").strip().lower()
    if coding in _INFLATED:
        return InflatingMeter(meter)
    return meter if coding in ("identity", "") else None
