"""Export: one collection of a snapshot as one ordinary Parquet file.

Columns: `id` (uint64 where all ids are unsigned integers, else text), `payload` (JSON text),
and one column for each vector: `vector` for the unnamed one, `vector_<name>` for the others.
DuckDB, Polars and pandas read it; rows ascend by record key.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recollect.errors import ConflictError, NotFoundError, RecollectError
from recollect.repository.repository import Repository
from recollect.segments.reader import RunsReader
from recollect.system_error import storage_error
from recollect.values import batch as columns
from recollect.values.event import OnEvent, Progress, ignore_events
from recollect.values.key import INTEGER_KEY_SIZE, TAG_INTEGER, decode_keys
from recollect.values.schema import CollectionSchema
from recollect.values.snapshot import CollectionEntry

NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What file systems without hard links (FAT, some network ones) say to link(2)."""


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was written."""

    path: str
    record_count: int
    byte_size: int
    columns: tuple[str, ...]


def run(
    repository: Repository, entry: CollectionEntry, path: Path, *, on_event: OnEvent = ignore_events
) -> ExportReport:
    """Write a collection to a new file. The file appears under its name only when it is complete.

    Raises:
        ConflictError: The file exists. NotFoundError: Its directory does not.
        UnavailableError: The disk is full or fails.
    """
    if os.path.lexists(path):
        raise _taken(path)
    target = _schema(entry)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    count = 0
    with _unfinished_file(unfinished, path) as file:
        with pq.ParquetWriter(file, target, compression="zstd", use_dictionary=False) as writer:
            for batch in _rows(repository, entry, target):
                writer.write_batch(batch)
                count += batch.num_rows
                on_event(Progress(stage="export", subject=entry.name, done=count, total=entry.record_count))
        _publish(file, unfinished, path)
    return ExportReport(
        path=str(path), record_count=count, byte_size=path.stat().st_size, columns=tuple(target.names)
    )


def export_column(vector_name: str) -> str:
    """Return the column that a vector is exported to."""
    return f"vector_{vector_name}" if vector_name else "vector"


@contextmanager
def _unfinished_file(unfinished: Path, path: Path) -> Iterator[BinaryIO]:
    """Open a file to write beside its later place, remove it at the end, and translate what fails."""
    try:
        with unfinished.open("xb") as file:
            try:
                yield file
            finally:
                unfinished.unlink(missing_ok=True)
    except RecollectError:
        raise  # of the repository; some are OSErrors, too
    except FileExistsError as error:
        raise _taken(unfinished if error.filename == str(unfinished) else path) from error
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no directory {path.parent}", "create it, or choose another") from error
    except OSError as error:
        raise storage_error(error, f"writing {path}") from error


def _taken(path: Path) -> ConflictError:
    return ConflictError(f"{path} exists", "choose another name, or remove the file first")


def _publish(file: BinaryIO, unfinished: Path, path: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    try:
        os.link(unfinished, path)  # unlike a rename, it fails if the name was taken meanwhile
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        unfinished.rename(path)


def _schema(entry: CollectionEntry) -> pa.Schema:
    id_type = pa.uint64() if _has_integer_ids(entry) else pa.string()
    fields = [pa.field("id", id_type, False), pa.field("payload", pa.string())]
    fields += [pa.field(export_column(spec.name), columns.vector_type(spec)) for spec in entry.schema.vectors]
    return pa.schema(fields)


def _has_integer_ids(entry: CollectionEntry) -> bool:
    """Tell from the key ranges: keys sort by type, so the ends of a range bound what lies between."""
    tag = f"{TAG_INTEGER:02x}"
    return all(
        segment.key_min.startswith(tag) and segment.key_max.startswith(tag) for segment in entry.segments()
    )


def _rows(repository: Repository, entry: CollectionEntry, target: pa.Schema) -> Iterator[pa.RecordBatch]:
    for records in RunsReader(repository, entry.schema, entry.runs).records():
        arrays = [_ids(records.column(columns.KEY), target.field("id").type)]
        arrays.append(records.column(columns.PAYLOAD).cast(pa.string()))
        arrays += _vectors(records, entry.schema)
        yield pa.RecordBatch.from_arrays(arrays, schema=target)


def _ids(keys: pa.BinaryArray, kind: pa.DataType) -> pa.Array:
    if kind == pa.uint64():
        joined = np.frombuffer(b"".join(keys.to_pylist()), dtype=np.uint8).reshape(-1, INTEGER_KEY_SIZE)
        return pa.array(np.ascontiguousarray(joined[:, 1:]).view(">u8").reshape(-1).astype(np.uint64))
    return pa.array([str(record_id) for record_id in decode_keys(keys)], type=kind)


def _vectors(records: pa.RecordBatch, schema: CollectionSchema) -> list[pa.Array]:
    return [records.column(columns.vector_column(spec.name)) for spec in schema.vectors]
