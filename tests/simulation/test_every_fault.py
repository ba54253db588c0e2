"""Every storage operation of every mutating verb fails, or is the last of its process.

After each single fault: every committed snapshot verifies to the last record and restores
bit for bit, and the next run of every verb works and leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from recollect.catalog.catalog import Catalog
from recollect.errors import ConflictError, RecollectError, RepositoryNotFoundError, StorageFullError
from recollect.repository import layout
from recollect.storage.base import ObjectStore
from recollect.storage.memory import MemoryStore
from recollect.testing.driver import Driver
from recollect.testing.faults import (
    MUTATIONS,
    OPERATIONS,
    READS,
    Fault,
    FaultPlan,
    FaultyStore,
    SimulatedCrash,
    attempt,
    count_operations,
    fault_plans,
)

Verb = Callable[[Driver, ObjectStore], object]


def back_up(driver: Driver, store: ObjectStore) -> object:
    return driver.backup(through=store)


def forget_first(driver: Driver, store: ObjectStore) -> object:
    return driver.forget(driver.catalog().ids()[0], through=store)


def prune(driver: Driver, store: ObjectStore) -> object:
    return driver.prune(through=store)


def tag(driver: Driver, store: ObjectStore) -> object:
    catalog = Catalog(driver.open(store))
    return catalog.tag(catalog.ids()[1], add=["new"], remove=["b"])


VERBS: dict[str, Verb] = {"backup": back_up, "forget": forget_first, "prune": prune, "tag": tag}


def count_of(verb: Verb, base: Driver, counted: frozenset[str] = MUTATIONS) -> int:
    driver = base.fork()
    return count_operations(lambda store: verb(driver, store), driver.store, counted=counted)


def assert_nothing_was_lost(driver: Driver, base: Driver, *, forgotten: set[str]) -> None:
    ids = set(driver.catalog().ids())
    assert set(base.catalog().ids()) - forgotten <= ids, "a committed snapshot is gone"
    driver.assert_sound()


def assert_everything_works_from_here(driver: Driver) -> None:
    driver.backup()
    catalog = driver.catalog()
    catalog.tag(catalog.ids()[-1], add=["later"])
    driver.forget(catalog.ids()[0])
    driver.prune()
    assert driver.verify().is_sound
    assert driver.restored("latest") == driver.live()
    assert set(driver.stored_keys()) == needed_keys(driver), "something was left behind"


def needed_keys(driver: Driver) -> set[str]:
    """Return every key that the repository needs, and no other."""
    snapshots = driver.catalog().list()
    keys = {layout.CONFIG} | {layout.snapshot_key(snapshot.id) for snapshot in snapshots}
    keys |= {layout.object_key(each.digest) for snapshot in snapshots for each in snapshot.objects()}
    for snapshot in snapshots:
        keys |= {item.key for item in driver.store.list(layout.tags_prefix(snapshot.id))}
    return keys


def check(verb: Verb, base: Driver, plan: FaultPlan) -> SimulatedCrash | RecollectError | None:
    driver = base.fork()
    forgotten = {driver.catalog().ids()[0]} if verb is forget_first else set()
    died_of = attempt(lambda store: verb(driver, store), driver.store, plan)
    try:
        driver.note_commits()
        assert_nothing_was_lost(driver, base, forgotten=forgotten)
        assert_everything_works_from_here(driver)
    except BaseException as error:
        error.add_note(f"after {plan.faults}, which ended in {died_of!r}")
        raise
    return died_of


@pytest.mark.parametrize("name", list(VERBS))
def test_after_any_single_fault_all_snapshots_restore_and_the_next_run_works(
    name: str, littered: Driver
) -> None:
    """A crash before an operation is one after the operation before it."""
    verb = VERBS[name]
    count = count_of(verb, littered)
    plans = [
        *fault_plans(count, effects=("fail",)),
        *fault_plans(count, effects=("crash",), moments=("after",)),
    ]
    died = [check(verb, littered, plan) for plan in plans]

    assert any(isinstance(each, SimulatedCrash) for each in died)
    assert any(isinstance(each, RecollectError) for each in died)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(VERBS))
def test_after_any_failed_or_last_read_all_snapshots_restore_and_the_next_run_works(
    name: str, littered: Driver
) -> None:
    verb = VERBS[name]
    for plan in fault_plans(count_of(verb, littered, READS), moments=("before",), counted=READS):
        check(verb, littered, plan)


@pytest.mark.parametrize("name", ["backup", "tag", "prune"])
def test_a_disk_that_is_full_at_any_write_loses_nothing(name: str, littered: Driver) -> None:
    verb, counted = VERBS[name], frozenset({"put", "put_if_absent"})
    count = count_operations(
        lambda store: verb(littered.fork(), store), littered.fork().store, counted=counted
    )
    full = StorageFullError("the disk is full (injected)")
    for at in range(1, count + 1):
        died_of = check(verb, littered, FaultPlan(faults=(Fault(at=at, error=full),), counted=counted))
        assert isinstance(died_of, StorageFullError)


def test_a_disk_that_fills_up_stops_a_backup_at_any_byte(littered: Driver) -> None:
    driver = littered.fork()
    before = sum(item.byte_size for item in driver.store.list(""))
    driver.backup()
    needed = sum(item.byte_size for item in driver.store.list("")) - before
    for capacity in range(0, needed, 1100):
        died_of = check(back_up, littered, FaultPlan(capacity_bytes=capacity))
        assert isinstance(died_of, StorageFullError)


def test_a_backup_whose_success_was_reported_is_committed_and_one_that_died_early_is_not(
    littered: Driver,
) -> None:
    for plan in fault_plans(count_of(back_up, littered), effects=("crash",)):
        driver = littered.fork()
        store = FaultyStore(driver.store, plan)
        with pytest.raises(SimulatedCrash):
            back_up(driver, store)
        [fault] = plan.faults
        commits = [
            each.number for each in store.operations if each.key.startswith(layout.SNAPSHOTS) and each.number
        ]
        is_committed = commits and (fault.at > commits[0] or fault.moment == "after")
        assert len(driver.note_commits()) == int(bool(is_committed)), plan


@pytest.mark.slow
def test_a_second_fault_in_the_run_after_a_crash_loses_nothing_either(prepared: Driver) -> None:
    crash = FaultPlan(faults=(Fault(at=4, effect="crash", moment="after"),))
    base = prepared.fork()
    attempt(lambda store: back_up(base, store), base.store, crash)
    base.note_commits()
    for verb in (back_up, prune):
        for plan in fault_plans(count_of(verb, base), effects=("crash",)):
            check(verb, base, plan)


# ---------------------------------------------------------------- init


def init(store: ObjectStore) -> object:
    return Driver(store).init()


def test_a_fault_at_any_operation_of_init_leaves_nothing_or_a_repository() -> None:
    count = count_operations(init, MemoryStore(), counted=OPERATIONS)
    assert count >= 3
    for plan in fault_plans(count, counted=OPERATIONS):
        store = MemoryStore()
        assert attempt(init, store, plan) is not None
        driver = Driver(store)
        try:
            driver.open()
        except RepositoryNotFoundError:
            assert driver.stored_keys() == []
            driver.init()
        else:
            with pytest.raises(ConflictError):
                driver.init()
        driver.open()


# ---------------------------------------------------------------- listings that lie


@pytest.mark.parametrize("moment", ["before", "during"])
def test_a_listing_that_breaks_off_stops_a_prune_before_it_deletes(littered: Driver, moment: str) -> None:
    counted = frozenset({"list"})
    count = count_operations(
        lambda store: prune(littered.fork(), store), littered.fork().store, counted=counted
    )
    deleted_after = []
    for at in range(1, count + 1):
        driver = littered.fork()
        objects = list(driver.open().list_objects())
        plan = FaultPlan(faults=(Fault(at=at, moment=moment),), counted=counted)  # type: ignore[arg-type]
        died_of = attempt(lambda store, driver=driver: prune(driver, store), driver.store, plan)  # type: ignore[misc]
        assert died_of is not None
        if list(driver.open().list_objects()) != objects:
            deleted_after.append(at)
        driver.assert_sound()
        assert_everything_works_from_here(driver)

    # Only the listing of tags, of which orphans are dropped, comes after the sweep.
    assert deleted_after in ([], [count])
