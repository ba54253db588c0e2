"""Transactions: writes to any store, staged in memory, committed at once or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self, TypeAlias
from uuid import UUID

import numpy.typing as npt

from recollect.clock import Clock
from recollect.database import stage
from recollect.database.committer import Receipt
from recollect.database.limits import one_row
from recollect.database.operation import Operation, byte_size
from recollect.errors import ConflictError
from recollect.values.key import RecordId

Status: TypeAlias = Literal["open", "committed", "aborted", "expired"]


class StagedVectors:
    """Writes to one vector collection that a transaction holds back."""

    def __init__(self, transaction: Transaction, collection: str) -> None:
        self._transaction = transaction
        self._collection = collection

    def set(self, id: RecordId, vector: npt.ArrayLike, metadata: Mapping[str, Any] | None = None) -> None:
        """Stage one vector with its metadata."""
        self.set_many([id], one_row(vector), [metadata])

    def set_many(
        self,
        ids: Sequence[RecordId],
        vectors: npt.ArrayLike,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        """Stage many. Shapes: n ids, vectors (n, d), n metadata or none."""
        self._transaction.stage(stage.set_vectors(self._collection, ids, vectors, metadata))

    def delete(self, *ids: RecordId) -> None:
        """Stage the deletion of ids; unknown ones are passed over."""
        self._transaction.stage(stage.delete_vectors(self._collection, ids))

    def clear(self) -> None:
        """Stage the deletion of every vector."""
        self._transaction.stage(stage.clear_vectors(self._collection))


class StagedEvents:
    """Events that a transaction holds back."""

    def __init__(self, transaction: Transaction, now_s: Callable[[], int]) -> None:
        self._transaction = transaction
        self._now_s = now_s

    def add(self, context: str, id: str, score: int, timestamp: int | None = None) -> None:
        """Stage an ADD."""
        self.append([stage.Event(stage.ADD, context, id, score, timestamp)])

    def set(self, context: str, id: str, score: int, timestamp: int | None = None) -> None:
        """Stage a SET."""
        self.append([stage.Event(stage.SET, context, id, score, timestamp)])

    def delete(self, context: str, id: str, timestamp: int | None = None) -> None:
        """Stage a DEL."""
        self.append([stage.Event(stage.DEL, context, id, 0, timestamp)])

    def append(self, events: Sequence[stage.Event]) -> None:
        """Stage events in order."""
        self._transaction.stage(stage.append_events(events, self._now_s()))

    def replace(self, content: stage.EventContent) -> None:
        """Stage the replacement of all events and of the co-occurrence index."""
        self._transaction.stage(stage.replace_events(content))


class Transaction:
    """Staged writes, in order. Safe to share between threads: each call is whole, and it ends once.

    As a context manager it commits at the end, or aborts if the block raised. Nothing that it staged
    can be read before the commit. A transaction that expired can only be aborted.
    """

    def __init__(
        self,
        identity: bytes,
        *,
        timeout_s: float,
        clock: Clock,
        commit: Callable[[Transaction], Receipt],
        finish: Callable[[Transaction], None],
        reserve: Callable[[Transaction, int], None],
    ) -> None:
        self.identity = identity
        self.operations: list[Operation] = []
        self.byte_size = 0
        self._clock = clock
        self._deadline = clock.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._commit = commit
        self._finish = finish
        self._reserve = reserve
        self._status: Status = "open"
        # A server gets several requests for one transaction at once: two commits must not both go through,
        # and a write must be part of the commit or be refused.
        self._lock = threading.RLock()
        self.events = StagedEvents(self, lambda: int(clock.now().timestamp()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._status != "open":
            return
        if kind is None:
            self.commit()
        else:
            self.abort()

    @property
    def id(self) -> str:
        """The transaction's name, a UUID."""
        return str(UUID(bytes=self.identity))

    @property
    def deadline(self) -> float:
        """When it expires, on the monotonic clock."""
        return self._deadline

    @property
    def status(self) -> Status:
        """Whether it is open, committed, aborted or expired."""
        with self._lock:
            if self._status == "open" and self._clock.monotonic() >= self._deadline:
                self._end("expired")
            return self._status

    def expire(self) -> bool:
        """Let it go if its time is over; False if another thread is just using it, which may take long."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            _ = self.status
        finally:
            self._lock.release()
        return True

    @property
    def vectors(self) -> StagedVectors:
        """Writes to the default vector collection."""
        return self.collection(stage.DEFAULT_COLLECTION)

    def collection(self, name: str) -> StagedVectors:
        """Writes to one vector collection."""
        return StagedVectors(self, name)

    def write(self, namespace: str, agent: str, key: str, value: Any) -> None:
        """Stage a state value."""
        self.stage(stage.write_state(namespace, agent, key, value))

    def delete(self, namespace: str, agent: str, key: str) -> None:
        """Stage the deletion of a state key."""
        self.stage(stage.delete_state(namespace, agent, key))

    def stage(self, operation: Operation) -> None:
        """Stage any operation.

        Raises:
            ConflictError: The transaction is committed, aborted or expired; or too much is staged in all.
        """
        with self._lock:
            self._reserve(self, byte_size(operation))
            self._assert_open()
            self.operations.append(operation)

    def commit(self) -> int:
        """Commit all that was staged and return the commit's number; an empty one takes a number too."""
        with self._lock:
            self._assert_open()
            receipt = self._commit(self)
            self._end("committed")
        return receipt.commit_ts

    def abort(self) -> None:
        """Forget what was staged. Safe to call twice, and after it expired.

        Raises:
            ConflictError: It is committed.
        """
        with self._lock:
            if self.status == "committed":
                raise ConflictError(f"transaction {self.id} cannot be aborted: it is committed")
            if self._status == "open":
                self._end("aborted")

    def _end(self, status: Status) -> None:
        self._status = status
        self.operations.clear()  # its fate is remembered for a while, its content need not be
        self._finish(self)

    def _assert_open(self) -> None:
        status = self.status
        if status == "expired":
            raise ConflictError(
                f"transaction {self.id} expired after {self._timeout_s:g} s",
                "begin another one and stage again",
            )
        if status != "open":
            raise ConflictError(f"transaction {self.id} is {status} already", "begin another one")
