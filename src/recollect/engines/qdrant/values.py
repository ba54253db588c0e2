"""Payload values between protobuf and Python, without loss.

gRPC has 64-bit signed integers and doubles. Qdrant's payloads also hold integers from 2**63 to
2**64-1; it sends them as doubles, without their last bits, and only REST gives them back exactly.
So readers report doubles in that range as suspect, and writers refuse such integers here.
Source: qdrant, lib/api/src/conversions/json.rs (json_to_proto).
"""

from __future__ import annotations

from typing import Any

from recollect.errors import UnsupportedError

INTEGER_LIMIT = 2**63
"""gRPC carries integers below this."""

UNSIGNED_LIMIT = 2**64
"""Qdrant holds integers below this; it makes doubles of larger ones."""


class PayloadReader:
    """Reads maps of `qdrant.Value`; `is_suspect` tells about the payload read last."""

    def __init__(self) -> None:
        self.is_suspect = False

    def read(self, fields: Any) -> dict[str, Any]:
        """Convert one payload."""
        self.is_suspect = False
        return self._fields(fields)

    def _fields(self, fields: Any) -> dict[str, Any]:
        return {key: self._value(value) for key, value in fields.items()}

    def _value(self, value: Any) -> Any:
        kind = value.WhichOneof("kind")
        if kind == "double_value":
            number = value.double_value
            if INTEGER_LIMIT <= number <= UNSIGNED_LIMIT:
                self.is_suspect = True
            return number
        if kind == "struct_value":
            return self._fields(value.struct_value.fields)
        if kind == "list_value":
            return [self._value(each) for each in value.list_value.values]
        if kind is None or kind == "null_value":
            return None
        return getattr(value, kind)


def needs_rest(value: Any) -> bool:
    """Tell whether a payload holds an integer that only REST carries.

    Raises:
        UnsupportedError: It holds one that Qdrant would turn into a double.
    """
    if isinstance(value, dict):
        return any([needs_rest(each) for each in value.values()])  # noqa: C419 - look at every value
    if isinstance(value, list):
        return any([needs_rest(each) for each in value])  # noqa: C419 - as above
    if not isinstance(value, int) or -INTEGER_LIMIT <= value < INTEGER_LIMIT:
        return False
    if 0 < value < UNSIGNED_LIMIT:
        return True
    raise UnsupportedError(
        f"a payload holds the integer {value}; Qdrant keeps integers from -2**63 to 2**64-1 and "
        "would make a double of it",
        "restore into an engine that keeps it",
    )


def write_payload(payload: dict[str, Any], fields: Any) -> None:
    """Fill a map of `qdrant.Value`; integers are below `INTEGER_LIMIT`."""
    for key, value in payload.items():
        _write(value, fields[key])


def _write(value: Any, message: Any) -> None:
    if isinstance(value, str):
        message.string_value = value
    elif value is None:
        message.null_value = 0
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int):
        message.integer_value = value
    elif isinstance(value, float):
        message.double_value = value
    elif isinstance(value, dict):
        message.struct_value.SetInParent()
        write_payload(value, message.struct_value.fields)
    else:
        message.list_value.SetInParent()
        values = message.list_value.values
        for each in value:
            _write(each, values.add())
