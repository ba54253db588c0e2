"""Fill a staged collection from the engine's own files, and bring it to the state that is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa

from recollect.engines.base import StagedFiles
from recollect.operations.files import read_piece
from recollect.operations.restore_plan import FilesBase
from recollect.repository.repository import Repository
from recollect.segments.compare import Comparison, Difference, differences
from recollect.segments.reader import RunsReader
from recollect.values import batch as columns
from recollect.values.event import OnEvent, Progress
from recollect.values.snapshot import CollectionEntry


def load_files(staged: StagedFiles, base: FilesBase, repository: Repository, on_event: OnEvent) -> None:
    """Give the engine the files of every shard, one after the other."""
    shards = base.entry.shards
    for number, shard in enumerate(shards, start=1):
        staged.load_shard(shard, partial(read_piece, repository))
        on_event(
            Progress(stage="load", subject=base.entry.name, done=number, total=len(shards), unit="shards")
        )


def upserts_since(
    base: FilesBase, entry: CollectionEntry, repository: Repository, staged: StagedFiles
) -> Iterator[pa.RecordBatch]:
    """Delete what the base has and the entry has not; yield the records to write.

    The base's digests are read, and all records of the entry; nothing where both are the same state.
    """
    if base.entry.fingerprint == entry.fingerprint:
        return
    before = RunsReader(repository, base.entry.schema, base.entry.runs).index()
    after = RunsReader(repository, entry.schema, entry.runs).live_changes()
    schema = columns.record_schema(entry.schema)
    for difference in differences(before, after, entry.schema, Comparison()):
        if difference.removed is not None:
            staged.remove(difference.removed.column(columns.KEY))
        records = _written(difference, schema)
        if records is not None:
            yield records


def _written(difference: Difference, schema: pa.Schema) -> pa.RecordBatch | None:
    if difference.after is None:
        return None
    is_written = difference.is_added | difference.is_changed
    if not is_written.any():
        return None
    chosen = difference.after.filter(pa.array(is_written))
    return pa.RecordBatch.from_arrays([chosen.column(field.name) for field in schema], schema=schema)
