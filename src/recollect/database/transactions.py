"""The open transactions of a database, by id."""

from __future__ import annotations

import threading
from collections.abc import Callable

from recollect.clock import Clock
from recollect.database.committer import Receipt
from recollect.database.transaction import Transaction
from recollect.errors import ConflictError, NotFoundError, RequestError
from recollect.values.ulid import RandomBytes

_REMEMBERED = 10_000  # ended transactions whose fate can still be told


class Transactions:
    """Begins, finds and forgets transactions. Safe to share between threads."""

    def __init__(
        self,
        commit: Callable[[Transaction], Receipt],
        *,
        clock: Clock,
        random_bytes: RandomBytes,
        timeout_s: float,
        count_max: int,
    ) -> None:
        self._commit = commit
        self._clock = clock
        self._random_bytes = random_bytes
        self._timeout_s = timeout_s
        self._count_max = count_max
        self._lock = threading.Lock()
        self._open: dict[str, Transaction] = {}
        self._ended: dict[str, Transaction] = {}

    def begin(self, timeout_s: float | None) -> Transaction:
        """Begin a transaction.

        Raises:
            ConflictError: Too many are open.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        if not timeout_s > 0:
            raise RequestError(f"a transaction's timeout must be positive, got {timeout_s}")
        identity = bytearray(self._random_bytes(16))
        identity[6], identity[8] = identity[6] & 0x0F | 0x40, identity[8] & 0x3F | 0x80  # a UUID of version 4
        transaction = Transaction(
            bytes(identity), timeout_s=timeout_s, clock=self._clock, commit=self._commit, finish=self._finish
        )
        if len(self._open) >= self._count_max:
            self._expire()
        with self._lock:
            if len(self._open) >= self._count_max:
                raise ConflictError(
                    f"{len(self._open)} transactions are open, which is the limit",
                    "commit or abort some, or wait until they expire",
                )
            self._open[transaction.id] = transaction
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
        """Transactions that are neither committed nor aborted nor seen to be expired."""
        with self._lock:
            return len(self._open)

    def _expire(self) -> None:
        with self._lock:
            candidates = list(self._open.values())
        for transaction in candidates:
            _ = transaction.status  # asking an expired one makes it leave

    def _finish(self, transaction: Transaction) -> None:
        with self._lock:
            self._open.pop(transaction.id, None)
            self._ended[transaction.id] = transaction
            while len(self._ended) > _REMEMBERED:
                self._ended.pop(next(iter(self._ended)))
