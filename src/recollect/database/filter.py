"""Metadata filters: conditions that must all hold.

Values compare only with their like: text with text, truth values with truth values,
numbers with numbers. A missing field fails every condition but `!=`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from recollect.errors import RequestError

Operator: TypeAlias = Literal["=", "!=", ">", ">=", "<", "<=", "in"]
_OPERATORS = frozenset(get_args(Operator))

_MISSING = object()
_decode = msgspec.json.Decoder().decode


class Condition(msgspec.Struct, frozen=True):
    """One condition on one top-level field; with `in`, `value` is a sequence of alternatives."""

    field: str
    operator: Operator
    value: Any


Filter: TypeAlias = Mapping[str, Any] | Sequence[Condition]
"""Either fields and the values that they must equal, or conditions."""


def parse_filter(given: Filter) -> tuple[Condition, ...]:
    """Bring a filter into one form; RequestError if a condition makes no sense."""
    if isinstance(given, Mapping):
        conditions = tuple(Condition(field, "=", value) for field, value in given.items())
    else:
        conditions = tuple(given)
    for condition in conditions:
        if condition.operator not in _OPERATORS:
            raise RequestError(
                f"{condition.operator!r} is not a filter operator; there are: = != > >= < <= in"
            )
        if condition.operator == "in" and not isinstance(condition.value, (list, tuple)):
            raise RequestError(f"the filter on {condition.field!r} needs a list of alternatives")
    return conditions


def accepts(conditions: tuple[Condition, ...], metadata: bytes | None) -> bool:
    """Tell whether a vector's metadata meets all conditions."""
    fields = {} if metadata is None else _decode(metadata)
    if not isinstance(fields, dict):
        fields = {}
    return all(_holds(condition, fields.get(condition.field, _MISSING)) for condition in conditions)


def _holds(condition: Condition, found: Any) -> bool:
    wanted = condition.value
    if condition.operator == "!=":
        return found is _MISSING or not _equal(found, wanted)
    if found is _MISSING:
        return False
    if condition.operator == "=":
        return _equal(found, wanted)
    if condition.operator == "in":
        return any(_equal(found, one) for one in wanted)
    if _family(found) != _family(wanted) or _family(found) not in ("number", "text"):
        return False
    return _ORDERINGS[condition.operator](found, wanted)


_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    ">": lambda left, right: bool(left > right),
    ">=": lambda left, right: bool(left >= right),
    "<": lambda left, right: bool(left < right),
    "<=": lambda left, right: bool(left <= right),
}


def _equal(left: Any, right: Any) -> bool:
    return _family(left) == _family(right) and bool(left == right)


def _family(value: Any) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, (int, float)):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__
