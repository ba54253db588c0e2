"""A limit on bytes per second around any store."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from recollect.clock import Clock
from recollect.storage.base import ObjectStore, StoredObject, find_debris, remove_debris

_BURST_S = 1.0  # what an idle second saved may be spent at once; more would show as a spike


class ThrottledStore:
    """Another store, with values written and read at no more than so many bytes per second in all.

    A token bucket that holds one second's worth. Writes wait before they are sent, reads
    after they came, because their size is known then. Listings and deletions are free.
    Safe to share between threads: they share the limit.
    """

    def __init__(self, inner: ObjectStore, clock: Clock, *, bytes_per_second: float) -> None:
        assert bytes_per_second > 0, "a limit of nothing would wait for ever"
        self._inner = inner
        self._clock = clock
        self._bytes_per_second = bytes_per_second
        self._paid_until = clock.monotonic() - _BURST_S
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Return where the inner store is."""
        return self._inner.url

    def put(self, key: str, data: bytes) -> None:
        """Wait for the bytes' turn, then write."""
        self._spend(len(data))
        self._inner.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Wait for the bytes' turn, then create."""
        self._spend(len(data))
        self._inner.put_if_absent(key, data)

    def get(self, key: str) -> bytes:
        """Read the whole value, then wait for what it cost."""
        data = self._inner.get(key)
        self._spend(len(data))
        return data

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read a part, then wait for what it cost."""
        data = self._inner.get_range(key, start, length)
        self._spend(len(data))
        return data

    def size(self, key: str) -> int:
        """Return the value's size in bytes."""
        return self._inner.size(key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List keys of the inner store."""
        return self._inner.list(prefix)

    def delete(self, key: str) -> None:
        """Remove the key."""
        self._inner.delete(key)

    def debris(self) -> Iterator[StoredObject]:
        """List the inner store's debris."""
        return find_debris(self._inner)

    def remove_debris(self, key: str) -> None:
        """Remove debris of the inner store."""
        remove_debris(self._inner, key)

    def _spend(self, byte_size: int) -> None:
        """Take the bytes from the bucket and wait until they are paid for."""
        with self._lock:
            now = self._clock.monotonic()
            start = max(self._paid_until, now - _BURST_S)
            self._paid_until = start + byte_size / self._bytes_per_second
            wait_s = self._paid_until - now
        if wait_s > 0:
            self._clock.sleep(wait_s)
