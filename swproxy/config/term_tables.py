"""Terms in the configuration: the names that URLs have, with values as TOML writes them.

What is configured holds besides what a URL says, for every call of an application or of a plan. A
table is flat (`"body.model" = ["small"]`) or nested as TOML's dotted keys make it (`body.model`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field, PlainValidator, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from swproxy.config.complaints import translate, unknown_key
from swproxy.config.faults import Place, kind
from swproxy.config.limit_tables import UserLimits, read_allowance
from swproxy.policy.allowances import NO_ALLOWANCE, Allowance
from swproxy.sw1.terms import NAMES, NO_TERMS, PLAN_NAME, BadTermError, Terms, collect, known_name
from swproxy.sw1.write_terms import WrongTypeError, written_value

__all__ = ["Plan", "Plans", "Required", "TermTable"]

# What makes a URL one user's is nothing that many URLs can have in common.
_FOR_URLS = ("user", "plan")


@dataclass(frozen=True, slots=True)
class Plan:
    """What holds for the URLs that name it."""

    terms: Terms = NO_TERMS
    limits: Allowance = NO_ALLOWANCE
    """for each user, in place of those of the application"""


def _read(table: object) -> Terms:
    """Return a table's terms; raises ValueError, or ValidationError with a fault for each key."""
    if isinstance(table, Terms):
        return table
    if not isinstance(table, dict):
        raise ValueError(f"expects a table, got {kind(table)}")
    faults: list[InitErrorDetails] = []
    pairs: list[tuple[str, str]] = []
    for place, name, value in _flat(table):
        try:
            pair = (name, _written(name, value))
            collect([*pairs, pair])
        except BadTermError as fault:
            faults.append(_fault(place, fault.reason))
        else:
            pairs.append(pair)
    if faults:
        raise ValidationError.from_exception_data("terms", faults)
    terms = collect(pairs)
    return replace(terms, body=tuple([replace(term, configured=True) for term in terms.body]))


def _flat(table: dict[str, Any]) -> Iterator[tuple[Place, str, object]]:
    """Give each value of a table with its place in there and the name of its term."""
    for name, value in table.items():
        if isinstance(value, dict):
            for place, rest, inner in _flat(value):
                yield (name, *place), f"{name}.{rest}", inner
        else:
            yield (name,), name, value


def _written(name: str, value: object) -> str:
    if name in _FOR_URLS:
        raise BadTermError(name, "is for URLs to say, which `require` can make them")
    try:
        known_name(name)
    except BadTermError as fault:
        unknown = "." not in name
        raise BadTermError(
            name, unknown_key(name, NAMES, {}) if unknown else fault.reason
        ) from None
    try:
        return written_value(name, value)
    except WrongTypeError:
        raise BadTermError(name, f"cannot be {kind(value)}") from None


def _fault(place: Place, reason: str) -> InitErrorDetails:
    problem = PydanticCustomError("value_error", "{error}", {"error": reason})
    return InitErrorDetails(type=problem, loc=place, input=None)


def _plan(table: object) -> Plan:
    if isinstance(table, Plan):
        return table
    if not isinstance(table, dict):
        return Plan(_read(table))
    limits = {name: value for name, value in table.items() if _is_limit(name, value)}
    terms = {name: value for name, value in table.items() if name not in limits}
    faults: list[InitErrorDetails] = []
    read = Terms()
    try:
        read = _read(terms)
    except ValidationError as error:
        faults += [_fault(each["loc"], str(each["ctx"]["error"])) for each in error.errors()]
    allowance = NO_ALLOWANCE
    try:
        allowance = read_allowance(limits)
    except ValidationError as error:
        said = translate(error, lambda _: UserLimits.model_fields, {})
        faults += [_fault(place, reason) for place, reason in said]
    if faults:
        raise ValidationError.from_exception_data("plan", faults)
    return Plan(read, allowance)


def _is_limit(name: str, value: object) -> bool:
    """Tell limits from terms: a number of tokens is the URL's, one in a time the user's."""
    return name in ("requests", "concurrent") or (name == "tokens" and isinstance(value, str))


def _plan_name(name: object) -> object:
    if not isinstance(name, str) or not PLAN_NAME.fullmatch(name):
        raise ValueError("is not a plan's name: up to 64 letters, digits, - and _")
    return name


def _required(name: object) -> object:
    if not isinstance(name, str):
        raise ValueError(f"expects text, got {kind(name)}")
    return known_name(name)


TermTable = Annotated[Terms, PlainValidator(_read)]
Plans = dict[Annotated[str, PlainValidator(_plan_name)], Annotated[Plan, PlainValidator(_plan)]]
Required = Annotated[tuple[Annotated[str, PlainValidator(_required)], ...], Field(strict=False)]
