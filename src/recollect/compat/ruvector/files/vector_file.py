"""`vectors.bin.gz`: matrices of float32, each a block in a member of its own.

Embeddings have skewed exponents and noise for mantissas, so a block is taken apart into
three planes: the low and the middle bits are stored, the exponents are entropy-coded. On real
embeddings that is both smaller and faster than deflate over the rows
(docs/decisions/0080-gzip-of-vectors.md). Bit patterns come back exactly.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from recollect.codec.planes import join_words, split_words
from recollect.compat.ruvector.files.header import decode_header, encode_header
from recollect.compat.ruvector.files.member import Buffer, encode_member
from recollect.errors import IntegrityError

Matrix = npt.NDArray[np.float32]

_FIELDS = struct.Struct("<IQ")  # dimension, rows
_BLOCK = struct.Struct("<II")  # encoding, rows
_RAW, _PLANES = 0, 1


def encode_vector_header(snapshot_id: str, *, dimension: int, row_count: int) -> bytes:
    """Return the first member."""
    return encode_header("vectors", snapshot_id, _FIELDS.pack(dimension, row_count))


def decode_vector_header(snapshot_id: str, raw: bytes) -> tuple[int, int]:
    """Return dimension and row count."""
    fields = decode_header("vectors", snapshot_id, raw)
    if len(fields) != _FIELDS.size:
        raise IntegrityError("the header of the vectors has another length")
    dimension, row_count = _FIELDS.unpack(fields)
    return dimension, row_count


def encode_vectors(matrix: Matrix, *, level: int) -> bytes:
    """Encode one block; level 0 keeps the rows as they are. Shapes: matrix (n, d)."""
    words = np.ascontiguousarray(matrix, dtype="<f4").view(np.uint32).reshape(-1)
    head = _BLOCK.pack(_PLANES if level else _RAW, len(matrix))
    if not level:
        return encode_member([head, _bytes(words)], b"", level=0)
    low = np.empty(len(words), dtype=np.uint16)
    middle = np.empty(len(words), dtype=np.uint8)
    exponents = np.empty(len(words), dtype=np.uint8)
    split_words(words, low, middle, exponents)
    stored: list[Buffer] = [head, _bytes(low), _bytes(middle)]
    return encode_member(stored, _bytes(exponents), level=level, strategy="entropy")


def decode_vectors(raw: bytes, dimension: int) -> Matrix:
    """Decode one block. Shapes: → (n, dimension), writable.

    Raises:
        IntegrityError: The block does not have the length that its rows need.
    """
    if len(raw) < _BLOCK.size:
        raise IntegrityError("a block of vectors has no header")
    encoding, rows = _BLOCK.unpack_from(raw)
    count = rows * dimension
    if encoding not in {_RAW, _PLANES} or len(raw) != _BLOCK.size + 4 * count:
        raise IntegrityError(f"a block of {rows} vectors has {len(raw)} bytes and encoding {encoding}")
    if encoding == _RAW:
        return np.frombuffer(raw, dtype="<f4", offset=_BLOCK.size).reshape(rows, dimension).copy()
    words = np.empty(count, dtype=np.uint32)
    low = np.frombuffer(raw, dtype="<u2", offset=_BLOCK.size, count=count)
    middle = np.frombuffer(raw, dtype=np.uint8, offset=_BLOCK.size + 2 * count, count=count)
    exponents = np.frombuffer(raw, dtype=np.uint8, offset=_BLOCK.size + 3 * count, count=count)
    join_words(low, middle, exponents, words)
    return words.view(np.float32).reshape(rows, dimension)


def _bytes(array: npt.NDArray[Any]) -> memoryview:
    return array.data.cast("B")
