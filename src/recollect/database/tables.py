"""All tables of a database and the one function that changes them: `Tables.apply`.

Live commits, replay after a start and recovery all go through it, so what was logged and what
was applied cannot differ. `lock` guards the tables: writers hold it for one commit, readers
for one lookup.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from recollect.database import operation as ops
from recollect.database.events import EventTable, FrozenEvents
from recollect.database.operation import CommitBody
from recollect.database.options import EventOptions
from recollect.database.state import FrozenState, StateTable
from recollect.database.vectors import FrozenVectors, VectorTable
from recollect.errors import NotFoundError
from recollect.values.schema import CollectionSchema


class FrozenTables:
    """Every table as it was after one commit. Safe to share between threads; `release` it once.

    Attributes:
        commit_ts: The commit.
        time_us: Its time, microseconds since 1970, UTC.
        vectors: By collection name.
        events: Contexts and co-occurrence.
        state: Rows of state.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._owners = dict(tables.vectors)
        self.commit_ts = tables.commit_ts
        self.time_us = tables.time_us
        self.dropped, tables.dropped = frozenset(tables.dropped), set()
        self.vectors: dict[str, FrozenVectors] = {
            name: table.freeze() for name, table in self._owners.items()
        }
        self.events: FrozenEvents = tables.events.freeze()
        self.state: FrozenState = tables.state.freeze()

    def table(self, collection: str) -> VectorTable:
        """Return the table that a collection was at the freeze."""
        return self._owners[collection]

    def settle(self) -> None:
        """Note that a checkpoint holds all of this; later changes stay to be written."""
        with self._tables.lock:
            for name, frozen in self.vectors.items():
                self._owners[name].settle(frozen.changes)
            self._tables.events.settle(self.events)
            self._tables.state.settle(self.state)

    def release(self) -> None:
        """Give up the right to read it."""
        with self._tables.lock:
            for table in self._owners.values():
                table.unpin()
            self._tables.events.index.release()

    def reopen(self) -> None:
        """Take it back as not written: the checkpoint failed. What changed stays to be written."""
        with self._tables.lock:
            self._tables.dropped |= self.dropped
            self._tables.events.index.reopen(self.events.edges)


class Tables:
    """The memory of a database as of `commit_ts`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.commit_ts = 0
        self.time_us = 0
        self.vectors: dict[str, VectorTable] = {}
        self.events = EventTable(EventOptions())
        self.state = StateTable()
        self.dropped: set[str] = set()
        self._appliers: dict[type, Callable[[Any, int, bytes], Any]] = {
            ops.CollectionCreate: self._create,
            ops.CollectionDrop: self._drop,
            ops.CollectionSwitch: self._switch,
            ops.VectorsSet: self._set_vectors,
            ops.VectorsDelete: lambda op, _ts, _txn: self.collection(op.collection).delete(op.keys),
            ops.MetadataSet: lambda op, ts, _txn: self.collection(op.collection).set_metadata(
                op.keys, op.metadata, ts
            ),
            ops.VectorsClear: lambda op, _ts, _txn: self.collection(op.collection).clear(),
            ops.EventsAppend: lambda op, _ts, _txn: self.events.append(op),
            ops.EventsDecay: lambda op, _ts, _txn: self.events.decay(op.alpha, op.weight_min),
            ops.EventsConfigure: lambda op, _ts, _txn: self.events.configure(op.options),
            ops.EventsReplace: lambda op, _ts, _txn: self.events.replace(op),
            ops.StateWrite: lambda op, ts, txn: self.state.write(
                (op.namespace, op.agent, op.key), op.value, ts, txn
            ),
            ops.StateDelete: lambda op, ts, txn: self.state.write(
                (op.namespace, op.agent, op.key), None, ts, txn
            ),
            ops.StateWriteMany: self._write_many,
            ops.StateRestore: self._restore_state,
        }

    def free_vectors(self) -> None:
        """Forget all vectors in small steps. The caller does not hold `lock`."""
        for table in list(self.vectors.values()):
            table.free(self.lock)

    def apply(self, commit_ts: int, time_us: int, body: CommitBody) -> list[Any]:
        """Apply one commit, whole; return what each operation had to say.

        The caller holds `lock`. The operations were checked before they were logged, so none fails.
        """
        assert commit_ts == self.commit_ts + 1 or self.commit_ts == 0, "commits have no gaps"
        appliers = self._appliers
        results = [appliers[type(op)](op, commit_ts, body.transaction) for op in body.operations]
        self.commit_ts, self.time_us = commit_ts, time_us
        return results

    def collection(self, name: str) -> VectorTable:
        """Return a collection's table; NotFoundError names those that exist."""
        table = self.vectors.get(name)
        if table is None:
            known = ", ".join(sorted(self.vectors)) or "none"
            raise NotFoundError(f"there is no vector collection {name!r}; there are: {known}")
        return table

    def schemas(self) -> dict[str, CollectionSchema]:
        """Return the schema of every vector collection by name."""
        return {name: table.schema for name, table in self.vectors.items()}

    def mark_all_changed(self) -> None:
        """Let the next checkpoint write everything: it goes to another place."""
        for table in self.vectors.values():
            table.mark_all_changed()
        self.events.mark_all_changed()
        self.state.mark_all_changed()

    def freeze(self) -> FrozenTables:
        """Freeze everything between two commits; costs one pointer a block, not one a record."""
        with self.lock:
            return FrozenTables(self)

    def _create(self, op: ops.CollectionCreate, _ts: int, _txn: bytes) -> None:
        self.vectors[op.collection] = VectorTable(op.schema)
        self.dropped.add(op.collection)  # an older collection of that name, in a checkpoint, is void

    def _drop(self, op: ops.CollectionDrop, _ts: int, _txn: bytes) -> bool:
        self.dropped.add(op.collection)
        return self.vectors.pop(op.collection, None) is not None

    def _switch(self, op: ops.CollectionSwitch, _ts: int, _txn: bytes) -> None:
        table = self.vectors.pop(op.collection)
        table.mark_all_changed()
        self.vectors[op.new_name] = table
        self.dropped |= {op.collection, op.new_name}

    def _set_vectors(self, op: ops.VectorsSet, commit_ts: int, _txn: bytes) -> None:
        table = self.collection(op.collection)
        vectors = np.frombuffer(op.vectors, dtype="<f4").reshape(-1, table.dimension)
        table.set_rows(op.keys, vectors, op.metadata, commit_ts)

    def _restore_state(self, op: ops.StateRestore, _commit_ts: int, transaction: bytes) -> int:
        """Write a version of elsewhere, or the next one if another writer was first: applying never fails."""
        newest = self.state.newest(op.namespace, op.agent, op.key)
        version = op.version if newest is None or op.version > newest.version else 0
        return self.state.write(
            (op.namespace, op.agent, op.key), op.value, op.commit_ts, transaction, version
        )

    def _write_many(self, op: ops.StateWriteMany, commit_ts: int, transaction: bytes) -> list[int]:
        write, namespace, agent = self.state.write, op.namespace, op.agent
        return [
            write((namespace, agent, key), value, commit_ts, transaction)
            for key, value in zip(op.keys, op.values, strict=True)
        ]
