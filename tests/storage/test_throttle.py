"""The limit on bytes per second, on a clock that moves only when someone waits."""

from __future__ import annotations

import pytest

from recollect.clock import ManualClock
from recollect.storage.memory import MemoryStore
from recollect.storage.throttle import ThrottledStore


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> ThrottledStore:
    return ThrottledStore(MemoryStore(), clock, bytes_per_second=1000)


def test_the_rate_is_kept_over_writes_and_reads(store: ThrottledStore, clock: ManualClock) -> None:
    for number in range(10):
        store.put(f"put/{number}", b"x" * 500)
        store.put_if_absent(f"created/{number}", b"x" * 500)
        store.get(f"put/{number}")
        store.get_range(f"put/{number}", 0, 100)

    one_second_free = 10 * (500 + 500 + 500 + 100) / 1000 - 1
    assert clock.monotonic() == pytest.approx(one_second_free)


def test_one_second_may_be_saved_but_no_more(store: ThrottledStore, clock: ManualClock) -> None:
    clock.advance(3600)

    store.put("first", b"x" * 1000)
    assert clock.monotonic() == 3600

    store.put("second", b"x" * 1000)
    assert clock.monotonic() == 3601


def test_a_value_larger_than_the_bucket_takes_its_time(store: ThrottledStore, clock: ManualClock) -> None:
    store.put("large", b"x" * 10_000)

    assert clock.monotonic() == pytest.approx(9)


def test_names_cost_nothing(store: ThrottledStore, clock: ManualClock) -> None:
    store.put("key", b"x" * 1000)

    for _ in range(100):
        store.size("key")
        list(store.list(""))
        store.delete("absent")

    assert clock.monotonic() == 0
