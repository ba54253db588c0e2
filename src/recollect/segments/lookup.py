"""Look up a few records in many lists of runs, such as those of all snapshots, by the index columns alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from recollect.repository.repository import Repository
from recollect.segments.run import RunReader
from recollect.values import batch as columns
from recollect.values.schema import CollectionSchema
from recollect.values.snapshot import Run, SegmentRef

Digests: TypeAlias = dict[str, bytes]
"""What a record is: the digest of each value that it has, by digest column."""

_Changes: TypeAlias = dict[bytes, Digests | None]
HELD_BYTES_MAX = 64 * 1024 * 1024


class RecordLookup:
    """Finds the wanted keys of one collection in any of its snapshots. One thread at a time.

    The index of a segment is read once, however many snapshots list it, and only segments whose range
    has a wanted key. Memory: one index at a time, and the digests of what was found.

    Args:
        keys: What to look for, as `values.key` encodes them.
    """

    def __init__(self, repository: Repository, keys: Sequence[bytes]) -> None:
        self._repository = repository
        self._keys = sorted(set(keys))
        self._wanted = pa.array(self._keys, type=pa.binary())
        self._seen: dict[str, _Changes] = {}

    def find(self, schema: CollectionSchema, runs: tuple[Run, ...]) -> dict[bytes, Digests]:
        """Return the wanted records that a list of runs (oldest first) stands for, by key.

        Raises:
            IntegrityError: An index is damaged or missing.
        """
        newest: _Changes = {}
        for run in runs:
            for segment in run:
                newest |= self._changes(schema, segment)
        return {key: digests for key, digests in newest.items() if digests is not None}

    def _changes(self, schema: CollectionSchema, segment: SegmentRef) -> _Changes:
        digest = segment.index.digest
        if digest not in self._seen:
            is_in_range = any(segment.key_min <= key.hex() <= segment.key_max for key in self._keys)
            self._seen[digest] = self._read(schema, segment) if is_in_range else {}
        return self._seen[digest]

    def _read(self, schema: CollectionSchema, segment: SegmentRef) -> _Changes:
        found: _Changes = {}
        reader = RunReader(self._repository, schema, (segment,), held_bytes_max=HELD_BYTES_MAX)
        for batch in reader.index():
            is_wanted = pc.is_in(batch.column(columns.KEY), value_set=self._wanted)
            for row in batch.filter(is_wanted).to_pylist():  # a few records at the most
                digests = {
                    name: row[name] for name in columns.digest_columns(schema) if row[name] is not None
                }
                found[row[columns.KEY]] = digests if row[columns.OP] == columns.UPSERT else None
        return found
