"""What capture asks of the engine that opens a shard's files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeAlias

import pyarrow as pa

from recollect.values.schema import CollectionSchema


class ShardReader(Protocol):
    """An open shard. One thread at a time."""

    def count(self) -> int:
        """Count the records exactly."""
        ...

    def scan(self, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield all records (`values.batch.record_schema`), ascending by key."""
        ...

    def versions(self) -> Iterator[pa.RecordBatch]:
        """Yield `key` and `position` of all records, ascending by key."""
        ...

    def fetch(self, keys: pa.BinaryArray) -> pa.RecordBatch:
        """Return those of these records that the shard has, in any order."""
        ...


OpenShard: TypeAlias = Callable[[Path, CollectionSchema], AbstractContextManager[ShardReader]]
"""Opens the directory of a shard: `segments/` in it, without a log. It may write into the directory.

Raises:
    RecollectError: The engine is not installed, or cannot read these files.
"""
