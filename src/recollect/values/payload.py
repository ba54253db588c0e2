"""Payloads as canonical JSON bytes: equal payloads give equal bytes.

Objects have their keys sorted by code point, no insignificant space, UTF-8, and
numbers keep their kind: integers of any size stay integers, floats print in their
shortest form that reads back to the same double, always with a point or an exponent.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from recollect.errors import RequestError

_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder()


def encode_payload(payload: Any) -> bytes:
    """Encode one payload, already made of dict, list, str, int, float, bool and None.

    Raises:
        RequestError: A value has no canonical form (NaN, infinity, a lone surrogate), or is nested more
            deeply than Python's stack allows.
    """
    try:
        encoded = _ENCODER.encode(payload)
    except RecursionError as error:
        raise RequestError("a payload is nested too deeply to be written as JSON") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError(f"a payload cannot be written as JSON: {error}") from error
    # msgspec writes NaN and infinity as null; a null in the bytes may be one of them.
    if b"null" in encoded and _has_non_finite(payload):
        raise RequestError("a payload holds NaN or an infinity, which JSON cannot carry")
    return encoded


def decode_payload(encoded: bytes) -> Any:
    """Decode one payload; the inverse of `encode_payload`.

    Raises:
        RequestError: The bytes are not JSON, or nested more deeply than Python's stack allows.
    """
    try:
        return _DECODER.decode(encoded)
    except RecursionError as error:
        raise RequestError("a payload is nested too deeply to be read as JSON") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"a payload is not valid JSON: {error}") from error


def _has_non_finite(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(_has_non_finite(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_has_non_finite(item) for item in value)
    return False
