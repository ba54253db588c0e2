"""Rows of a held collection, cut into blocks, digested and encoded: the work of one thread.

Every function here is pure, so that blocks can be worked on side by side; what
takes long in it runs without Python's interpreter lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recollect.compat.ruvector.files.record_file import SET, RecordBlock, encode_records
from recollect.compat.ruvector.files.vector_file import encode_vectors
from recollect.database.held import HeldVectors, VectorBatch
from recollect.values import batch as columns
from recollect.values.digest import digest_payloads, digest_vectors
from recollect.values.fingerprint import Fingerprint, fingerprint_batch
from recollect.values.schema import VectorSpec

Slots = npt.NDArray[np.int64]

BLOCK_BYTES = 1 << 20  # of vectors: large enough for the codec, so small that no step of the work takes long
BLOCK_ROWS_MAX = 2048  # few enough that a loop over them in Python keeps no other thread waiting
METADATA_BYTES_MAX = 32 << 20  # of one block; a single record may have more


class DigestedRows(NamedTuple):
    """Digests of rows: 16 bytes each, in one; None in `metadata` where there is none."""

    vectors: bytes
    metadata: list[bytes | None]
    fingerprint: Fingerprint


class EncodedBlock(NamedTuple):
    """One block of rows in the files: a member of each."""

    vectors: bytes
    records: bytes


def cut(slots: Slots, dimension: int) -> Iterator[Slots]:
    """Cut rows into blocks. Shapes: (n,) → parts of it."""
    rows = max(1, min(BLOCK_ROWS_MAX, BLOCK_BYTES // (4 * max(dimension, 1))))
    return (slots[start : start + rows] for start in range(0, len(slots), rows))


def digest_rows(batch: VectorBatch, spec: VectorSpec) -> DigestedRows:
    """Digest rows as every other part of Recollect does, so that fingerprints can be compared."""
    flat = pa.array(np.ascontiguousarray(batch.vectors).reshape(-1), type=pa.float32())
    vectors = digest_vectors(pa.FixedSizeListArray.from_arrays(flat, spec.dimension), spec)
    metadata = digest_payloads(pa.array(batch.metadata, type=pa.binary()))
    names = [columns.KEY, columns.PAYLOAD_DIGEST, columns.vector_digest_column(spec.name)]
    arrays = [pa.array(batch.keys, type=pa.binary()), metadata, vectors]
    fingerprint = fingerprint_batch(pa.RecordBatch.from_arrays(arrays, names=names))
    return DigestedRows(vectors.buffers()[1].to_pybytes(), metadata.to_pylist(), fingerprint)


def encode_rows(batch: VectorBatch, digests: bytes, *, level: int) -> Iterator[EncodedBlock]:
    """Encode rows as one block, or as several if their metadata is large."""
    size = sum(len(one) for one in batch.metadata if one is not None)
    if size > METADATA_BYTES_MAX and len(batch.keys) > 1:
        half = len(batch.keys) // 2
        for part, place in ((slice(None, half), 0), (slice(half, None), half)):
            smaller = VectorBatch(batch.keys[part], batch.vectors[part], batch.metadata[part])
            count = len(smaller.keys)
            yield from encode_rows(smaller, digests[16 * place : 16 * (place + count)], level=level)
        return
    records = RecordBlock(SET, batch.keys, batch.metadata, digests)
    yield EncodedBlock(encode_vectors(batch.vectors, level=level), encode_records(records, level=level))


def spec_of(held: HeldVectors) -> VectorSpec:
    """Return what the collection's vectors are; a spec of dimension 0 if it does not exist."""
    return VectorSpec(name="") if held.schema is None else held.schema.vectors[0]
