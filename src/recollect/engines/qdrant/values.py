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


class WideIntegerError(Exception):
    """A payload holds an integer that gRPC cannot carry and REST can; never leaves the adapter."""


class PayloadReader:
    """Reads lists of payload entries; `is_suspect` tells about the payload read last."""

    def __init__(self) -> None:
        self.is_suspect = False

    def read(self, entries: Any) -> dict[str, Any]:
        """Convert one payload."""
        self.is_suspect = False
        value = self._value
        return {entry.key: value(entry.value) for entry in entries}

    def _value(self, message: Any) -> Any:
        kind = message.WhichOneof("kind")
        if kind == "string_value":
            return message.string_value
        if kind == "integer_value":
            return message.integer_value
        if kind == "double_value":
            number = message.double_value
            if INTEGER_LIMIT <= number <= UNSIGNED_LIMIT:
                self.is_suspect = True
            return number
        if kind == "list_value":
            return [self._value(each) for each in message.list_value.values]
        if kind == "struct_value":
            return {entry.key: self._value(entry.value) for entry in message.struct_value.fields}
        return message.bool_value if kind == "bool_value" else None


def write_payload(payload: dict[str, Any], entries: Any) -> None:
    """Fill a list of payload entries.

    Raises:
        WideIntegerError: REST must carry this payload; the list is filled in part.
        UnsupportedError: It holds an integer that Qdrant would turn into a double.
    """
    for key, value in payload.items():
        entry = entries.add()
        entry.key = key
        _write(value, entry.value)


def _write(value: Any, message: Any) -> None:
    if isinstance(value, str):
        message.string_value = value
    elif value is None:
        message.null_value = 0
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int):
        _check_integer(value)
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


def check_integers(value: Any) -> None:
    """Make sure that Qdrant keeps every integer of a payload that goes by REST.

    Raises:
        UnsupportedError: It would turn one of them into a double.
    """
    if isinstance(value, dict):
        for each in value.values():
            check_integers(each)
    elif isinstance(value, list):
        for each in value:
            check_integers(each)
    elif isinstance(value, int) and not -INTEGER_LIMIT <= value < UNSIGNED_LIMIT:
        raise UnsupportedError(
            f"a payload holds the integer {value}; Qdrant keeps integers from -2**63 to 2**64-1 and "
            "would make a double of it",
            "restore into an engine that keeps it",
        )


def _check_integer(value: int) -> None:
    if not -INTEGER_LIMIT <= value < INTEGER_LIMIT:
        check_integers(value)
        raise WideIntegerError
