"""Forgetting and pruning: what users name is what goes, and nothing that is needed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.catalog.catalog import Catalog
from recollect.clock import ManualClock
from recollect.codec.document import open_document, seal_document
from recollect.errors import (
    ConflictError,
    FormatVersionError,
    IntegrityError,
    NotFoundError,
    RequestError,
    StorageFullError,
)
from recollect.operations import forget, prune, stats
from recollect.operations.backup import BackupOptions
from recollect.operations.forget import SnapshotFilter
from recollect.policy.retention import RetentionRules
from recollect.repository import layout
from recollect.storage.base import StoredObject
from recollect.storage.memory import MemoryStore
from recollect.testing.driver import Driver
from recollect.testing.faults import READS, FaultPlan, FaultyStore
from recollect.testing.records import Row
from recollect.testing.strategies import SOME_VECTORS

# ---------------------------------------------------------------- forget


def test_forgetting_drops_exactly_the_named_and_frees_nothing(filled: Driver) -> None:
    first, second, third = filled.catalog().ids()
    objects = list(filled.open().list_objects())

    assert filled.forget(first, "latest", third) == 2

    assert filled.catalog().ids() == [second]
    assert list(filled.open().list_objects()) == objects
    filled.assert_sound()


def test_forgetting_one_unknown_forgets_none(filled: Driver) -> None:
    before = filled.stored_keys()

    with pytest.raises(NotFoundError):
        filled.forget(filled.catalog().ids()[0], "nothing")
    with pytest.raises(RequestError, match="no snapshot was named"):
        filled.forget()

    assert filled.stored_keys() == before


def test_forgetting_takes_the_tags_along(filled: Driver) -> None:
    identity = filled.catalog().ids()[0]
    filled.catalog().tag(identity, add=["a"])

    filled.forget(identity)

    assert not [key for key in filled.stored_keys() if identity in key]


def test_a_snapshot_that_was_tagged_since_the_plan_stays(filled: Driver) -> None:
    first, second, third = filled.catalog().ids()
    catalog = filled.catalog()
    catalog.tag(first, add=["old"])
    plan = forget.plan_policy(
        catalog, RetentionRules(keep_last=1, keep_tags=("kept",)), now=filled.clock.now()
    )
    catalog.tag(second, add=["kept"])

    with pytest.raises(ConflictError, match=f"{second}.*kept"):
        forget.apply(plan, catalog)

    assert catalog.ids() == [second, third]
    again = forget.plan_policy(
        catalog, RetentionRules(keep_last=1, keep_tags=("kept",)), now=filled.clock.now()
    )
    assert forget.apply(again, catalog) == 0


def test_forgetting_what_another_process_forgot_meanwhile_is_no_conflict(filled: Driver) -> None:
    catalog = filled.catalog()
    identity = catalog.tag(catalog.ids()[0], add=["a"]).id
    plan = forget.plan_selected(catalog, (identity,))
    filled.forget(identity)

    assert forget.apply(plan, catalog) == 1


def test_a_policy_keeps_what_its_rules_say_for_each_source(filled: Driver) -> None:
    ids = filled.catalog().ids()
    filled.catalog().tag(ids[0], add=["keep"])
    catalog = filled.catalog()
    watched = FaultyStore(filled.store)

    rules = RetentionRules(keep_last=1, keep_tags=("keep",))

    plan = forget.plan_policy(Catalog(filled.open(watched)), rules, now=filled.clock.now())

    assert [snapshot.id for snapshot in plan.kept] == [ids[0], ids[2]]
    assert [snapshot.id for snapshot in plan.forgotten] == [ids[1]]
    assert all(decision.reasons for _, decision in plan.decisions if decision.keep)
    assert {operation.name for operation in watched.operations} <= READS
    assert forget.apply(plan, catalog) == 1
    assert catalog.ids() == [ids[0], ids[2]]


def test_a_filter_leaves_other_snapshots_out_of_the_policy(filled: Driver) -> None:
    filled.backup(BackupOptions(host="elsewhere"))
    rules = RetentionRules(keep_last=1)

    plan = forget.plan_policy(
        filled.catalog(), rules, now=filled.clock.now(), chosen=SnapshotFilter(host="elsewhere")
    )

    assert [snapshot.host for snapshot, _ in plan.decisions] == ["elsewhere"]
    assert plan.forgotten == []


# ---------------------------------------------------------------- prune


def test_pruning_deletes_what_no_snapshot_lists_and_nothing_else(filled: Driver) -> None:
    filled.forget(*filled.catalog().ids()[:2])
    needed = {layout.object_key(each.digest) for each in filled.catalog().find("latest").objects()}
    objects = {item.key: item.byte_size for item in filled.open().list_objects()}

    plan = prune.plan(filled.open())
    report = filled.prune()

    garbage = objects.keys() - needed
    assert {key for key, _ in plan.garbage} == garbage
    assert plan.garbage_bytes == report.deleted_bytes == sum(objects[key] for key in garbage)
    assert report.deleted_count == len(garbage)
    assert {item.key for item in filled.open().list_objects()} == needed
    filled.assert_sound()
    assert filled.prune().deleted_count == 0


def test_a_prune_on_a_full_disk_says_what_makes_room_without_writing(filled: Driver) -> None:
    full = FaultyStore(filled.store, FaultPlan(capacity_bytes=0))

    with pytest.raises(StorageFullError) as caught:
        filled.prune(through=full)
    assert "recollect forget SNAP" in caught.value.next_step

    assert filled.forget(filled.catalog().ids()[0], through=full) == 1


def test_planning_a_prune_reads_only(filled: Driver) -> None:
    filled.forget(filled.catalog().ids()[0])
    watched = FaultyStore(filled.store)

    prune.plan(filled.open(watched))

    assert {operation.name for operation in watched.operations} <= READS


def test_forgetting_everything_and_pruning_leaves_an_empty_repository(filled: Driver) -> None:
    filled.catalog().tag(filled.catalog().ids()[0], add=["a"])
    filled.forget(*filled.catalog().ids())
    filled.prune()

    assert filled.stored_keys() == [layout.CONFIG]
    filled.backup()
    filled.assert_sound()


def test_tags_whose_snapshot_is_gone_are_dropped(filled: Driver) -> None:
    identity = filled.catalog().ids()[0]
    filled.catalog().tag(identity, add=["a"])
    filled.store.delete(layout.snapshot_key(identity))  # as a forget that was killed half-way

    filled.prune()

    assert not [key for key in filled.stored_keys() if identity in key]


@pytest.mark.parametrize("harm", ["damage", "newer", "foreign snapshot", "foreign object"])
def test_a_prune_that_cannot_read_everything_deletes_nothing(filled: Driver, harm: str) -> None:
    filled.forget("latest")
    key = layout.snapshot_key(filled.catalog().ids()[0])
    if harm == "damage":
        filled.store.put(key, filled.store.get(key)[:-2])
    elif harm == "newer":
        newer = open_document(filled.store.get(key)).replace(b'"format":1', b'"format":2')
        filled.store.put(key, seal_document(newer))
    else:
        filled.store.put("snapshots/x.json" if harm == "foreign snapshot" else "objects/x", b"?")
    before = filled.stored_keys()

    with pytest.raises((IntegrityError, FormatVersionError)):
        filled.prune()

    assert filled.stored_keys() == before


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_shrinking_listing_stops_a_prune_before_it_deletes(filled: Driver, lost: int) -> None:
    filled.catalog().tag(filled.catalog().ids()[-1], add=["a"])
    filled.store.put(layout.object_key("ab" * 32), b"garbage")
    before = filled.stored_keys()

    with pytest.raises(ConflictError, match="vanished"):
        filled.prune(through=FaultyStore(filled.store, FaultPlan(shrinking_keys=lost)))

    assert filled.stored_keys() == before


def test_a_listing_that_shrinks_after_the_marking_drops_no_tags(filled: Driver) -> None:
    identity = filled.catalog().ids()[-1]
    filled.catalog().tag(identity, add=["a"])

    assert isinstance(filled.store, MemoryStore)

    Catalog(filled.open(ShortListings(filled.store))).drop_orphan_tags()

    assert filled.catalog().read(identity).tags == ("a",)


class ShortListings(MemoryStore):
    """A store whose listing of snapshots is empty, as an eventually consistent one's may be."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__()
        self._values = inner._values

    def list(self, prefix: str) -> Iterator[StoredObject]:
        return iter(()) if prefix == layout.SNAPSHOTS else super().list(prefix)


