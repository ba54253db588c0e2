"""What a base holds, as two digests for each key, and what is different now.

Compared by digest, never by commit number: a copy of a database has the same
numbers and may have gone another way since.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from recollect.compat.ruvector.catalog import SnapshotCatalog
from recollect.compat.ruvector.files.record_file import REMOVED, SET, RecordBlock
from recollect.compat.ruvector.keyed import KeyedParts
from recollect.compat.ruvector.layout import SnapshotDocument
from recollect.compat.ruvector.reading import read_records
from recollect.compat.ruvector.rows import DigestedRows, Slots
from recollect.errors import IntegrityError
from recollect.values.digest import DIGEST_SIZE, digest_payloads


class Change:
    """Slots of rows to store: with their vector, or only their metadata."""

    def __init__(self) -> None:
        self.changed: list[int] = []
        self.touched: list[int] = []


class BaseState:
    """Digests by key, taken away as they are found again. One thread at a time.

    Memory: some 200 bytes a record of the base.
    """

    def __init__(self) -> None:
        self._digests = KeyedParts[bytes]()  # vector digest, then metadata digest or nothing

    @classmethod
    def read(
        cls, catalog: SnapshotCatalog, chain: Sequence[SnapshotDocument], check: Callable[[], None]
    ) -> BaseState:
        """Read the ids and digests of a chain, newest first in `chain`; vectors are not read."""
        state = cls()
        for document in reversed(chain):
            for block in read_records(catalog, document):
                check()
                state._apply(block)
        count = chain[0].snapshot.vector_count
        if len(state._digests) != count:
            raise IntegrityError(
                f"snapshot {chain[0].snapshot.id} holds {len(state._digests)} records, not the {count} "
                "of its metadata"
            )
        return state

    def compare(self, slots: Slots, keys: Sequence[bytes], now: DigestedRows, change: Change) -> None:
        """Take note of what is new or different. Shapes: n slots, n keys, n digests."""
        for row, (slot, key) in enumerate(zip(slots.tolist(), keys, strict=True)):
            then = self._digests.part(key).pop(key, None)
            vector = now.vectors[DIGEST_SIZE * row : DIGEST_SIZE * (row + 1)]
            if then is None or then[:DIGEST_SIZE] != vector:
                change.changed.append(slot)
            elif then[DIGEST_SIZE:] != (now.metadata[row] or b""):
                change.touched.append(slot)

    def rest(self) -> list[bytes]:
        """Return the keys that were not found again: those that were removed."""
        return list(self._digests)

    def _apply(self, block: RecordBlock) -> None:
        digests = self._digests
        if block.kind != SET and digests.missing(block.keys):
            raise IntegrityError("a snapshot removes or touches records that its base does not have")
        if block.kind == REMOVED:
            for key in block.keys:
                digests.part(key).pop(key, None)
            return
        found = digest_payloads(pa.array(block.metadata, type=pa.binary())).to_pylist()
        for row, (key, metadata) in enumerate(zip(block.keys, found, strict=True)):
            if block.kind == SET:
                vector = block.digests[DIGEST_SIZE * row : DIGEST_SIZE * (row + 1)]
            else:
                vector = digests.part(key)[key][:DIGEST_SIZE]
            digests.part(key)[key] = vector + (metadata or b"")
