"""Segments: a sealed, sorted run of changes as one Parquet file and vector column files.

The rows of all files line up: a row's value in a vector column is found by counting
the stored flags before it. Format: docs/format.md#segment
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recollect.codec import index_file
from recollect.codec.index_file import IndexSource, vector_stored_column
from recollect.codec.rows import expand_values
from recollect.codec.vector_column import VectorColumnReader, encode_vector_column
from recollect.errors import IntegrityError
from recollect.values import batch as columns
from recollect.values.schema import CollectionSchema, VectorSpec

OpenVector: TypeAlias = Callable[[str], VectorColumnReader | None]
"""Opens the column of a named vector; None where the segment has none."""


class EncodedSegment(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one segment, and what a snapshot says of it.

    Attributes:
        index: The Parquet file.
        vectors: Vector column files by vector name; none for a vector that no row stores.
        row_count: Rows, tombstones included.
        delete_count: Tombstones among them.
        key_min: First record key.
        key_max: Last record key.
        position_min: Smallest record position, if any row has one.
        position_max: Largest.
    """

    index: bytes
    vectors: dict[str, bytes]
    row_count: int
    delete_count: int
    key_min: bytes
    key_max: bytes
    position_min: int | None
    position_max: int | None


def encode_segment(changes: pa.RecordBatch | pa.Table, schema: CollectionSchema) -> EncodedSegment:
    """Encode changes as a segment.

    Deterministic: equal changes give equal bytes (with one release of pyarrow and zstd).
    Memory: the files, plus a copy of columns that have nulls. Promises that it asserts: at
    least one row, keys strictly ascending, no value without its digest, nothing but key and
    position on a delete.

    Shapes: n rows of `values.batch.change_schema(schema)`, 1 <= n.
    """
    table = pa.table(changes) if isinstance(changes, pa.Table) else pa.Table.from_batches([changes])
    assert table.schema.names == columns.change_schema(schema).names, "columns of change_schema"
    assert table.num_rows, "at least one row"
    table = table.combine_chunks()
    keys = _single(table, columns.KEY)
    _assert_changes(table, keys, schema)
    arrays = {name: table.column(name) for name in table.column_names}
    vectors = {}
    for spec in schema.vectors:
        values = _single(table, columns.vector_column(spec.name))
        arrays[vector_stored_column(spec.name)] = pa.chunked_array([values.is_valid()])
        stored = values.drop_null() if values.null_count else values
        if len(stored):
            vectors[spec.name] = encode_vector_column(stored, spec)
    target = index_file.file_schema(schema)
    index = pa.Table.from_arrays([arrays[field.name] for field in target], schema=target)
    bounds = pc.min_max(arrays[columns.POSITION]).as_py()
    return EncodedSegment(
        index=index_file.encode_index(index),
        vectors=vectors,
        row_count=table.num_rows,
        delete_count=pc.sum(pc.equal(arrays[columns.OP], columns.DELETE)).as_py(),
        key_min=keys[0].as_py(),
        key_max=keys[-1].as_py(),
        position_min=bounds["min"],
        position_max=bounds["max"],
    )


