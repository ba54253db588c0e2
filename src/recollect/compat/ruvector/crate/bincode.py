"""`SnapshotData` of the ruvector-snapshot crate as its bytes: bincode 2, `config::standard()`.

Little endian; an integer below 251 is one byte, else a marker (251, 252, 253) and 2, 4 or 8 bytes;
text and lists are a length and their items; float32 is 4 bytes; an option is 0 or 1 and the value; an
enum is its number. Source: bincode's specification (docs/spec.md of its repository) and the crate's structs.
"""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from recollect.errors import IntegrityError, RequestError

CrateMetric: TypeAlias = Literal["Cosine", "Euclidean", "DotProduct"]
METRICS: tuple[CrateMetric, ...] = ("Cosine", "Euclidean", "DotProduct")

_INTEGER_MAX = (1 << 64) - 1


class CrateHnsw(NamedTuple):
    """`HnswConfig`."""

    m: int
    ef_construction: int
    ef_search: int


class CrateData(NamedTuple):
    """`SnapshotData`: metadata, config, vectors.

    Attributes:
        created_at: RFC 3339, as the crate wrote it.
        version: Of the crate.
        payloads: JSON texts, None for none.
        vectors: Shapes: (n, dimension) float32.
    """

    id: str
    collection_name: str
    created_at: str
    version: str
    dimension: int
    metric: CrateMetric
    hnsw: CrateHnsw | None
    ids: list[str]
    vectors: npt.NDArray[np.float32]
    payloads: list[str | None]


def encode_snapshot(data: CrateData) -> bytes:
    """Encode as the crate does."""
    parts = [encode_text(text) for text in (data.id, data.collection_name, data.created_at, data.version)]
    parts += [encode_integer(data.dimension), encode_integer(METRICS.index(data.metric))]
    parts.append(b"\0" if data.hnsw is None else b"\1" + b"".join(map(encode_integer, data.hnsw)))
    parts.append(encode_integer(len(data.ids)))
    length = encode_integer(data.dimension)
    rows = np.ascontiguousarray(data.vectors, dtype="<f4")
    for record_id, row, payload in zip(data.ids, rows, data.payloads, strict=True):
        parts += [encode_text(record_id), length, row.tobytes()]
        parts += [b"\0"] if payload is None else [b"\1", encode_text(payload)]
    return b"".join(parts)


def decode_snapshot(encoded: bytes) -> CrateData:
    """Decode what the crate wrote.

    Raises:
        IntegrityError: Cut short, longer than it should be, or not this format.
        RequestError: Vectors of another dimension than the collection's.
    """
    reader = _Reader(encoded)
    snapshot_id, collection, created_at, version = (reader.text() for _ in range(4))
    dimension, metric = reader.integer(), reader.integer()
    if metric >= len(METRICS):
        raise IntegrityError(f"the snapshot has an unknown metric, number {metric}")
    hnsw = CrateHnsw(reader.integer(), reader.integer(), reader.integer()) if reader.option() else None
    count = reader.integer()
    if count > len(encoded) // 3:  # a record has at least three bytes
        raise IntegrityError(f"the snapshot claims {count} records in {len(encoded)} bytes")
    ids: list[str] = []
    payloads: list[str | None] = []
    rows: list[bytes] = []
    for number in range(count):
        ids.append(reader.text())
        length = reader.integer()
        rows.append(reader.take(4 * length))
        if length != dimension:
            raise RequestError(f"Vector {number} has dimension {length} but expected {dimension}")
        payloads.append(reader.text() if reader.option() else None)
    reader.finish()
    vectors = np.frombuffer(b"".join(rows), dtype="<f4").reshape(count, dimension)
    return CrateData(
        snapshot_id,
        collection,
        created_at,
        version,
        dimension,
        METRICS[metric],
        hnsw,
        ids,
        vectors,
        payloads,
    )


def encode_integer(value: int) -> bytes:
    """Encode an unsigned integer of up to 64 bits, in as few bytes as it takes."""
    assert 0 <= value <= _INTEGER_MAX, "lengths and counts fit 64 bits"
    if value < 251:
        return bytes([value])
    if value < 1 << 16:
        return struct.pack("<BH", 251, value)
    if value < 1 << 32:
        return struct.pack("<BI", 252, value)
    return struct.pack("<BQ", 253, value)


def encode_text(text: str) -> bytes:
    """Encode text: its length in bytes, then UTF-8."""
    encoded = text.encode("utf-8")
    return encode_integer(len(encoded)) + encoded


class _Reader:
    """Reads values from front to end; never past the end, never more memory than bytes."""

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded
        self._place = 0

    def take(self, count: int) -> bytes:
        """Take so many bytes."""
        end = self._place + count
        if end > len(self._encoded):
            raise IntegrityError(
                f"the snapshot ends at byte {len(self._encoded)}, within a value that reaches to {end}"
            )
        taken = self._encoded[self._place : end]
        self._place = end
        return taken

    def integer(self) -> int:
        """Take an unsigned integer."""
        first = self.take(1)[0]
        if first < 251:
            return first
        size = {251: 2, 252: 4, 253: 8}.get(first)
        if size is None:
            raise IntegrityError(f"byte {self._place - 1} of the snapshot begins no integer: {first}")
        return int.from_bytes(self.take(size), "little")

    def text(self) -> str:
        """Take text."""
        try:
            return self.take(self.integer()).decode("utf-8")
        except UnicodeDecodeError as error:
            raise IntegrityError(f"text before byte {self._place} of the snapshot is not UTF-8") from error

    def option(self) -> bool:
        """Take the byte that says whether a value follows."""
        flag = self.take(1)[0]
        if flag > 1:
            raise IntegrityError(f"byte {self._place - 1} of the snapshot is {flag}, neither 0 nor 1")
        return flag == 1

    def finish(self) -> None:
        """Refuse bytes that are left."""
        left = len(self._encoded) - self._place
        if left:
            raise IntegrityError(f"{left} bytes follow the end of the snapshot")
