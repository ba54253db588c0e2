"""Filter expressions: `field<operator>value`, joined by commas, all of which must hold."""

from __future__ import annotations

import re

from recollect.compat.nvecd.protocol.command import Scalar
from recollect.compat.nvecd.protocol.numbers import parse_value
from recollect.database.filter import Condition, Operator
from recollect.errors import RequestError

_CONDITION = re.compile(r"([^!<>=:]+)(!=|>=|<=|>|<|=|:)(.+)", re.DOTALL)
_OPERATORS: dict[str, Operator] = {":": "=", "=": "=", "!=": "!=", ">": ">", ">=": ">=", "<": "<", "<=": "<="}


def parse_filter(expression: str) -> tuple[Condition, ...]:
    """Read a filter.

    Raises:
        RequestError: A condition has no field, operator or value.
    """
    return tuple(_condition(part) for part in expression.split(",") if part)


def parse_metadata(expression: str) -> dict[str, Scalar]:
    """Read what METASET stores: the conditions of a filter, taken as fields and values."""
    found: dict[str, Scalar] = {}
    for part in expression.split(","):
        if part:
            condition = _condition(part)
            if condition.operator == "in":
                raise RequestError(f"Invalid filter condition: '{part}'")
            found[condition.field] = condition.value
    return found


def _condition(part: str) -> Condition:
    match = _CONDITION.fullmatch(part)
    if match is None:
        raise RequestError(f"Invalid filter condition: '{part}'")
    field, operator, text = match.groups()
    if operator in "=:" and text.startswith("in(") and text.endswith(")"):
        members = text[3:-1].split("|")
        if not all(members):
            raise RequestError(f"Invalid filter condition: '{part}'")
        return Condition(field, "in", tuple(parse_value(member) for member in members))
    return Condition(field, _OPERATORS[operator], parse_value(text))
