"""The fields of a signed request as rows for reading: what each says, and all its faults.

Parsing ends at the first fault; this does not. Each parameter is decoded and read for itself, by
the verifier's own readers, and what depends on several of them is judged as far as they are known.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from swproxy.sw1.canonical import SIGNATURE
from swproxy.sw1.claims import (
    check_algorithm,
    check_lifetime,
    check_moment,
    read_body_flag,
    read_credential,
    read_date,
    read_expires,
    read_signature,
    read_signed_headers,
)
from swproxy.sw1.query import decode_value, disguised_names, show
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.signed_headers import CONTENT_LENGTH

__all__ = ["Known", "Row", "Verdict", "body_row", "header_rows", "parameter_rows", "time_rows"]

Verdict = Literal["ok", "bad", "unknown"]


@dataclass(frozen=True, slots=True)
class Row:
    """One field of the request: what it says, and what is right, wrong or worth knowing of it."""

    field: str
    value: str
    verdict: Verdict
    note: str


@dataclass(slots=True)
class Known:
    """What has been read without a fault so far."""

    signed_at: int | None = None
    day: str | None = None
    expires: int | None = None
    signed_headers: tuple[str, ...] = ()
    body_signed: bool | None = None


def parameter_rows(pairs: Sequence[str]) -> tuple[Known, list[Row]]:
    """Judge the encoded `name=value` pairs of a query; return what they say and a row for each."""
    given: dict[str, list[str]] = {}
    foreign: list[str] = []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if name in _READERS and equals:
            given.setdefault(name, []).append(value)
        else:
            foreign.append(pair)
    known = Known()
    rows = [_parameter_row(name, given.get(name, []), known) for name in _READERS]
    for pair in foreign:
        if pair in _READERS:
            rows.append(Row(pair, "", "bad", "has no value, not even an empty one behind '='"))
            continue
        faults = [fault.detail for fault in disguised_names(pair)]
        note = " ".join(faults) or "not of this scheme: neither signed nor forwarded"
        rows.append(Row(show(pair.partition("=")[0]), "", "bad" if faults else "ok", note))
    return known, rows


def _parameter_row(name: str, values: Sequence[str], known: Known) -> Row:
    if not values:
        return Row(name, "", "bad", "missing")
    faults = [f"Given {len(values)} times."] if len(values) > 1 else []
    shown, note = show(values[0], 400), ""
    try:
        value = decode_value(name, values[0])
        shown = show(value, 400)
        note = _READERS[name](value, known)
    except Refusal as refusal:
        faults.append(refusal.detail)
    if name == SIGNATURE:
        shown = f"({len(values[0])} characters, not shown)"
    return Row(name, shown, "bad" if faults else "ok", " ".join(faults) or note)


def _read_algorithm(value: str, _: Known) -> str:
    check_algorithm(value)
    return ""


def _read_date(value: str, known: Known) -> str:
    known.signed_at = read_date(value)
    known.day = value[:8]
    return _iso(known.signed_at)


def _read_credential(value: str, known: Known) -> str:
    # Without a date to compare with, its day is only checked for its form.
    day = known.day or value.rpartition("/")[2]
    return f"application {show(read_credential(value, day))}, day {day}"


def _read_expires(value: str, known: Known) -> str:
    known.expires = read_expires(value)
    return f"{timedelta(seconds=known.expires)} from the date"


def _read_proxy(_value: str, _: Known) -> str:
    return "the destination, decoded; whether it is allowed is for the application to say"


def _read_signed_headers(value: str, known: Known) -> str:
    known.signed_headers = read_signed_headers(value)
    return "" if value else "none"


def _read_body_flag(value: str, known: Known) -> str:
    known.body_signed = read_body_flag(value)
    return "the body is signed" if known.body_signed else "any body will do"


def _read_signature(value: str, _: Known) -> str:
    read_signature(value)
    return "has the form of a signature"


# In the order of the rows; the date comes before the credential, which is compared with it.
_READERS: Mapping[str, Callable[[str, Known], str]] = {
    "X-Sw-Algorithm": _read_algorithm,
    "X-Sw-Date": _read_date,
    "X-Sw-Credential": _read_credential,
    "X-Sw-Expires": _read_expires,
    "X-Sw-Proxy": _read_proxy,
    "X-Sw-SignedHeaders": _read_signed_headers,
    "X-Sw-Body": _read_body_flag,
    SIGNATURE: _read_signature,
}


def _iso(moment: float) -> str:
    try:
        return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError):
        return "beyond the calendar"


def time_rows(known: Known, now: float, expiry_seconds: int, skew_seconds: int) -> list[Row]:
    """Judge how long the URL holds, and whether it does at `now` (seconds since the epoch)."""
    if known.expires is None:
        return []
    rows = []
    lifetime = known.expires
    note, verdict = _outcome(lambda: check_lifetime(lifetime, expiry_seconds))
    rows.append(Row("lifetime", f"{lifetime} s", verdict, note or f"at most {expiry_seconds} s"))
    if known.signed_at is not None:
        start = known.signed_at
        note, verdict = _outcome(lambda: check_moment(start, lifetime, now, skew_seconds))
        value = f"{_iso(start)} to {_iso(start + lifetime)}, end excluded"
        rows.append(Row("time", value, verdict, note or f"now is {_iso(now)}"))
    return rows


def header_rows(known: Known, sent: Sequence[tuple[bytes, bytes]]) -> list[Row]:
    """Judge each signed header by what was sent: lower-case names, raw values."""
    rows = []
    for name in known.signed_headers:
        values = [value for sent_name, value in sent if sent_name == name.encode()]
        shown = " | ".join([show(value.decode("utf-8", "replace"), 400) for value in values])
        note = "signed"
        verdict: Verdict = "ok"
        if len(values) != 1:
            verdict = "bad"
            note = f"sent {len(values)} times; a signed header is sent exactly once"
        if name == CONTENT_LENGTH and known.body_signed:
            note = "signed as a count of the body's bytes, code points or UTF-16 units"
            verdict = "bad" if len(values) > 1 else "ok"
        elif any(byte in value for value in values for byte in (b"\n", b"\r", b"\0")):
            verdict, note = "bad", "holds a line break or a NUL"
        rows.append(Row(f"header {name}", shown, verdict, note))
    return rows


def body_row(known: Known, body: bytes | None) -> Row:
    """Say whether the body counts. It has no fault of its own: the signature judges it."""
    value = "none" if body is None else f"{len(body)} bytes"
    if not known.body_signed:
        return Row("body", value, "ok", "not signed")
    note = "signed, every byte" if body is not None else "signed; none given, so taken as empty"
    return Row("body", value, "ok", note)


def _outcome(check: Callable[[], None]) -> tuple[str, Verdict]:
    try:
        check()
    except Refusal as refusal:
        return refusal.detail, "bad"
    return "", "ok"
