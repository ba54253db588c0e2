"""A source that makes its records as they are read: any number of them, in the memory of one batch.

Deterministic: the records depend on the seed and the generation only. To measure memory and
time of the verbs without an engine, and to test what needs more records than fit in a test.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recollect.engines.base import Capabilities, CollectionDescription, EngineInfo
from recollect.errors import NotFoundError
from recollect.values import batch as columns
from recollect.values.key import integer_keys
from recollect.values.schema import CollectionSchema, VectorSpec

COLLECTION = "generated"
BLOCK_ROWS = 4096
"""Records that share one generator; the same whatever the batches."""
PAYLOAD_BYTES = 200


class GeneratedSource:
    """`record_count` records with unit vectors and JSON payloads.

    Args:
        generation: Which state of the collection: between two generations, `changed_share` of the
            records get another vector; the keys stay.
        payload_bytes: Size of each payload, about.
        order: "ascending" by key; "blocks" hands out the last block first and promises no order.
    """

    def __init__(
        self,
        record_count: int,
        dimension: int,
        *,
        seed: int = 0,
        generation: int = 0,
        changed_share: float = 0.01,
        payload_bytes: int = PAYLOAD_BYTES,
        order: Literal["ascending", "blocks"] = "ascending",
    ) -> None:
        self._record_count = record_count
        self._seed = seed
        self._generation = generation
        self._changed_share = changed_share
        self._payload_bytes = payload_bytes
        self._is_ordered = order == "ascending"
        self._schema = CollectionSchema(vectors=(VectorSpec(name="", dimension=dimension, metric="cosine"),))

    @property
    def capabilities(self) -> Capabilities:
        """Generated records never change under a hold, and come in order unless told otherwise."""
        return Capabilities(point_in_time=True, ordered_scan=self._is_ordered)

    def info(self) -> EngineInfo:
        """Identify the source; all generations are states of one."""
        return EngineInfo(product="generated", url=f"generated:{self._record_count}x{self._seed}")

    @contextmanager
    def hold(self) -> Iterator[GeneratedSource]:
        """Hold the generation that this object stands for."""
        yield self

    def close(self) -> None:
        """Do nothing."""

    def collections(self) -> list[str]:
        """Return the one collection's name."""
        return [COLLECTION]

    def describe(self, name: str) -> CollectionDescription:
        """Describe the collection."""
        if name != COLLECTION:
            raise NotFoundError(f"there is no collection {name!r}; there is: {COLLECTION}")
        return CollectionDescription(name=name, schema=self._schema, record_count=self._record_count)

    def scan(self, name: str, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Make all records, a block at a time."""
        self.describe(name)
        starts = range(0, self._record_count, BLOCK_ROWS)
        for start in starts if self._is_ordered else reversed(starts):
            count = min(BLOCK_ROWS, self._record_count - start)
            yield from columns.rebatch(iter([self._block(start, count)]), rows_max=batch_rows)

    def _block(self, start: int, count: int) -> pa.RecordBatch:
        ids = np.arange(start, start + count, dtype=np.uint64)
        target = columns.record_schema(self._schema)
        vectors = pa.FixedSizeListArray.from_arrays(
            pa.array(self._vectors(start, count).reshape(-1)),
            type=target.field(columns.vector_column("")).type,
        )
        texts = [_payload(number, self._payload_bytes) for number in ids.tolist()]
        payloads = pa.array(texts, type=pa.binary())
        arrays = [integer_keys(ids), pa.nulls(count, pa.uint64()), payloads, vectors]
        return pa.RecordBatch.from_arrays(arrays, schema=target)

    def _vectors(self, start: int, count: int) -> npt.NDArray[np.float32]:
        """Make unit vectors. Shapes: (count, d)."""
        dimension = self._schema.vectors[0].dimension
        generator = np.random.default_rng([self._seed, start])
        vectors = generator.standard_normal((count, dimension), dtype=np.float32)
        for generation in range(1, self._generation + 1):
            other = np.random.default_rng([self._seed, start, generation])
            changed = other.random(count) < self._changed_share
            vectors[changed] = other.standard_normal((int(changed.sum()), dimension), dtype=np.float32)
        scaled: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return scaled


def _payload(number: int, byte_size: int) -> bytes:
    text = f'{{"number":{number},"text":"'
    return (text + f"record {number} " * (byte_size // 12))[: byte_size - 2].encode() + b'"}'
