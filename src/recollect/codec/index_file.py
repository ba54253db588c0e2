"""The Parquet file of a segment: written deterministically, read with its checksums verified.

What pyarrow raises for broken bytes becomes IntegrityError here and nowhere else.
Format: docs/format.md#segment-parquet
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from recollect.errors import FormatVersionError, IntegrityError
from recollect.values import batch as columns
from recollect.values.schema import CollectionSchema

FORMAT = 1
FORMAT_KEY = b"recollect.format"
KIND_KEY = b"recollect.kind"
KIND = b"segment"
METADATA = {FORMAT_KEY: str(FORMAT).encode(), KIND_KEY: KIND}

VECTOR_STORED_PREFIX = "vector_stored:"

COMPRESSION_LEVEL = 3
"""Of payloads: 18 % smaller than level 1 at four fifths of its speed; level 5 gains 3 % at half the speed."""

PAGE_SIZE = 4 << 20
"""A page per row group as a rule: payloads compress 2 to 4 % better than in pages of 1 MiB."""

ROW_GROUP_BYTES = 4 << 20
"""Uncompressed bytes of a row group, about. A merge holds one of every run, decoded."""
ROW_GROUP_ROWS_MIN = 256

ReadRange: TypeAlias = Callable[[int, int], bytes]
IndexSource: TypeAlias = "bytes | memoryview | pa.Buffer | RangeFile"


class RangeFile(io.RawIOBase):
    """A read-only, seekable file over random access to `byte_size` bytes; one thread at a time."""

    def __init__(self, read: ReadRange, byte_size: int) -> None:
        super().__init__()
        self._read_range = read
        self._byte_size = byte_size
        self._offset = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the offset of the next read."""
        return self._offset

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset from start, here or end; return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._byte_size}[whence]
        self._offset = max(0, base + offset)
        return self._offset

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, all that is left by default."""
        left = max(0, self._byte_size - self._offset)
        length = left if size < 0 else min(size, left)
        data = self._read_range(self._offset, length) if length else b""
        self._offset += len(data)
        return data

    def readall(self) -> bytes:
        """Read what is left."""
        return self.read()


def vector_stored_column(name: str) -> str:
    """Return the name of the column that flags rows whose value stands in the vector column file."""
    return VECTOR_STORED_PREFIX + name


def file_schema(schema: CollectionSchema) -> pa.Schema:
    """Return the columns of the Parquet file: `index_schema`, the stored flags, the payload."""
    fields = list(columns.index_schema(schema))
    fields += [pa.field(vector_stored_column(spec.name), pa.bool_(), False) for spec in schema.vectors]
    fields.append(pa.field(columns.PAYLOAD, pa.binary()))
    return pa.schema(fields)


def encode_index(table: pa.Table) -> bytes:
    """Write a table of `file_schema` as Parquet; deterministic for one release of pyarrow."""
    encodings = dict.fromkeys(table.column_names, "PLAIN")
    encodings[columns.KEY] = "DELTA_BYTE_ARRAY"  # sorted keys share prefixes: 0.1 to 0.9 of plain
    encodings[columns.POSITION] = "DELTA_BINARY_PACKED"
    sink = pa.BufferOutputStream()
    writer = pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        compression_level=COMPRESSION_LEVEL,
        use_dictionary=False,
        column_encoding=encodings,
        data_page_size=PAGE_SIZE,
        write_statistics=[columns.KEY],
        write_page_checksum=True,
        store_schema=False,  # plain Parquet types say it all; without it pyarrow drops the metadata, so:
    )
    writer.write_table(table, row_group_size=_row_group_rows(table))
    writer.add_key_value_metadata(METADATA)
    writer.close()
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _row_group_rows(table: pa.Table) -> int:
    """Return how many rows a row group has: fewer than usual only where payloads are large."""
    fitting: int = ROW_GROUP_BYTES * table.num_rows // max(1, table.nbytes)
    return min(columns.BATCH_ROWS, max(ROW_GROUP_ROWS_MIN, fitting))


def open_index(source: IndexSource, schema: CollectionSchema) -> pq.ParquetFile:
    """Open a segment's Parquet file and check that it is one, of a version and schema that we read.

    Raises:
        IntegrityError: Not Parquet, not a segment, or not of this schema's columns and types.
        FormatVersionError: A segment of a newer format.
    """
    with parquet_errors():
        native = source if isinstance(source, RangeFile) else pa.BufferReader(source)
        file = pq.ParquetFile(native, page_checksum_verification=True, memory_map=False)
        found = file.schema_arrow
    metadata = file.metadata.metadata or {}
    version = metadata.get(FORMAT_KEY, b"")
    if metadata.get(KIND_KEY) != KIND or not version.isdigit() or int(version) < 1:
        raise IntegrityError(
            "a Parquet file was to be read as a segment, but its metadata does not say that it is one"
        )
    if int(version) > FORMAT:
        raise FormatVersionError(
            f"a segment has format version {int(version)}; this release reads versions up to {FORMAT}",
            "upgrade recollect on this machine",
        )
    expected = file_schema(schema)
    if not found.remove_metadata().equals(expected.remove_metadata()):
        raise IntegrityError(
            "a segment does not have the columns of its collection's schema; "
            f"it has {_describe(found)}, expected {_describe(expected)}"
        )
    return file


def row_group_sizes(file: pq.ParquetFile) -> list[int]:
    """Return the rows of each row group; IntegrityError if they contradict the file's row count."""
    groups = file.metadata
    sizes = [groups.row_group(position).num_rows for position in range(groups.num_row_groups)]
    if sum(sizes) != groups.num_rows or any(size <= 0 for size in sizes):
        raise IntegrityError(f"a segment has {groups.num_rows} rows, but its row groups have {sizes}")
    return sizes


def read_row_group(file: pq.ParquetFile, position: int, names: list[str]) -> pa.RecordBatch:
    """Read some columns of one row group, page checksums verified.

    Raises:
        IntegrityError: A page is damaged, or the columns' rows do not line up.
    """
    with parquet_errors():
        table = file.read_row_group(position, columns=names, use_threads=False)
        rows = file.metadata.row_group(position).num_rows
        batch = table.combine_chunks().to_batches(max_chunksize=None)
        batch = batch[0] if batch else pa.RecordBatch.from_pylist([], schema=table.schema)
        batch.validate(full=True)
    if batch.num_rows != rows:
        raise IntegrityError(f"row group {position} of a segment has {batch.num_rows} rows, expected {rows}")
    return batch


@contextmanager
def parquet_errors() -> Iterator[None]:
    """Turn what pyarrow raises for broken bytes into IntegrityError."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, IndexError, MemoryError) as error:
        # pyarrow reports bad checksums as OSError, and broken footers as any of these.
        raise IntegrityError(f"a segment's Parquet file is damaged: {error}") from error


def _describe(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)
