"""Every store at one commit, as the columns that they are in memory: for faces that write files of their own.

Taking one copies no record: slots of vectors are pinned, columns of the co-occurrence index are
shared until they are written, and a context costs one pointer. While it is held, freed slots pile up.
`collections.HeldDatabase` gives the same as records, in key order, for backups.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from recollect.database.events import FrozenEvents
from recollect.database.state import FrozenState
from recollect.database.tables import Tables
from recollect.database.vectors import VectorView
from recollect.values.schema import CollectionSchema


class ColumnView:
    """Every store as it was after one commit. A context manager that releases it; safe to share.

    Attributes:
        commit_ts: The commit.
        time_us: Its time, microseconds since 1970, UTC.
        schemas: By collection name.
        vectors: By collection name.
        events: Contexts and co-occurrence.
        state: Rows of state up to `end`; read them with its `table`.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        with tables.lock:
            self.commit_ts, self.time_us = tables.commit_ts, tables.time_us
            self._owners = dict(tables.vectors)
            self.schemas: dict[str, CollectionSchema] = tables.schemas()
            self.vectors: dict[str, VectorView] = {name: table.pin() for name, table in self._owners.items()}
            self.events: FrozenEvents = tables.events.peek()
            self.state: FrozenState = tables.state.peek()
        self._is_held = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Let go of it; nothing of it may be read any more. Safe to call twice."""
        with self._tables.lock:
            if not self._is_held:
                return
            self._is_held = False
            for table in self._owners.values():
                table.unpin()
            self._tables.events.index.release()

    def rings(self) -> dict[str, bytes]:
        """Return each context's ring: when it was last written (`events.ring_ordinal`), then its events."""
        return {name: ring for name, ring in self.events.contexts if ring is not None}
