"""Commits: numbered in one order, logged in groups, applied when they are durable.

A writer puts its commit in the queue. Whoever gets the flush lock next becomes the leader for all
that is queued: it writes every frame at once, syncs once, applies them in order, and
wakes the rest. Readers therefore never see what a crash could take back.

The first failure of the disk ends writing: everything queued fails with the same error, nothing of it is
applied, and the database stays readable.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from recollect.clock import Clock
from recollect.database.limits import COMMIT_BYTES_MAX
from recollect.database.log import frame
from recollect.database.log.writer import LogWriter
from recollect.database.operation import CommitBody, Operation, encode_body
from recollect.database.options import FsyncMode
from recollect.database.planner import Planner
from recollect.database.state import NO_TRANSACTION
from recollect.database.tables import Tables
from recollect.errors import ConflictError, RecollectError, RequestError
from recollect.system_error import storage_error

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class Receipt(NamedTuple):
    """What a commit became: its number, its time in microseconds since 1970, and what each operation said."""

    commit_ts: int
    time_us: int
    results: list[Any]


class _Entry:
    """A commit in the queue."""

    __slots__ = ("body", "commit_ts", "encoded", "error", "header", "receipt", "time_us")

    def __init__(self, body: CommitBody, encoded: bytes) -> None:
        self.body = body
        self.encoded = encoded
        self.header = b""
        self.commit_ts = 0
        self.time_us = 0
        self.receipt: Receipt | None = None
        self.error: RecollectError | None = None

    def is_waiting(self) -> bool:
        """Tell whether nobody has logged it yet, with success or without."""
        return self.receipt is None and self.error is None


class Committer:
    """The only way to change a database. Safe to share between threads.

    Args:
        on_commit: Called by the leader after each group, with the last commit of it; must be quick.
        encode: Makes the bytes that are logged.
    """

    def __init__(
        self,
        tables: Tables,
        planner: Planner,
        log: LogWriter,
        *,
        clock: Clock,
        fsync: FsyncMode,
        on_commit: Callable[[int], None],
        encode: Callable[[CommitBody], bytes] = encode_body,
    ) -> None:
        self._tables = tables
        self._planner = planner
        self._log = log
        self._clock = clock
        self._fsync = fsync
        self._on_commit = on_commit
        self._encode = encode
        self._queue_lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._queue: list[_Entry] = []
        self._next_ts = tables.commit_ts + 1
        self._time_us = tables.time_us
        self._closed: RecollectError | None = None

    @property
    def failure(self) -> RecollectError | None:
        """Why nothing can be written any more, or None."""
        return self._closed

    def now_us(self) -> int:
        """Return the time, in microseconds since 1970."""
        return (self._clock.now() - _EPOCH) // timedelta(microseconds=1)

    def commit(self, operations: Sequence[Operation], transaction: bytes = NO_TRANSACTION) -> Receipt:
        """Make these operations one commit; return once it is logged as the fsync mode says, and applied.

        Raises:
            RequestError, NotFoundError, ConflictError: It cannot be applied; no number was used up.
            UnavailableError: The disk failed; the commit is not acknowledged and not applied.
        """
        body = CommitBody(transaction, list(operations))
        entry = _Entry(body, self._encode(body))
        with self._queue_lock:
            self._enqueue(entry)
        # Whoever held the flush lock before took everything that was queued by then, so either it has
        # done this commit too, or this thread does it now.
        with self._flush_lock:
            if entry.is_waiting():
                self._flush()
        if entry.error is not None:
            raise type(entry.error)(entry.error.message, entry.error.next_step)
        assert entry.receipt is not None
        return entry.receipt

    def sync(self) -> None:
        """Make everything committed so far durable, whatever the fsync mode."""
        with self._flush_lock:
            if self._closed is None:
                try:
                    self._log.sync()
                except OSError as error:
                    raise self._close(error, []) from error

    def close(self) -> None:
        """Seal the log. Later commits are refused."""
        with self._flush_lock:
            with self._queue_lock:
                failure, waiting, self._queue = self._closed, self._queue, []
                self._closed = ConflictError("the database is closed", "open it again")
            for entry in waiting:
                entry.error = self._closed
            try:
                if failure is None:
                    self._log.seal()
            except OSError as error:
                raise storage_error(error, "cannot complete the log while closing the database") from error
            finally:
                self._log.close()

    def rotate(self) -> None:
        """Seal the open segment, so that it can be shipped or dropped as a whole."""
        with self._flush_lock:
            if self._closed is None:
                try:
                    self._log.seal()
                except OSError as error:
                    raise self._close(error, []) from error

    def _enqueue(self, entry: _Entry) -> None:
        if self._closed is not None:
            raise type(self._closed)(self._closed.message, self._closed.next_step)
        planned = self._planner.plan(entry.body.operations)
        if len(planned) != len(entry.body.operations):
            entry.body = CommitBody(entry.body.transaction, planned)
            entry.encoded = self._encode(entry.body)
        if len(entry.encoded) > COMMIT_BYTES_MAX:
            size = len(entry.encoded)
            raise RequestError(
                f"a commit of {size} bytes is too large; one commit can hold {COMMIT_BYTES_MAX}",
                "write it in several commits",
            )
        entry.commit_ts, self._next_ts = self._next_ts, self._next_ts + 1
        self._time_us = entry.time_us = max(self._time_us, self.now_us())
        self._queue.append(entry)

    def _flush(self) -> None:
        """Log and apply all that is queued. The caller holds the flush lock."""
        with self._queue_lock:
            group, self._queue = self._queue, []
        if not group:
            return
        size, last_ts = self._log.byte_size, self._log.last_ts
        try:
            self._log.append(self._frames(group), last_ts=group[-1].commit_ts, now_us=group[-1].time_us)
            if self._fsync == "commit":
                self._log.sync()
        except OSError as error:
            self._close(error, group)
            self._cut(size, last_ts)
            return
        for entry in group:
            with self._tables.lock:
                results = self._tables.apply(entry.commit_ts, entry.time_us, entry.body)
            entry.receipt = Receipt(entry.commit_ts, entry.time_us, results)
        self._on_commit(group[-1].commit_ts)

    def _frames(self, group: list[_Entry]) -> list[bytes]:
        parts = []
        for entry in group:
            header = frame.encode_frame_header(
                entry.encoded,
                frame.checksum(entry.encoded),
                commit_ts=entry.commit_ts,
                synced_ts=self._log.synced_ts,
                time_us=entry.time_us,
            )
            parts += [header, entry.encoded]
        return parts

    def _close(self, error: OSError, group: list[_Entry]) -> RecollectError:
        """Refuse all writing from here on, and fail what waits."""
        failure = storage_error(
            error,
            f"cannot write commit {self._tables.commit_ts + 1} to the log; "
            "the database is read-only until it is opened again",
        )
        with self._queue_lock:
            self._closed = failure
            waiting, self._queue = self._queue, []
        for entry in [*group, *waiting]:
            entry.error = failure
        return failure

    def _cut(self, size: int, last_ts: int) -> None:
        # What a failed write left behind was acknowledged to nobody. If it cannot be removed now, opening
        # the database removes it, or takes it as commits whose writers never heard back: both are right.
        try:
            self._log.cut(size, last_ts)
        except OSError:
            self._log.last_ts = last_ts
