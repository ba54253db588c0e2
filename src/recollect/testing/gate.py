"""A store that stops at a chosen operation until it is told to go on.

For tests of concurrency without chance: one party is held exactly where it hurts, the other one
acts, and then the first goes on as a process does that was paused::

    gate = GatedStore(store, lambda name, key: name == "delete")
    with gate.held(lambda: prune(gate)) as paused:
        backup(store)
    paused.result()
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from recollect.storage.base import ObjectStore, StoredObject, find_debris, remove_debris

_Result = TypeVar("_Result")

PATIENCE_S = 60
"""How long either side waits for the other before the test is declared dead."""


class GatedStore:
    """Another store, in which the first operation that fits stops before it begins. Safe to share."""

    def __init__(self, inner: ObjectStore, stops: Callable[[str, str], bool]) -> None:
        self._inner = inner
        self._stops = stops
        self._lock = threading.Lock()
        self._is_spent = False
        self._reached = threading.Event()
        self._resumed = threading.Event()

    @contextmanager
    def held(self, action: Callable[[], _Result]) -> Iterator[Future[_Result]]:
        """Run an action in a thread; the block runs while it is held at the gate.

        The future is done when the block has ended. An action that never comes to the gate is an
        AssertionError.
        """
        with ThreadPoolExecutor(1) as threads:
            future = threads.submit(action)
            try:
                while not self._reached.wait(0.01):
                    assert not future.done(), f"it ended before it came to the gate: {future.exception()!r}"
                yield future
            finally:
                self._resumed.set()

    @property
    def url(self) -> str:
        """Return where the inner store is."""
        return self._inner.url

    def put(self, key: str, data: bytes) -> None:
        """Write."""
        self._pass("put", key)
        self._inner.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Create."""
        self._pass("put_if_absent", key)
        self._inner.put_if_absent(key, data)

    def get(self, key: str) -> bytes:
        """Read."""
        self._pass("get", key)
        return self._inner.get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read a part."""
        self._pass("get_range", key)
        return self._inner.get_range(key, start, length)

    def size(self, key: str) -> int:
        """Return the size."""
        self._pass("size", key)
        return self._inner.size(key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List."""
        self._pass("list", prefix)
        return self._inner.list(prefix)

    def delete(self, key: str) -> None:
        """Delete."""
        self._pass("delete", key)
        self._inner.delete(key)

    def debris(self) -> Iterator[StoredObject]:
        """List debris."""
        return find_debris(self._inner)

    def remove_debris(self, key: str) -> None:
        """Remove debris."""
        remove_debris(self._inner, key)

    def _pass(self, name: str, key: str) -> None:
        with self._lock:
            is_stopped = not self._is_spent and self._stops(name, key)
            self._is_spent |= is_stopped
        if is_stopped:
            self._reached.set()
            assert self._resumed.wait(PATIENCE_S), "nobody opened the gate"
