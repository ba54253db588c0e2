"""What Qdrant's engines make of records they cannot hold as they are.

Three rules, of the server and of Edge alike. A record without a payload has an empty one.
A vector under the cosine metric is scaled to unit length when it is stored. A double in a payload
may come back one unit in the last place off: payloads are kept as JSON text, and the engine's
parser of numbers rounds twice. Applied before writing, all three become predictable: the engine
leaves a vector of unit length alone, and `written_payload` chooses the double that the engine reads
as the one that is meant.

Source: qdrant, lib/segment/src/spaces/metric.rs and simple_cosine.rs: no scaling where the squared
length is within 1e-6 of 1, or next to zero. serde_json without its feature `float_roundtrip`,
src/de.rs, f64_from_parts; https://github.com/serde-rs/json/issues/1336. `engine_double` was
compared with the engine on 500,000 doubles of all magnitudes, without a difference.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recollect.errors import UnsupportedError
from recollect.values import batch as columns
from recollect.values.digest import dense_matrix
from recollect.values.payload import decode_payload, encode_payload
from recollect.values.schema import CollectionSchema, VectorSpec

SCALED_ALREADY = frozenset({"qdrant", "qdrant-edge"})
UNIT_TOLERANCE = 0.5e-6
"""Half of the engine's: it sums in float32, so near its limit nobody can tell what it will do."""
EMPTY_PAYLOAD = b"{}"

INTEGER_MIN, INTEGER_LIMIT = -(2**63), 2**64
"""Beyond these the engine makes doubles of integers without saying so."""
NEIGHBOURS_MAX = 8
"""How far to look for the double to write; of a million, none lay further than 2 away."""

_EXACT_DIGITS = 15
_POWER_MAX = 308
# 16 digits and more, or an exponent: what the engine may read otherwise. Strings match too, harmlessly.
_INEXACT = re.compile(rb"[0-9][0-9.]{16}|[0-9][eE]")


def as_qdrant_holds(records: pa.RecordBatch, schema: CollectionSchema) -> pa.RecordBatch:
    """Return records as Qdrant will hold them; the same object where nothing changes."""
    changed: dict[str, pa.Array] = {}
    payloads = records.column(columns.PAYLOAD)
    held = _held_payloads(payloads)
    if held is not None:
        changed[columns.PAYLOAD] = held
    for spec in () if schema.native_engine in SCALED_ALREADY else schema.vectors:
        if spec.metric == "cosine" and spec.datatype == "float32" and spec.kind != "sparse":
            name = columns.vector_column(spec.name)
            scaled = _scaled(records.column(name), spec)
            if scaled is not None:
                changed[name] = scaled
    if not changed:
        return records
    arrays = [changed.get(name, records.column(name)) for name in records.schema.names]
    return pa.RecordBatch.from_arrays(arrays, schema=records.schema)


def engine_double(value: float) -> float:
    """Return what the engine gives back for a finite double of a payload."""
    text = repr(abs(value))  # the shortest digits, as the engine writes them
    mantissa, _, exponent_text = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    exponent = int(exponent_text or 0) - len(fraction)
    result = float(int(whole + fraction))
    if exponent < -_POWER_MAX:
        result /= 1e308
        exponent += _POWER_MAX
    result = result / float(f"1e{-exponent}") if exponent < 0 else result * float(f"1e{exponent}")
    return math.copysign(result, value)


def written_double(value: float) -> float | None:
    """Return the double to write so that the engine gives back `value`; None if there is none.

    It is `value` itself for nearly all; every double that an engine ever gave back has one.
    """
    text = repr(value)
    if len(text) <= _EXACT_DIGITS and "e" not in text:
        return value
    if engine_double(value) == value:
        return value
    below = above = value
    for _ in range(NEIGHBOURS_MAX):
        below, above = math.nextafter(below, -math.inf), math.nextafter(above, math.inf)
        for candidate in (below, above):
            if math.isfinite(candidate) and engine_double(candidate) == value:
                return candidate
    return None


def written_payload(encoded: bytes) -> Any:
    """Decode a payload into what to write so that the engine gives back the payload, if it can hold it."""
    payload = decode_payload(encoded)
    return payload if _INEXACT.search(encoded) is None else _with_doubles(payload, _written_or_same)


def _written_or_same(value: float) -> float:
    found = written_double(value)
    return value if found is None else found


def _held_double(value: float) -> float:
    return engine_double(value) if written_double(value) is None else value


def _with_doubles(value: Any, convert: Callable[[float], float]) -> Any:
    if isinstance(value, float):
        return convert(value)
    if isinstance(value, int) and not INTEGER_MIN <= value < INTEGER_LIMIT:
        raise UnsupportedError(
            f"a payload holds the integer {value}; Qdrant keeps integers from -2**63 to 2**64-1",
            "restore into an engine that keeps larger integers, or leave that record out",
        )
    if isinstance(value, dict):
        return {key: _with_doubles(each, convert) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_doubles(each, convert) for each in value]
    return value


def _held_payloads(payloads: pa.BinaryArray) -> pa.BinaryArray | None:
    """Return the payloads that the engine will hold; None if all are held as they are."""
    given = payloads.to_pylist()
    held = [EMPTY_PAYLOAD if encoded is None else _held_payload(encoded) for encoded in given]
    return None if held == given else pa.array(held, type=payloads.type)


def _held_payload(encoded: bytes) -> bytes:
    if _INEXACT.search(encoded) is None:
        return encoded
    return encode_payload(_with_doubles(decode_payload(encoded), _held_double))


def _scaled(values: pa.Array, spec: VectorSpec) -> pa.Array | None:
    """Scale rows to unit length; None if all have it. Nulls stay null."""
    rows = values if spec.kind == "dense" else values.values
    matrix: npt.NDArray[np.float32] = dense_matrix(rows, spec).astype(np.float32, copy=False)
    lengths: npt.NDArray[np.float64] = np.square(matrix, dtype=np.float64).sum(axis=1)
    is_off = (np.abs(lengths - 1.0) > UNIT_TOLERANCE) & (lengths > np.finfo(np.float32).eps)
    if spec.kind == "dense" and values.null_count:
        is_off &= values.is_valid().to_numpy(zero_copy_only=False)
    if not is_off.any():
        return None
    scaled = matrix.copy()
    scaled[is_off] = (matrix[is_off] / np.sqrt(lengths[is_off])[:, None]).astype(np.float32)
    flat = pa.array(scaled.reshape(-1))
    kind = columns.vector_type(spec)
    mask = values.is_null() if values.null_count else None
    if spec.kind == "dense":
        return pa.FixedSizeListArray.from_arrays(flat, type=kind, mask=mask)
    inner = pa.FixedSizeListArray.from_arrays(flat, type=kind.value_type)
    offsets = values.offsets
    return pa.ListArray.from_arrays(offsets, inner, type=kind, mask=mask)
