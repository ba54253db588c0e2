"""A collection whose shards are here: read as one, of one instant for each shard."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Lock

import pyarrow as pa
import pyarrow.compute as pc

from recollect.engines.base import CollectionDescription
from recollect.engines.qdrant.capture.cluster import ShardLayout
from recollect.engines.qdrant.capture.merge import merged
from recollect.engines.qdrant.capture.reader import OpenShard, ShardReader
from recollect.engines.qdrant.capture.shard import HeldShard, ShardCapture
from recollect.errors import IntegrityError, UnavailableError
from recollect.values import batch as columns
from recollect.values.batch import rebatch

NODES_MAX = 16
"""Nodes that are read at once."""


class HeldCollection:
    """Open shards of one collection. One thread at a time.

    Args:
        shard_ids: Of all shards of the collection, whether they are here or not.
    """

    def __init__(
        self,
        description: CollectionDescription,
        shards: list[HeldShard],
        readers: list[ShardReader],
        shard_ids: tuple[int, ...],
    ) -> None:
        self.description = description
        self._shards = shards
        self._readers = readers
        self._shard_ids = shard_ids

    def scan(self, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield all records, ascending by key."""
        each = max(1, batch_rows // len(self._readers))
        streams = [reader.scan(batch_rows=each) for reader in self._readers]
        return rebatch(merged(streams), rows_max=batch_rows)

    def versions(self) -> Iterator[pa.RecordBatch]:
        """Yield key and version of all records, ascending by key."""
        return merged([reader.versions() for reader in self._readers])

    def fetch(self, keys: pa.BinaryArray) -> pa.RecordBatch:
        """Return these records, in the order of `keys`."""
        schema = columns.record_schema(self.description.schema)
        parts = [reader.fetch(keys) for reader in self._readers]
        found = pa.concat_batches([*parts, pa.RecordBatch.from_pylist([], schema=schema)])
        rows = pc.index_in(keys, value_set=found.column(columns.KEY))
        if rows.null_count:
            raise IntegrityError(
                f"{rows.null_count} records of {self.description.name!r} are listed and cannot be read",
                "back up again; if that happens again, with --scan",
            )
        return found.take(rows)

    def mark(self, token: str) -> str:
        """Remember this moment; returns the token, empty where a node does not tell its versions."""
        marked = [shard.kept.mark(token, self._shard_ids) for shard in self._shards]
        return token if all(marked) else ""

    def continues(self, token: str) -> bool:
        """Tell whether every shard's history leads on from that moment."""
        return all(shard.kept.leads_on_from(token, self._shard_ids) for shard in self._shards)

    def is_unchanged(self, token: str) -> bool:
        """Tell whether no shard changed since that moment."""
        return all(shard.kept.is_as_at(token) for shard in self._shards)


@contextmanager
def hold_shards(capture: ShardCapture, layouts: list[ShardLayout]) -> Iterator[list[HeldShard]]:
    """Have the files of all shards here, until the context ends: several nodes at once, one shard of each.

    Raises:
        RecollectError: One of them cannot be had; the others are given up.
    """
    with ExitStack() as stack:
        lock = Lock()

        def hold(layout: ShardLayout) -> HeldShard:
            held = capture.hold(layout)
            shard = held.__enter__()
            with lock:
                stack.push(held)
            return shard

        with ThreadPoolExecutor(min(NODES_MAX, len(layouts))) as executor:
            futures = [executor.submit(hold, layout) for layout in layouts]
            try:
                shards = [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
        yield shards


@contextmanager
def open_shards(
    description: CollectionDescription,
    shards: list[HeldShard],
    open_shard: OpenShard,
    shard_ids: tuple[int, ...],
) -> Iterator[HeldCollection]:
    """Open the files of shards with the engine. Files that cannot be read are not met again."""
    try:
        with ExitStack() as stack:
            readers = [
                stack.enter_context(open_shard(shard.kept.directory, description.schema)) for shard in shards
            ]
            yield HeldCollection(description, shards, readers, shard_ids)
    except (IntegrityError, UnavailableError):
        for shard in shards:
            shard.kept.forget()
        raise
