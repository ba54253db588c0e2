"""Retries: what is tried again, how long it waits, and how lost answers are resolved."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from recollect.clock import ManualClock
from recollect.errors import (
    AccessError,
    ConflictError,
    IntegrityError,
    NotFoundError,
    RecollectError,
    StorageFullError,
    UnavailableError,
)
from recollect.storage.memory import MemoryStore
from recollect.storage.retry import RetryingStore
from recollect.testing.faults import OPERATIONS, Fault, FaultPlan, FaultyStore, Moment


def retrying(
    *faults: Fault, attempts: int = 3, inner: MemoryStore | None = None
) -> tuple[RetryingStore, FaultyStore, ManualClock]:
    clock = ManualClock()
    faulty = FaultyStore(inner or MemoryStore(), FaultPlan(faults=faults, counted=OPERATIONS))
    return RetryingStore(faulty, clock, random.Random(1).randbytes, attempts=attempts), faulty, clock


def failures(count: int, moment: Moment = "before") -> list[Fault]:
    return [Fault(at=number, moment=moment) for number in range(1, count + 1)]


READS: list[Callable[[RetryingStore], object]] = [
    lambda store: store.get("key"),
    lambda store: store.get_range("key", 0, 5),
    lambda store: store.size("key"),
    lambda store: list(store.list("")),
    lambda store: store.put("key", b"value"),
    lambda store: store.delete("key"),
]


@pytest.mark.parametrize("operation", READS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_outage_shorter_than_the_attempts_is_not_noticed(
    operation: Callable[[RetryingStore], object], moment: Moment
) -> None:
    inner = MemoryStore()
    inner.put("key", b"value")
    expected = operation(retrying(inner=inner)[0])
    inner.put("key", b"value")
    store, faulty, _ = retrying(*failures(2, moment), inner=inner)

    assert operation(store) == expected

    assert faulty.operation_count == 3


@pytest.mark.parametrize("operation", READS)
def test_an_outage_as_long_as_the_attempts_is_reported(operation: Callable[[RetryingStore], object]) -> None:
    store, faulty, _ = retrying(*failures(3))

    with pytest.raises(UnavailableError) as caught:
        operation(store)

    assert caught.value.__notes__ == ["tried 3 times"]
    assert faulty.operation_count == 3


@pytest.mark.parametrize(
    "error",
    [
        IntegrityError("damaged"),
        NotFoundError("absent"),
        ConflictError("taken"),
        AccessError("refused"),
        StorageFullError("full"),
    ],
)
@pytest.mark.parametrize("method", ["put", "put_if_absent"])
def test_what_waiting_cannot_mend_is_reported_at_once(error: RecollectError, method: str) -> None:
    store, faulty, clock = retrying(Fault(at=1, error=error))

    with pytest.raises(type(error)):
        getattr(store, method)("key", b"value")

    assert faulty.operation_count == 1
    assert clock.monotonic() == 0


def test_waits_double_up_to_a_limit_with_jitter_downwards() -> None:
    waits = []
    for seed in range(50):
        clock = ManualClock()
        faulty = FaultyStore(MemoryStore(), FaultPlan(faults=tuple(failures(4))))
        store = RetryingStore(
            faulty, clock, random.Random(seed).randbytes, delay_s_first=1, delay_s_max=4, attempts=5
        )
        store.put("key", b"value")
        waits.append(clock.monotonic())

    longest = 1 + 2 + 4 + 4
    assert all(longest / 2 <= wait <= longest for wait in waits)
    assert len(set(waits)) > 40


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_creation_whose_answer_was_lost_succeeded(lost: int) -> None:
    """Also if it was the last attempt, where only reading back can tell."""
    faults = [*failures(lost - 1), Fault(at=lost, moment="after")]
    store, faulty, _ = retrying(*faults)

    store.put_if_absent("key", b"ours")

    assert faulty.get("key") == b"ours"


def test_a_creation_that_someone_else_won_meanwhile_is_a_conflict() -> None:
    inner = MemoryStore()
    inner.put("key", b"theirs")
    store, _, _ = retrying(*failures(1), inner=inner)

    with pytest.raises(ConflictError):
        store.put_if_absent("key", b"ours")

    assert inner.get("key") == b"theirs"


def test_a_conflict_without_a_lost_answer_stays_one() -> None:
    """Equal bytes or not: nobody failed to hear anything."""
    inner = MemoryStore()
    inner.put("key", b"ours")

    with pytest.raises(ConflictError):
        retrying(inner=inner)[0].put_if_absent("key", b"ours")


def test_a_creation_that_never_happened_is_reported() -> None:
    store, faulty, _ = retrying(*failures(4))  # the fourth is the reading back

    with pytest.raises(UnavailableError):
        store.put_if_absent("key", b"ours")

    assert [operation.name for operation in faulty.operations] == ["put_if_absent"] * 3 + ["get"]


def test_a_listing_that_breaks_off_goes_on_without_repeating() -> None:
    inner = MemoryStore()
    for number in range(40):
        inner.put(f"key/{number:02}", b"value")
    # Each listing gives half of the keys: the later ones bring nothing new, and use up the attempts.
    store, _, _ = retrying(*[Fault(at=number, moment="during") for number in (1, 2)], inner=inner)

    assert [entry.key for entry in store.list("key")] == [f"key/{number:02}" for number in range(40)]

    store, _, _ = retrying(*[Fault(at=number, moment="during") for number in range(1, 9)], inner=inner)
    with pytest.raises(UnavailableError):
        list(store.list("key"))
