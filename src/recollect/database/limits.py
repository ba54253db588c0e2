"""What a write may hold at most, and the checks that every write passes before it is logged.

The limits bound one commit's memory and one frame of the log; they are not tuning knobs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recollect.errors import RequestError
from recollect.values.payload import encode_payload
from recollect.values.schema import CollectionSchema

DIMENSION_MAX = 65_536
NAME_BYTES_MAX = 65_535  # a namespace, agent, context, item or collection name, or a key, in UTF-8
VALUE_BYTES_MAX = 64 << 20  # a state value or the metadata of a vector, as JSON
COMMIT_BYTES_MAX = (1 << 32) - 1  # the length field of a frame has 32 bits
SCORE_MAX = 2**31 - 1  # scores are stored in 32 bits, signed
TIMESTAMP_MAX = 2**63 - 1


def check_name(what: str, name: str) -> str:
    """Return the name if it can be stored: text, not empty, at most `NAME_BYTES_MAX` bytes.

    Any character is allowed, `:` and NUL too: names are stored apart and never joined.
    """
    if not isinstance(name, str):
        raise RequestError(f"{what} must be text, got {type(name).__name__}")
    if not name:
        raise RequestError(f"{what} must not be empty")
    return check_text(what, name)


def check_text(what: str, name: str) -> str:
    """Return the text if it can be stored: at most `NAME_BYTES_MAX` bytes; it may be empty."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise RequestError(f"{what} {name!r} is not valid Unicode: {error.reason}") from error
    if size > NAME_BYTES_MAX:
        raise RequestError(f"{what} has {size} bytes; at most {NAME_BYTES_MAX} can be stored")
    return name


def encode_value(what: str, value: Any) -> bytes:
    """Encode a JSON value canonically; RequestError if it has no form or is too large."""
    encoded = encode_payload(value)
    if len(encoded) > VALUE_BYTES_MAX:
        raise RequestError(
            f"{what} has {len(encoded)} bytes of JSON; at most {VALUE_BYTES_MAX} can be stored"
        )
    return encoded


def check_matrix(vectors: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return a fresh float32 matrix of finite values; RequestError otherwise. Shapes: (n, d) → (n, d)."""
    try:
        matrix = np.array(vectors, dtype="<f4", order="C", ndmin=2)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError(f"vectors must be numbers in rows of one length: {error}") from error
    if matrix.ndim != 2:
        raise RequestError(f"vectors must form one matrix, got an array of {matrix.ndim} dimensions")
    if not 1 <= matrix.shape[1] <= DIMENSION_MAX:
        raise RequestError(f"a vector must have 1 to {DIMENSION_MAX} dimensions, got {matrix.shape[1]}")
    check_finite(matrix)
    return matrix


def check_finite(matrix: npt.NDArray[np.float32]) -> None:
    """Refuse NaN and infinities with a RequestError. Shapes: (n, d)."""
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        raise RequestError(f"vector {int(np.argmin(finite))} of {len(matrix)} holds NaN or an infinity")


def one_row(vector: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return one vector as an array; RequestError for anything but one row of numbers. Shapes: (d,)."""
    try:
        row = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError(f"a vector must be a row of numbers: {error}") from error
    if row.ndim != 1:
        raise RequestError(f"a vector must be one row of numbers, got an array of {row.ndim} dimensions")
    return row


def check_integer(what: str, value: int, *, low: int, high: int) -> int:
    """Return the integer if it lies within `low` and `high`, both included."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise RequestError(f"{what} must be an integer, got {value!r}")
    if not low <= value <= high:
        raise RequestError(f"{what} must be between {low} and {high}, got {value}")
    return int(value)


def check_schema(schema: CollectionSchema) -> CollectionSchema:
    """Return the schema if a collection can have it; RequestError says which part it cannot."""
    if (count := len(schema.vectors)) != 1:
        raise RequestError(f"a collection of this database has exactly one vector, the schema has {count}")
    spec = schema.vectors[0]
    if spec.kind != "dense" or spec.datatype != "float32" or spec.metric == "manhattan":
        found = f"{spec.kind} {spec.datatype} {spec.metric}"
        raise RequestError(
            f"a vector must be dense float32 with cosine, dot or euclid; the schema says {found}"
        )
    return schema