def test_a_snapshot_that_comes_between_plan_and_sweep_keeps_its_objects(filled: Driver) -> None:
    """A backup relies on an object that was garbage when the prune was planned."""
    filled.forget(*filled.catalog().ids())
    repository = filled.open()
    plan = prune.plan(repository)
    assert plan.garbage
    copy = Driver(store=filled.store, engine=filled.engine, seed=9)
    report = copy.backup()

    prune.apply(plan, repository, clock=filled.clock, random_bytes=filled.random_bytes)

    assert report.snapshot.id in filled.catalog().ids()
    copy.assert_sound()


# ---------------------------------------------------------------- stats


def test_stats_add_up(filled: Driver) -> None:
    filled.forget(filled.catalog().ids()[0])
    filled.forget("latest")

    report = stats.run(filled.open())

    listed = {each.digest: each.byte_size for each in filled.catalog().find("latest").objects()}
    objects = {item.key: item.byte_size for item in filled.open().list_objects()}
    assert report.snapshot_count == 1
    assert report.object_count == len(objects)
    assert report.listed_bytes == sum(listed.values())
    assert report.listed_bytes + report.unlisted_bytes == sum(objects.values())
    assert report.unlisted_count == len(objects) - len(listed)
    assert report.latest_record_count == 30 + 2
    assert filled.prune().deleted_bytes == report.unlisted_bytes


def test_stats_of_an_empty_repository_are_zero(driver: Driver) -> None:
    report = stats.run(driver.open())

    assert (report.snapshot_count, report.object_count, report.full_copies_bytes) == (0, 0, 0)


@settings(max_examples=10)
@given(gaps=st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_snapshots_are_listed_in_the_order_of_their_time(gaps: list[int]) -> None:
    clock = ManualClock()
    driver = Driver(clock=clock)
    driver.init()
    driver.create("c", SOME_VECTORS, [Row(id=1)])
    made = []
    for gap in gaps:
        clock.advance(gap)
        made.append(driver.backup().snapshot.id)

    listed = driver.catalog().list()
    assert [snapshot.id for snapshot in listed] == made == sorted(made)
    assert all(
        later.created_at - earlier.created_at >= timedelta(seconds=1)
        for earlier, later in zip(listed, listed[1:], strict=False)
    )
