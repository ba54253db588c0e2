"""The faulty store itself: what it is told is what it does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from recollect.errors import AccessError, ConflictError, StorageFullError, UnavailableError
from recollect.storage.base import ObjectStore
from recollect.storage.memory import MemoryStore
from recollect.testing.faults import (
    OPERATIONS,
    Corruption,
    Effect,
    Fault,
    FaultPlan,
    FaultyStore,
    Moment,
    Operation,
    SimulatedCrash,
    attempt,
    count_operations,
    fault_plans,
)


def commit_two(store: ObjectStore) -> None:
    """Write two objects, then the name that says they are there."""
    store.put("objects/1", b"one")
    store.put("objects/2", b"two!")
    store.size("objects/2")
    store.put_if_absent("snapshots/1", b"1 and 2")
    store.delete("objects/old")


def contents(store: ObjectStore) -> dict[str, bytes]:
    return {entry.key: store.get(entry.key) for entry in store.list("")}


def faulty(effect: Effect = "fail", *, at: int = 1, moment: Moment = "before") -> FaultPlan:
    return FaultPlan(faults=(Fault(at=at, effect=effect, moment=moment),))


def test_operations_are_numbered_and_named() -> None:
    store = FaultyStore(MemoryStore())

    commit_two(store)

    assert store.operations == [
        Operation(1, "put", "objects/1", 3),
        Operation(2, "put", "objects/2", 4),
        Operation(0, "size", "objects/2", 0),
        Operation(3, "put_if_absent", "snapshots/1", 7),
        Operation(4, "delete", "objects/old", 0),
    ]
    assert count_operations(commit_two, MemoryStore()) == store.operation_count == 4
    assert count_operations(commit_two, MemoryStore(), counted=OPERATIONS) == 5


def test_fault_plans_cover_every_operation_moment_and_effect() -> None:
    plans = [(fault.at, fault.moment, fault.effect) for plan in fault_plans(3) for fault in plan.faults]

    assert len(plans) == len(set(plans)) == 3 * 2 * 2
    assert len(list(fault_plans(5, effects=("crash",), moments=("during",)))) == 5


@pytest.mark.parametrize("effect", ["fail", "crash"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_fault_leaves_exactly_what_was_done_before_it(effect: Effect, moment: Moment) -> None:
    steps = [{"objects/1": b"one"}, {"objects/2": b"two!"}, {"snapshots/1": b"1 and 2"}, {}]
    for at in range(1, 5):
        inner = MemoryStore()

        died_of = attempt(commit_two, inner, faulty(effect, at=at, moment=moment))

        assert isinstance(died_of, SimulatedCrash if effect == "crash" else UnavailableError)
        done = at if moment == "after" else at - 1
        assert contents(inner) == {key: value for step in steps[:done] for key, value in step.items()}


def test_nothing_reaches_the_store_after_a_crash() -> None:
    """Not from handlers, not from `finally`, not from other threads."""
    inner = MemoryStore()
    store = FaultyStore(inner, faulty("crash"))

    def careless_verb() -> None:
        try:
            store.put("key", b"value")
        except Exception:  # noqa: BLE001 -- it must not help
            store.put("swallowed", b"value")
        finally:
            store.put("marker", b"value")

    with pytest.raises(SimulatedCrash):
        careless_verb()
    with ThreadPoolExecutor(1) as executor, pytest.raises(SimulatedCrash):
        executor.submit(store.get, "key").result()

    assert contents(inner) == {}
    assert store.is_crashed


def test_a_failure_comes_once() -> None:
    store = FaultyStore(MemoryStore(), faulty("fail"))
    with pytest.raises(UnavailableError, match="injected"):
        store.put("key", b"value")

    store.put("key", b"value")

    assert store.get("key") == b"value"


def test_the_error_can_be_chosen() -> None:
    plan = FaultPlan(faults=(Fault(at=2, error=AccessError("not yours")),))

    assert str(attempt(commit_two, MemoryStore(), plan)) == "not yours"


def test_a_torn_write_leaves_half_a_value() -> None:
    inner = MemoryStore()

    attempt(commit_two, inner, faulty("crash", at=2, moment="during"))

    assert contents(inner) == {"objects/1": b"one", "objects/2": b"tw"}


def test_a_torn_creation_does_not_replace_what_is_there() -> None:
    inner = MemoryStore()
    inner.put("key", b"first")
    store = FaultyStore(inner, faulty("fail", moment="during"))

    with pytest.raises(ConflictError):
        store.put_if_absent("key", b"second")

    assert inner.get("key") == b"first"


def test_what_has_no_middle_fails_before() -> None:
    inner = MemoryStore()
    inner.put("key", b"value")

    with pytest.raises(UnavailableError):
        FaultyStore(inner, faulty("fail", moment="during")).delete("key")

    assert inner.get("key") == b"value"


def test_a_listing_can_break_off() -> None:
    inner = MemoryStore()
    for number in range(4):
        inner.put(f"key/{number}", b"value")
    plan = FaultPlan(faults=(Fault(at=1, moment="during"),), counted=frozenset({"list"}))
    listing = FaultyStore(inner, plan).list("key")

    assert [next(listing).key, next(listing).key] == ["key/0", "key/1"]
    with pytest.raises(UnavailableError):
        next(listing)


def test_the_disk_gets_full() -> None:
    inner = MemoryStore()
    store = FaultyStore(inner, FaultPlan(capacity_bytes=10))
    store.put("first", b"12345678")

    with pytest.raises(StorageFullError):
        store.put("second", b"123")
    store.put("third", b"12")

    assert sorted(contents(inner)) == ["first", "third"]


@pytest.mark.parametrize(("offset", "expected"), [(0, b"\xcf12345"), (-1, b"01234\xca"), (6, b"012345")])
def test_readers_see_a_changed_byte(offset: int, expected: bytes) -> None:
    inner = MemoryStore()
    inner.put("objects/a", b"012345")
    inner.put("other", b"012345")
    store = FaultyStore(inner, FaultPlan(corruptions=(Corruption(key_pattern="objects/*", offset=offset),)))

    assert store.get("objects/a") == expected
    assert store.get_range("objects/a", 0, 3) + store.get_range("objects/a", 3, 9) == expected
    assert store.get("other") == inner.get("objects/a") == b"012345"


def test_a_stale_listing_lacks_what_was_just_written() -> None:
    store = FaultyStore(MemoryStore(), FaultPlan(stale_operations=2))
    store.put("key", b"value")

    seen = [len(list(store.list(""))) for _ in range(3)]

    assert seen == [0, 0, 1]
    assert store.get("key") == b"value"


def test_a_listing_can_shrink() -> None:
    inner = MemoryStore()
    for number in range(5):
        inner.put(f"key/{number}", b"value")
    store = FaultyStore(inner, FaultPlan(shrinking_keys=2))

    assert [len(list(store.list("key"))) for _ in range(4)] == [5, 3, 1, 0]
    assert len(list(store.list(""))) == 5
