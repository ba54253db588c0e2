"""Retries around any store: for what the surroundings did, never for what the bytes are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from recollect.clock import Clock
from recollect.errors import ConflictError, NotFoundError, UnavailableError
from recollect.storage.base import ObjectStore, StoredObject, find_debris, remove_debris
from recollect.values.ulid import RandomBytes

_Result = TypeVar("_Result")


class RetryingStore:
    """Another store, with retryable UnavailableErrors tried again; everything else passes at once.

    Waits grow exponentially, each shortened by up to half at random, so that many writers
    do not come back in step. The last error is raised when the attempts are used up.

    A `put_if_absent` whose answer was lost may have been done. The next answer then is a conflict
    with our own value: if the key holds exactly our bytes, this counts as success. (Whoever must know
    that *he* wrote it has something of his own in the value.) Without a lost answer a conflict stays one.

    Safe to share between threads, as far as `random_bytes` is.

    Args:
        inner: The store that is asked.
        clock: What waits.
        random_bytes: Source of the jitter.
        attempts: How often an operation is tried in all.
        delay_s_first: Longest wait before the second attempt; it doubles each time.
        delay_s_max: No wait is longer.
    """

    def __init__(
        self,
        inner: ObjectStore,
        clock: Clock,
        random_bytes: RandomBytes,
        *,
        attempts: int = 5,
        delay_s_first: float = 0.5,
        delay_s_max: float = 15.0,
    ) -> None:
        assert attempts >= 1, "an operation is tried at least once"
        self._inner = inner
        self._clock = clock
        self._random_bytes = random_bytes
        self._attempts = attempts
        self._delay_s_first = delay_s_first
        self._delay_s_max = delay_s_max

    @property
    def url(self) -> str:
        """Return where the inner store is."""
        return self._inner.url

    def put(self, key: str, data: bytes) -> None:
        """Write the value; doing it twice is the same as once."""
        self._retry(lambda: self._inner.put(key, data))

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Create the value; a lost answer is resolved by reading back."""
        for attempt in range(1, self._attempts + 1):
            try:
                self._inner.put_if_absent(key, data)
            except ConflictError:
                if attempt > 1 and self._holds(key, data):
                    return
                raise
            except UnavailableError as error:
                if not error.retryable:
                    raise
                if attempt < self._attempts:
                    self._wait(attempt)
                elif not self._holds(key, data):
                    error.add_note(f"tried {attempt} times")
                    raise
            else:
                return

    def get(self, key: str) -> bytes:
        """Read the whole value."""
        return self._retry(lambda: self._inner.get(key))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read a part of the value."""
        return self._retry(lambda: self._inner.get_range(key, start, length))

    def size(self, key: str) -> int:
        """Return the value's size in bytes."""
        return self._retry(lambda: self._inner.size(key))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List keys; a listing that broke off is begun again and goes on after the last key given out.

        Every key that is given out renews the attempts.
        """
        last, attempt = "", 1
        while True:
            try:
                for entry in self._inner.list(prefix):
                    if entry.key > last:
                        last, attempt = entry.key, 1
                        yield entry
            except UnavailableError as error:
                self._raise_if_final(error, attempt)
            else:
                return
            self._wait(attempt)
            attempt += 1

    def delete(self, key: str) -> None:
        """Remove the key; doing it twice is the same as once."""
        self._retry(lambda: self._inner.delete(key))

    def debris(self) -> Iterator[StoredObject]:
        """List the inner store's debris."""
        return find_debris(self._inner)

    def remove_debris(self, key: str) -> None:
        """Remove debris of the inner store."""
        self._retry(lambda: remove_debris(self._inner, key))

    def _retry(self, action: Callable[[], _Result]) -> _Result:
        attempt = 1
        while True:
            try:
                return action()
            except UnavailableError as error:
                self._raise_if_final(error, attempt)
            self._wait(attempt)
            attempt += 1

    def _raise_if_final(self, error: UnavailableError, attempt: int) -> None:
        if not error.retryable or attempt >= self._attempts:
            error.add_note(f"tried {attempt} times")
            raise error

    def _wait(self, attempt: int) -> None:
        """Wait between half and all of the delay that follows this attempt."""
        longest = min(self._delay_s_max, self._delay_s_first * 2.0 ** (attempt - 1))
        chance = int.from_bytes(self._random_bytes(4), "big") / 2**32
        self._clock.sleep(longest * (0.5 + 0.5 * chance))

    def _holds(self, key: str, data: bytes) -> bool:
        """Tell whether the key holds exactly these bytes, as far as can be seen now."""
        try:
            return self._inner.get(key) == data
        except (NotFoundError, UnavailableError):
            return False
