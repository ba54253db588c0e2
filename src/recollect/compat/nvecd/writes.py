"""EVENT, VECSET, VECDEL and METASET: many commands, one commit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

from recollect.clock import Clock
from recollect.compat.nvecd.gate import Gate
from recollect.compat.nvecd.protocol import command as cmd
from recollect.database import Database, Event, stage
from recollect.database.operation import CollectionCreate, Operation
from recollect.database.planner import plain_schema
from recollect.database.stage import DEFAULT_COLLECTION
from recollect.errors import ConflictError, NotFoundError, RecollectError, RequestError

DIMENSION_MAX = 4096


class WriteLog(Protocol):
    """Where writes are logged before they are applied; nvecd's own log."""

    def append(self, writes: Sequence[cmd.Write], *, now_us: int) -> None:
        """Log writes in order; return when the log has them, as its settings say."""
        ...


class Writer:
    """Applies writes to the database, in order. Safe to share between threads.

    Args:
        log: Takes every write before it is applied; None for no log.
    """

    def __init__(self, database: Database, gate: Gate, clock: Clock, log: WriteLog | None) -> None:
        self._database = database
        self._gate = gate
        self._clock = clock
        self._log = log
        self._metric = database.options.vectors.metric

    def apply(self, writes: Sequence[cmd.Write]) -> list[RecollectError | None]:
        """Apply writes and return, for each, why it was refused, or None.

        What is returned as done is committed. A refused write changes nothing.
        """
        outcomes: list[RecollectError | None] = [None] * len(writes)
        with self._gate.writing:
            dimension = self._database.vectors.dimension
            ready: list[int] = []
            for index, write in enumerate(writes):
                # With a log, whether a vector exists must be known before the write is logged.
                if self._log is not None and isinstance(write, (cmd.VecDel, cmd.MetaSet)):
                    self._commit(writes, ready, outcomes)
                    ready = []
                try:
                    dimension = self._check(write, dimension)
                except RecollectError as error:
                    outcomes[index] = error
                else:
                    ready.append(index)
            self._commit(writes, ready, outcomes)
        return outcomes

    def _check(self, write: cmd.Write, dimension: int | None) -> int | None:
        """Refuse what cannot be done; return the dimension of vectors after this write."""
        self._gate.check(write)
        if isinstance(write, cmd.VecSet):
            size = len(write.vector)
            if size > DIMENSION_MAX:
                raise RequestError(f"Vector dimension exceeds maximum of {DIMENSION_MAX}")
            if dimension is not None and size != dimension:
                raise RequestError(f"Vector dimension mismatch: expected {dimension}, got {size}")
            return size
        if isinstance(write, (cmd.VecDel, cmd.MetaSet)):
            missing = dimension is None or (
                self._log is not None and write.item not in self._database.vectors
            )
            if missing:
                raise _missing(write)
        return dimension

    def _commit(
        self, writes: Sequence[cmd.Write], indices: list[int], outcomes: list[RecollectError | None]
    ) -> None:
        """Make checked writes one commit; if it is refused, find out which of them is to blame."""
        if not indices:
            return
        now = self._clock.now()
        now_s = int(now.timestamp())
        try:
            operations, owners = self._stage([(index, writes[index]) for index in indices], now_s)
            if self._log is not None:
                stamped = [_stamped(writes[index], now_s) for index in indices]
                self._log.append(stamped, now_us=now_s * 1_000_000 + now.microsecond)
            results = self._database.commit(operations).results
        except (RequestError, NotFoundError, ConflictError) as error:
            if len(indices) == 1:
                outcomes[indices[0]] = error
                return
            for index in indices:
                self._commit(writes, [index], outcomes)
            return
        except RecollectError as error:
            for index in indices:
                outcomes[index] = error
            return
        for place, index in owners:
            if not results[place]:
                outcomes[index] = _missing(writes[index])

    def _stage(
        self, writes: Sequence[tuple[int, cmd.Write]], now_s: int
    ) -> tuple[list[Operation], list[tuple[int, int]]]:
        """Turn writes into operations; neighbours of a kind become one.

        Returns the operations, and for those whose result tells whether there was a vector
        (place of the operation, index of the write).
        """
        operations: list[Operation] = []
        owners: list[tuple[int, int]] = []
        has_collection = self._database.vectors.dimension is not None
        for kind, group in itertools.groupby(writes, key=lambda pair: type(pair[1])):
            if kind is cmd.Event:
                events = [_event(write) for _, write in group]
                operations.append(stage.append_events(events, now_s))
            elif kind is cmd.VecSet:
                vectors = [write for _, write in group if isinstance(write, cmd.VecSet)]
                if not has_collection:
                    schema = plain_schema(len(vectors[0].vector), self._metric)
                    operations.append(CollectionCreate(DEFAULT_COLLECTION, schema))
                    has_collection = True
                ids, rows = [one.item for one in vectors], [one.vector for one in vectors]
                operations.append(stage.set_vectors(DEFAULT_COLLECTION, ids, rows, None, keep_metadata=True))
            else:
                for index, write in group:
                    owners.append((len(operations), index))
                    operations.append(_change(write))
        return operations, owners


def _event(write: cmd.Write) -> Event:
    assert isinstance(write, cmd.Event)
    return Event(write.kind, write.context, write.item, write.score, write.timestamp)


def _change(write: cmd.Write) -> Operation:
    if isinstance(write, cmd.MetaSet):
        return stage.set_metadata(DEFAULT_COLLECTION, [write.item], [write.metadata])
    assert isinstance(write, cmd.VecDel)
    return stage.delete_vectors(DEFAULT_COLLECTION, [write.item])


def _stamped(write: cmd.Write, now_s: int) -> cmd.Write:
    """Give an event the time at which it happens, so that a replay sees the same."""
    if isinstance(write, cmd.Event) and write.timestamp is None:
        return cmd.Event(write.context, write.item, write.kind, write.score, now_s)
    return write


def _missing(write: cmd.Write) -> NotFoundError:
    if isinstance(write, cmd.MetaSet):
        return NotFoundError(f"Vector not found for metadata: {write.item}")
    assert isinstance(write, cmd.VecDel)
    return NotFoundError(f"Vector not found: {write.item}")
