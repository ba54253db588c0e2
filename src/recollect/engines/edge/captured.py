"""The files of a Qdrant server's shard, opened in place with the engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from recollect.engines.edge.binding import edge_errors, edge_library
from recollect.engines.edge.scan import records_to_batch, scan_shard
from recollect.engines.edge.schema import CONFIG_FILE, config_from_schema
from recollect.engines.edge.shard import opened, require_space
from recollect.engines.edge.versions import record_versions
from recollect.values.key import decode_keys
from recollect.values.schema import CollectionSchema


class CapturedShard:
    """An open shard of a server. One thread at a time."""

    def __init__(self, shard: Any, directory: Path, schema: CollectionSchema) -> None:
        self._shard = shard
        self._directory = directory
        self._schema = schema

    def count(self) -> int:
        """Count the records exactly."""
        with edge_errors("reading", self._directory):
            return int(self._shard.count(edge_library().CountRequest(exact=True)))

    def scan(self, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield all records, ascending by key."""
        return scan_shard(self._shard, self._directory, self._schema, batch_rows=batch_rows)

    def versions(self) -> Iterator[pa.RecordBatch]:
        """Yield the number of the operation that last changed each record, ascending by key."""
        return record_versions(self._shard, self._directory, self._schema)

    def fetch(self, keys: pa.BinaryArray) -> pa.RecordBatch:
        """Return those of these records that the shard has, in any order."""
        with edge_errors("reading", self._directory):
            found = self._shard.retrieve(point_ids=decode_keys(keys), with_payload=True, with_vector=True)
        return records_to_batch(found, self._schema)


@contextmanager
def open_captured(directory: Path, schema: CollectionSchema) -> Iterator[CapturedShard]:
    """Open a shard's directory that has `segments/` only; the engine writes into it.

    The configuration is made from the schema, without `prevent_unoptimized`: records that the server
    hides until its optimizer has seen them are read all the same.

    Raises:
        UnsupportedError: Edge has no such vectors. UnavailableError: The engine cannot read the files.
        MissingDependencyError: Qdrant Edge is not installed. StorageFullError: There is no room for what
            the engine writes by itself.
    """
    require_space(directory, 0)
    config = config_from_schema(schema)
    config = {**config, "optimizers": {**config.get("optimizers", {}), "prevent_unoptimized": None}}
    config["optimizers"] = {key: value for key, value in config["optimizers"].items() if value is not None}
    (directory / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
    with opened(directory) as shard:
        yield CapturedShard(shard, directory, schema)
