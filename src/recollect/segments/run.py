"""Read one run: its segments one after the other, as one stream in key order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recollect.codec.index_file import IndexSource, vector_stored_column
from recollect.codec.segment import SegmentReader
from recollect.codec.vector_column import VectorColumnReader
from recollect.repository.repository import Repository
from recollect.segments.spool import spooled
from recollect.values import batch as columns
from recollect.values.schema import CollectionSchema, VectorSpec
from recollect.values.snapshot import Run, SegmentRef

ROW = "row"
"""Column of `rows`: the row's number within its segment."""
SEGMENT = "segment"
"""Column of `rows`: the segment's number within its run; one value throughout a batch."""


class RunReader:
    """One run of a collection. One thread at a time.

    Args:
        held_bytes_max: An index that is larger is kept in a temporary file while it is read.
    """

    def __init__(
        self, repository: Repository, schema: CollectionSchema, run: Run, *, held_bytes_max: int
    ) -> None:
        self._repository = repository
        self._schema = schema
        self._run = run
        self._held_bytes_max = held_bytes_max
        self._open: dict[int, SegmentReader] = {}

    def index(self) -> Iterator[pa.RecordBatch]:
        """Yield key, op, position and digests of all rows, ascending by key."""
        target = columns.index_schema(self._schema)
        for segment in self._run:
            for batch in self._reader(segment).read_index():
                arrays = [batch.column(name) for name in target.names]
                yield pa.RecordBatch.from_arrays(arrays, schema=target)

    def rows(self) -> Iterator[pa.RecordBatch]:
        """Yield index rows with payloads, stored flags, `ROW` and `SEGMENT`; no vectors.

        One segment is open at a time: that of the batch that came last.
        """
        for number, segment in enumerate(self._run):
            self._open.clear()
            self._open[number] = self._reader(segment)
            first = 0
            for batch in self._open[number].read_rows():
                count = batch.num_rows
                rows = pa.array(np.arange(first, first + count, dtype=np.int64))
                numbers = pa.array(np.full(count, number, dtype=np.int32))
                yield batch.append_column(ROW, rows).append_column(SEGMENT, numbers)
                first += count

    def vectors(self, batch: pa.RecordBatch, spec: VectorSpec, rows: npt.NDArray[np.int64]) -> pa.Array:
        """Fetch vectors of rows of the batch that `rows` yielded last; all must store one.

        Shapes: rows (k,) int64, values of the `ROW` column, strictly ascending → k values.
        """
        reader = self._open[batch.column(SEGMENT)[0].as_py()]
        return reader.take_vectors(spec.name, rows)

    @staticmethod
    def stored(batch: pa.RecordBatch, spec: VectorSpec) -> npt.NDArray[np.bool_]:
        """Tell which rows of a batch store a vector. Shapes: (n,)."""
        flags: npt.NDArray[np.bool_] = batch.column(vector_stored_column(spec.name)).to_numpy(
            zero_copy_only=False
        )
        return flags

    def _reader(self, segment: SegmentRef) -> SegmentReader:
        def open_vector(name: str) -> VectorColumnReader | None:
            reference = segment.vectors.get(name)
            if reference is None:
                return None

            def read(start: int, length: int) -> bytes:
                return self._repository.get_object_range(reference, start, length)

            return VectorColumnReader(read, reference.byte_size, self._schema.vector(name))

        return SegmentReader(self._index_of(segment), self._schema, open_vector)

    def _index_of(self, segment: SegmentRef) -> IndexSource:
        """Read an index whole, because only its digest covers every byte of it."""
        data = self._repository.get_object(segment.index)
        return data if len(data) <= self._held_bytes_max else spooled(data)
