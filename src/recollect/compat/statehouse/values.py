"""JSON values as protobuf Structs, and back, without losing anything on the way.

A Struct's numbers are doubles. Those that are whole are stored as integers, so that they
read like what was meant; both forms are the same Struct again.
"""

from __future__ import annotations

import math
from typing import Any

from recollect.errors import UnsupportedError

_WHOLE_MAX = 2.0**53  # beyond it a double no longer tells neighbouring integers apart
WRAPPED = "value"
"""Key under which a value that is no JSON object is shown to clients, who know only objects."""


def from_struct(struct: Any) -> dict[str, Any]:
    """Return the JSON object that a Struct holds, arrays of objects included."""
    return {key: _from_value(value) for key, value in struct.fields.items()}


def fill_struct(struct: Any, value: Any) -> None:
    """Put a JSON value into an empty Struct; what is no object goes under `WRAPPED`."""
    struct.SetInParent()  # an empty object is still a value
    fields = value if isinstance(value, dict) else {WRAPPED: value}
    for key, item in fields.items():
        _fill_value(struct.fields[key], item)


def _from_value(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return from_struct(value.struct_value)
    if kind == "list_value":
        return [_from_value(item) for item in value.list_value.values]
    if kind == "number_value":
        return _number(value.number_value)
    if kind == "string_value":
        return value.string_value
    return value.bool_value if kind == "bool_value" else None


def _number(number: float) -> int | float:
    is_whole = math.isfinite(number) and number.is_integer() and abs(number) <= _WHOLE_MAX
    return (
        int(number) if is_whole and math.copysign(1.0, number) == (1.0 if number >= 0 else -1.0) else number
    )


def _double(number: float) -> float:
    try:
        return float(number)
    except OverflowError as error:
        raise UnsupportedError(
            "the value holds an integer that no double can be; this API has no other numbers",
            "read it with `recollect.database`",
        ) from error


def _fill_value(target: Any, value: Any) -> None:
    if value is None:
        target.null_value = 0
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, (int, float)):
        target.number_value = _double(value)
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, dict):
        fill_struct(target.struct_value, value)
    else:
        target.list_value.SetInParent()
        for item in value:
            _fill_value(target.list_value.values.add(), item)
