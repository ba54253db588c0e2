"""The open transactions of a database, by id."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable

from recollect.clock import Clock
from recollect.database.committer import Receipt
from recollect.database.transaction import Transaction
from recollect.errors import ConflictError, NotFoundError, RequestError
from recollect.values.ulid import RandomBytes

_REMEMBERED = 10_000  # ended transactions whose fate can still be told


class Transactions:
    """Begins, finds and forgets transactions. Safe to share between threads.

    One that expired is let go, with all that it staged, as soon as anybody begins another one or asks for
    the count. `bytes_max` bounds what all open ones together hold in memory.
    """

    def __init__(
        self,
        commit: Callable[[Transaction], Receipt],
        *,
        clock: Clock,
        random_bytes: RandomBytes,
        timeout_s: float,
        count_max: int,
        bytes_max: int,
    ) -> None:
        self._commit = commit
        self._clock = clock
        self._random_bytes = random_bytes
        self._timeout_s = timeout_s
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._open: dict[str, Transaction] = {}
        self._ended: dict[str, Transaction] = {}
        self._deadlines: list[tuple[float, str]] = []
        self._byte_size = 0
        self._expired_count = 0

    def begin(self, timeout_s: float | None) -> Transaction:
        """Begin a transaction.

        Raises:
            RequestError: The timeout is not positive.
            ConflictError: Too many are open.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        if not timeout_s > 0:
            raise RequestError(f"a transaction's timeout must be positive, got {timeout_s!r}")
        identity = bytearray(self._random_bytes(16))
        identity[6], identity[8] = identity[6] & 0x0F | 0x40, identity[8] & 0x3F | 0x80  # a UUID of version 4
        transaction = Transaction(
            bytes(identity),
            timeout_s=timeout_s,
            clock=self._clock,
            commit=self._commit,
            finish=self._finish,
            reserve=self._reserve,
        )
        self._expire()
        with self._lock:
            if len(self._open) >= self._count_max:
                raise ConflictError(
                    f"{len(self._open)} transactions are open, which is the limit",
                    "commit or abort some, or wait until they expire",
                )
            self._open[transaction.id] = transaction
            heapq.heappush(self._deadlines, (transaction.deadline, transaction.id))
        return transaction

    def find(self, id: str) -> Transaction:
        """Return a transaction by its id, also one that ended a while ago.

        Raises:
            NotFoundError: There is none, or it ended long ago.
        """
        with self._lock:
            found = self._open.get(id) or self._ended.get(id)
        if found is None:
            raise NotFoundError(
                f"there is no transaction {id!r}", "begin one; it may have ended, or expired, long ago"
            )
        return found

    @property
    def open_count(self) -> int:
        """Transactions that are neither committed nor aborted nor expired."""
        self._expire()
        with self._lock:
            return len(self._open)

    @property
    def expired_count(self) -> int:
        """Transactions that expired since the database was opened."""
        self._expire()
        with self._lock:
            return self._expired_count

    def _expire(self) -> None:
        """Let go of all whose time is over, and of deadlines of those that ended otherwise."""
        now, due = self._clock.monotonic(), []
        with self._lock:
            while self._deadlines and self._deadlines[0][0] <= now:
                _, name = heapq.heappop(self._deadlines)
                if name in self._open:
                    due.append(self._open[name])
            if len(self._deadlines) > 2 * (len(self._open) + _REMEMBERED):
                self._deadlines = [entry for entry in self._deadlines if entry[1] in self._open]
                heapq.heapify(self._deadlines)
        for transaction in due:
            if not transaction.expire():
                with self._lock:
                    heapq.heappush(self._deadlines, (transaction.deadline, transaction.id))

    def _reserve(self, transaction: Transaction, byte_size: int) -> None:
        """Count what a transaction is about to stage; one that ended meanwhile is told so by itself."""
        if self._byte_size + byte_size > self._bytes_max:
            self._expire()
        with self._lock:
            if transaction.id not in self._open:
                return
            if self._byte_size + byte_size > self._bytes_max:
                raise ConflictError(
                    f"{self._byte_size} bytes are staged in open transactions; with {byte_size} more they "
                    f"would pass the limit of {self._bytes_max}",
                    "commit or abort some, or wait until they expire",
                )
            self._byte_size += byte_size
            transaction.byte_size += byte_size

    def _finish(self, transaction: Transaction) -> None:
        with self._lock:
            if self._open.pop(transaction.id, None) is None:
                return
            self._byte_size -= transaction.byte_size
            self._expired_count += transaction.status == "expired"
            self._ended[transaction.id] = transaction
            while len(self._ended) > _REMEMBERED:
                self._ended.pop(next(iter(self._ended)))
