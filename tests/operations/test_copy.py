"""Copying snapshots into a second repository: exact, only what is lacking, and checked on the way."""

from __future__ import annotations

import pytest

from recollect.catalog.catalog import Catalog
from recollect.errors import ConflictError, IntegrityError, LeaseHeldError, NotFoundError, RequestError
from recollect.operations import copy
from recollect.repository import layout
from recollect.repository.lease import hold_fence
from recollect.storage.base import ObjectStore
from recollect.testing.driver import Driver
from recollect.testing.faults import FaultPlan, FaultyStore, SimulatedCrash, count_operations, fault_plans
from recollect.testing.records import Row


@pytest.fixture
def second() -> Driver:
    """Return a driver of another, empty repository."""
    made = Driver(seed=9)
    made.init()
    return made


def copy_all(
    origin: Driver, second: Driver, *selectors: str, through: ObjectStore | None = None, wait_s: float = 5
) -> copy.CopyReport:
    source, destination = origin.open(), second.open(through)
    return copy.apply(
        copy.plan(source, destination, selectors),
        source,
        destination,
        clock=second.clock,
        random_bytes=second.random_bytes,
        wait_s=wait_s,
    )


def assert_sound_copy(origin: Driver, second: Driver) -> None:
    """Make sure that every snapshot of the copy is one of the origin's, and restores as that does."""
    second.expected = {identity: origin.expected[identity] for identity in second.catalog().ids()}
    second.assert_sound()


def test_every_snapshot_restores_from_the_copy_alone(filled: Driver, second: Driver) -> None:
    catalog = filled.catalog()
    catalog.tag(catalog.ids()[0], add=["release"])

    report = copy_all(filled, second)

    assert second.catalog().list() == catalog.list()
    assert [each.id for each in report.snapshots] == catalog.ids()
    assert report.added_bytes == sum(
        item.byte_size for prefix in (layout.OBJECTS, layout.SNAPSHOTS) for item in second.store.list(prefix)
    )
    assert_sound_copy(filled, second)


def test_a_second_copy_sends_only_what_is_new(filled: Driver, second: Driver) -> None:
    copy_all(filled, second)
    assert copy_all(filled, second).object_count == 0
    filled.upsert("docs", [Row(id=3, vectors={"": [5.0, 5.0]})])
    fresh = filled.backup().snapshot
    known = {each.digest for snapshot in second.catalog().list() for each in snapshot.objects()}

    report = copy_all(filled, second)

    assert [each.id for each in report.snapshots] == [fresh.id]
    assert report.object_count == len({each.digest for each in fresh.objects()} - known)
    assert_sound_copy(filled, second)


def test_chosen_snapshots_are_copied_and_no_others(filled: Driver, second: Driver) -> None:
    newest = filled.catalog().ids()[-1]

    copy_all(filled, second, "latest", newest)

    assert second.catalog().ids() == [newest]
    assert_sound_copy(filled, second)


def test_an_unknown_snapshot_stops_a_copy_before_it_begins(filled: Driver, second: Driver) -> None:
    before = second.stored_keys()

    with pytest.raises(NotFoundError):
        copy_all(filled, second, "latest", "nothing")

    assert second.stored_keys() == before


def test_the_next_backup_into_the_copy_goes_on_from_there(filled: Driver, second: Driver) -> None:
    copy_all(filled, second)
    other = Driver(second.store, engine=filled.engine, clock=filled.clock, seed=7)

    report = other.backup()

    assert report.snapshot.parent == filled.catalog().ids()[-1]
    assert sum(entry.changes.total for entry in report.snapshot.collections) == 0


def test_a_repository_is_not_copied_into_itself(filled: Driver) -> None:
    with pytest.raises(RequestError, match="one repository"):
        copy.plan(filled.open(), filled.fork().open())


def test_a_damaged_object_is_not_passed_on(filled: Driver, second: Driver) -> None:
    last = filled.catalog().list()[-1]
    before = {each.digest for snapshot in filled.catalog().list()[:-1] for each in snapshot.objects()}
    digest = next(each.digest for each in last.objects() if each.digest not in before)
    key = layout.object_key(digest)
    filled.store.put(key, b"x" + filled.store.get(key)[1:])

    with pytest.raises(IntegrityError, match=digest):
        copy_all(filled, second)

    assert second.catalog().ids() == filled.catalog().ids()[:-1]
    assert digest not in {layout.object_digest(item.key) for item in second.open().list_objects()}
    assert_sound_copy(filled, second)


def test_a_copy_waits_for_a_garbage_collection_of_the_destination(filled: Driver, second: Driver) -> None:
    fence = hold_fence(
        second.store, purpose="prune", clock=second.clock, random_bytes=second.random_bytes, wait_s=1
    )
    with fence, pytest.raises(LeaseHeldError):
        copy_all(filled, second, wait_s=1)

    assert second.catalog().ids() == []


def test_a_snapshot_that_came_in_another_way_since_the_plan_is_left_alone(
    filled: Driver, second: Driver
) -> None:
    source, destination = filled.open(), second.open()
    plan = copy.plan(source, destination)
    copy_all(filled, second)

    report = copy.apply(plan, source, destination, clock=second.clock, random_bytes=second.random_bytes)

    assert report.snapshots == ()
    assert report.added_bytes == 0


def test_after_any_fault_the_copy_holds_whole_snapshots_and_the_next_run_completes_it(
    filled: Driver, second: Driver
) -> None:
    count = count_operations(
        lambda store: copy_all(filled, second.fork(), through=store), second.fork().store
    )
    plans = [
        *fault_plans(count, effects=("fail",)),
        *fault_plans(count, effects=("crash",), moments=("after",)),
    ]
    assert len(plans) > 2 * len(filled.catalog().ids())
    for plan in plans:
        copied = second.fork()
        try:
            copy_all(filled, copied, through=FaultyStore(copied.store, plan))
        except (Exception, SimulatedCrash) as error:  # noqa: BLE001 -- whatever it died of, what holds is below
            died_of: BaseException = error
        else:
            raise AssertionError(f"{plan} did nothing")
        assert_sound_copy(filled, copied)

        copy_all(filled, copied)
        copied.prune()

        assert copied.catalog().list() == filled.catalog().list(), (plan, died_of)
        assert_sound_copy(filled, copied)


def test_a_copy_whose_lease_is_lost_commits_nothing_more(filled: Driver, second: Driver) -> None:
    """As after a pause so long that a garbage collection went by."""

    class Revoking(FaultyStore):
        def put_if_absent(self, key: str, data: bytes) -> None:
            super().put_if_absent(key, data)
            for item in list(second.store.list(layout.LEASES)):
                second.store.delete(item.key)

    with pytest.raises(ConflictError):
        copy_all(filled, second, through=Revoking(second.store, FaultPlan(faults=())))

    assert Catalog(second.open()).ids() == []
