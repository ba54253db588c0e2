"""What a store really does, seen by trying it; why: docs/decisions/0012-probing-conditional-puts.md."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

from recollect.errors import ConflictError, NotFoundError, UnsupportedError
from recollect.storage.base import ObjectStore, StoreCapabilities
from recollect.values.ulid import RandomBytes

PROBE_PREFIX = "probe"
"""Where the probe writes. A probe that was killed leaves a few small keys here, of no use to anyone."""


def probe(
    store: ObjectStore, random_bytes: RandomBytes, *, race_width: int = 8, race_rounds: int = 2
) -> StoreCapabilities:
    """Try the store on random keys below `probe/`, remove them, and return what was seen.

    A "no" is certain. A "yes" about races is as good as the tries: a store that lets two of
    eight writers win now and then can pass. Costs about ten requests and
    `race_rounds` * (`race_width` + 2) more, each of a few bytes.

    Raises:
        AccessError: The store may not be written or deleted from.
        UnavailableError: The store did not answer; nothing is known then.
    """
    base = f"{PROBE_PREFIX}/{random_bytes(16).hex()}"
    keys = [f"{base}/twice", *(f"{base}/race-{number}" for number in range(race_rounds))]
    try:
        refuses_second = _refuses_second(store, keys[0])
        read_after_write = _reads_back(store, keys[0], b"overwritten")
        listed = _lists(store, base, keys[0])
        has_one_winner = refuses_second and all(_has_one_winner(store, key, race_width) for key in keys[1:])
    finally:
        for key in keys:
            store.delete(key)
    return StoreCapabilities(
        create_only=refuses_second and has_one_winner,
        read_after_write=read_after_write,
        list_after_write=listed and not _lists(store, base, keys[0]),
    )


def _refuses_second(store: ObjectStore, key: str) -> bool:
    """Tell whether creating a key twice fails the second time and leaves the first value."""
    try:
        store.put_if_absent(key, b"first")
        store.put_if_absent(key, b"second")
    except UnsupportedError:
        return False  # it says itself that it cannot
    except ConflictError:
        return _holds(store, key, b"first")
    return False


def _has_one_winner(store: ObjectStore, key: str, race_width: int) -> bool:
    """Let many threads create one key at once; tell whether one won and its value is there."""
    gate = threading.Barrier(race_width)

    def create(number: int) -> bool:
        gate.wait()
        with contextlib.suppress(ConflictError):
            store.put_if_absent(key, b"writer %d" % number)
            return True
        return False

    with ThreadPoolExecutor(race_width) as executor:
        winners = [number for number, won in enumerate(executor.map(create, range(race_width))) if won]
    return len(winners) == 1 and _holds(store, key, b"writer %d" % winners[0])


def _reads_back(store: ObjectStore, key: str, data: bytes) -> bool:
    store.put(key, data)
    return _holds(store, key, data)


def _holds(store: ObjectStore, key: str, data: bytes) -> bool:
    try:
        return store.get(key) == data
    except NotFoundError:
        return False


def _lists(store: ObjectStore, prefix: str, key: str) -> bool:
    return any(entry.key == key for entry in store.list(prefix))