class SegmentReader:
    """Reads one segment, from its start or at any rows; one thread at a time.

    Column files are opened when the first row of their vector is needed.

    Raises (everywhere):
        IntegrityError: A file is damaged, cut short, missing, or does not line up with the others.
        FormatVersionError: A file of a newer format.
    """

    def __init__(self, index: IndexSource, schema: CollectionSchema, open_vector: OpenVector) -> None:
        self._schema = schema
        self._open_vector = open_vector
        self._file = index_file.open_index(index, schema)
        self._first_rows = np.cumsum([0, *index_file.row_group_sizes(self._file)], dtype=np.int64)
        self._vectors: dict[str, VectorColumnReader | None] = {}
        self._stored: dict[str, npt.NDArray[np.bool_]] = {}
        self._slots: dict[str, npt.NDArray[np.int64]] = {}

    @property
    def row_count(self) -> int:
        """Return how many changes the segment has."""
        return int(self._first_rows[-1])

    def read_index(self) -> Iterator[pa.RecordBatch]:
        """Yield keys, ops, positions, digests and stored flags, a row group (8,192 rows at most) at a time.

        Reads neither payloads nor vectors.
        """
        names = self._index_names()
        for position in range(len(self._first_rows) - 1):
            yield index_file.read_row_group(self._file, position, names)

    def read_rows(self) -> Iterator[pa.RecordBatch]:
        """Yield what `read_index` yields and the payloads, a row group at a time; no vectors."""
        names = [*self._index_names(), columns.PAYLOAD]
        for position in range(len(self._first_rows) - 1):
            yield index_file.read_row_group(self._file, position, names)

    def read_index_rows(self, start: int, count: int) -> pa.RecordBatch:
        """Read rows [start, start + count) of what `read_index` yields."""
        return self._read_columns(start, count, self._index_names())

    def read_changes(self) -> Iterator[pa.RecordBatch]:
        """Yield all changes in `values.batch.change_schema`, a row group (8,192 rows at most) at a time."""
        for start, end in zip(self._first_rows, self._first_rows[1:], strict=False):
            yield self.read_change_rows(int(start), int(end - start))

    def read_change_rows(self, start: int, count: int) -> pa.RecordBatch:
        """Read changes [start, start + count) in `values.batch.change_schema`."""
        target = columns.change_schema(self._schema)
        names = [*columns.index_schema(self._schema).names, columns.PAYLOAD]
        found = self._read_columns(start, count, names)
        arrays = [found.column(name) for name in names]
        rows = np.arange(start, start + count, dtype=np.int64)
        arrays += [self.take_vectors(spec.name, rows) for spec in self._schema.vectors]
        return pa.RecordBatch.from_arrays(arrays, schema=target)

    def take_payloads(self, rows: npt.NDArray[np.int64]) -> pa.BinaryArray:
        """Read the payloads of the rows at these positions; only their row groups are read.

        Shapes: rows (k,) int64, strictly ascending → k payloads, null where not stored.
        """
        parts = []
        bounds = np.searchsorted(rows, self._first_rows)
        for position in np.flatnonzero(np.diff(bounds)).tolist():
            wanted = rows[bounds[position] : bounds[position + 1]] - self._first_rows[position]
            batch = index_file.read_row_group(self._file, position, [columns.PAYLOAD])
            parts.append(batch.column(0).take(pa.array(wanted)))
        return pa.concat_arrays(parts) if parts else pa.array([], type=pa.binary())

    def take_vectors(self, name: str, rows: npt.NDArray[np.int64]) -> pa.Array:
        """Read one vector of the rows at these positions; only the blocks with stored values are read.

        Shapes: rows (k,) int64, strictly ascending → k rows of `vector_type`, null where not stored.
        """
        spec = self._schema.vector(name)
        stored = self._stored_flags(name)[rows]
        if not stored.any():
            return pa.nulls(len(rows), columns.vector_type(spec))
        reader = self._vector(spec)
        slots = self._slots[name][rows[stored]]
        if slots[-1] - slots[0] + 1 == len(slots):
            values = reader.read(int(slots[0]), len(slots))
        else:
            values = reader.take(slots)
        return expand_values(values, stored, spec)

    def _index_names(self) -> list[str]:
        names: list[str] = index_file.file_schema(self._schema).names
        return [name for name in names if name != columns.PAYLOAD]

    def _read_columns(self, start: int, count: int, names: list[str]) -> pa.RecordBatch:
        assert 0 <= start <= start + count <= self.row_count, "rows out of range"
        first = int(np.searchsorted(self._first_rows, start, side="right")) - 1
        parts = []
        position = first
        while position < len(self._first_rows) - 1 and self._first_rows[position] < start + count:
            batch = index_file.read_row_group(self._file, position, names)
            begun = int(self._first_rows[position])
            skipped = max(start - begun, 0)
            parts.append(batch.slice(skipped, start + count - begun - skipped))
            position += 1
        if len(parts) == 1:
            return parts[0]
        target = index_file.file_schema(self._schema)
        fields = pa.schema([target.field(name) for name in names])
        return pa.concat_batches(parts) if parts else pa.RecordBatch.from_pylist([], schema=fields)

    def _stored_flags(self, name: str) -> npt.NDArray[np.bool_]:
        """Return which rows store this vector's value; read once, one bit a row."""
        if name not in self._stored:
            column = vector_stored_column(name)
            groups = range(len(self._first_rows) - 1)
            parts = [index_file.read_row_group(self._file, group, [column]).column(0) for group in groups]
            flags = [part.to_numpy(zero_copy_only=False) for part in parts]
            self._stored[name] = np.concatenate(flags) if flags else np.zeros(0, dtype=bool)
            self._slots[name] = np.cumsum(self._stored[name], dtype=np.int64) - 1
        return self._stored[name]

    def _vector(self, spec: VectorSpec) -> VectorColumnReader:
        if spec.name not in self._vectors:
            self._vectors[spec.name] = self._open_vector(spec.name)
        reader = self._vectors[spec.name]
        expected = int(self._stored_flags(spec.name).sum())
        found = 0 if reader is None else reader.row_count
        if reader is None or found != expected:
            raise IntegrityError(
                f"the column of vector {spec.name!r} has {found} values, "
                f"but {expected} rows of its segment store one"
            )
        return reader


def _single(table: pa.Table, name: str) -> pa.Array:
    chunks = table.column(name)
    assert chunks.num_chunks == 1, "less than 2 GiB in a column"
    return chunks.chunk(0)


def _assert_changes(table: pa.Table, keys: pa.BinaryArray, schema: CollectionSchema) -> None:
    """Assert what a segment promises its readers."""
    assert keys.null_count == 0, "every change has a key"
    if len(keys) > 1:
        assert pc.all(pc.less(keys[:-1], keys[1:])).as_py(), "keys ascend, at most one change per key"
    is_delete = pc.equal(table.column(columns.OP), columns.DELETE)
    for digest_name in columns.digest_columns(schema):
        digests = table.column(digest_name)
        values = table.column(columns.value_column(digest_name))
        lone = pc.and_(values.is_valid(), digests.is_null())
        assert not pc.any(lone).as_py(), f"{digest_name}: a stored value has a digest"
        assert not pc.any(pc.and_(is_delete, digests.is_valid())).as_py(), f"{digest_name}: a delete has none"
