"""Restore: bit for bit, proven, and all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from recollect.engines.memory import MemoryEngine, MemoryStaged
from recollect.errors import (
    ConflictError,
    IntegrityError,
    NotFoundError,
    RecollectError,
    RequestError,
    UnavailableError,
    VerificationError,
)
from recollect.operations import restore
from recollect.operations.backup import BackupOptions
from recollect.operations.restore import RestoreOptions, RestoreReport
from recollect.repository import layout
from recollect.repository.lease import hold_writer_lease
from recollect.testing.driver import Driver, read_engine
from recollect.testing.faults import READS, FaultyStore
from recollect.testing.records import Row
from recollect.testing.strategies import SOME_VECTORS
from recollect.values.schema import CollectionSchema, VectorSpec
from recollect.values.snapshot import Snapshot

AS_NAMED = RestoreOptions()
REPLACE = RestoreOptions(existing="replace")


def options(*pairs: tuple[str, str]) -> RestoreOptions:
    return RestoreOptions(collections=pairs)


def restored_by(driver: Driver, target: MemoryEngine, chosen: RestoreOptions = AS_NAMED) -> RestoreReport:
    return driver.restore("latest", target, chosen)


# ---------------------------------------------------------------- plans


def test_planning_reads_only_and_touches_neither_side(filled: Driver) -> None:
    store = FaultyStore(filled.store)
    target = MemoryEngine()
    repository = filled.open(store)

    plan = restore.plan(filled.catalog().find("latest"), target, options=RestoreOptions())

    assert [(step.target_name, step.action) for step in plan.steps] == [
        ("docs", "create"),
        ("more", "create"),
    ]
    assert all(step.stored_bytes > 0 for step in plan.steps)
    assert {operation.name for operation in store.operations} <= READS
    assert read_engine(target) == {}
    assert repository.config == filled.open().config


def test_a_collection_that_is_not_empty_is_refused_and_kept(filled: Driver) -> None:
    before = filled.live()

    with pytest.raises(ConflictError, match="not empty: 30 records") as caught:
        restored_by(filled, filled.engine)

    assert "--replace" in caught.value.next_step
    assert filled.live() == before


def test_replacing_brings_the_snapshot_back(filled: Driver) -> None:
    expected = filled.live()
    filled.upsert("docs", [Row(id=5, payload={"ruined": True})])
    filled.delete("docs", [1, 2])

    plan = restore.plan(filled.catalog().find("latest"), filled.engine, options=REPLACE)
    report = restore.apply(plan, filled.open(), filled.engine, clock=filled.clock)

    assert [(step.action, step.replaced_count) for step in plan.steps] == [("replace", 28), ("replace", 1)]
    assert filled.live() == expected
    assert all(done.is_match and done.fingerprint == done.expected for done in report.collections)


def test_an_empty_collection_of_the_same_layout_may_be_filled(filled: Driver) -> None:
    target = MemoryEngine()
    target.create("docs", SOME_VECTORS)

    restored_by(filled, target, options(("docs", "docs")))

    assert read_engine(target)["docs"] == filled.live()["docs"]


def test_one_collection_under_another_name_leaves_the_rest_alone(filled: Driver) -> None:
    before = filled.live()

    restored_by(filled, filled.engine, options(("docs", "docs-copy")))

    assert filled.live() == {**before, "docs-copy": before["docs"]}


def test_a_renamed_copy_does_not_take_the_aliases_over(driver: Driver) -> None:
    driver.engine.create("c", SOME_VECTORS, aliases=("prod",))
    driver.backup()

    restored_by(driver, driver.engine, options(("c", "copy")))

    with driver.engine.hold() as view:
        assert view.describe("copy").aliases == ()
        assert view.describe("prod").name == "c"


def test_one_collection_can_be_restored_twice_under_two_names(filled: Driver) -> None:
    target = MemoryEngine()

    restored_by(filled, target, options(("docs", "a"), ("docs", "b")))

    assert read_engine(target)["a"] == read_engine(target)["b"] == filled.live()["docs"]


@pytest.mark.parametrize(
    "chosen", [options(("docs", "x"), ("more", "x")), options(("docs", "docs"), ("docs", "docs"))]
)
def test_two_collections_to_one_name_are_refused(filled: Driver, chosen: RestoreOptions) -> None:
    with pytest.raises(RequestError, match="to one name"):
        restored_by(filled, MemoryEngine(), chosen)


def test_an_unknown_collection_is_refused_with_those_that_exist(filled: Driver) -> None:
    with pytest.raises(NotFoundError, match="docs, more"):
        restored_by(filled, MemoryEngine(), options(("nothing", "nothing")))


@pytest.mark.parametrize("count", [0, 1])
def test_another_dimension_is_refused_and_named(filled: Driver, count: int) -> None:
    target = MemoryEngine()
    narrow = CollectionSchema(
        vectors=(VectorSpec(name="", dimension=7, metric="dot"), *SOME_VECTORS.vectors[1:])
    )
    target.create("docs", narrow)
    if count:
        other = Driver(engine=target)
        other.upsert("docs", [Row(id=1)])
    before = read_engine(target)

    with pytest.raises(RequestError, match="dimension 7, expected 2"):
        restored_by(filled, target)

    assert read_engine(target) == before


# ---------------------------------------------------------------- all or nothing


class Fragile(MemoryEngine):
    """A target that can be made to fail or lie at one point of a restore."""

    def __init__(self, change: Callable[[pa.RecordBatch], pa.RecordBatch] | None = None) -> None:
        super().__init__()
        self.change = change
        self.error: BaseException | None = None
        self.fails_at = ""
        self.staged: list[str] = []
        self.discarded: list[str] = []

    def stage(self, name: str, schema: CollectionSchema, aliases: tuple[str, ...]) -> FragileStaged:
        self.reach(f"stage {name}")
        self.staged.append(name)
        return FragileStaged(self, name, schema, aliases)

    def reach(self, point: str) -> None:
        if point == self.fails_at and self.error is not None:
            raise self.error


class FragileStaged(MemoryStaged):
    def __init__(
        self, engine: Fragile, name: str, schema: CollectionSchema, aliases: tuple[str, ...]
    ) -> None:
        super().__init__(engine, name, schema, aliases)
        self._fragile = engine
        self._own = name

    def write(self, records: pa.RecordBatch) -> None:
        self._fragile.reach(f"write {self._own}")
        super().write(self._fragile.change(records) if self._fragile.change else records)

    def finish(self) -> None:
        self._fragile.reach(f"finish {self._own}")
        super().finish()

    def scan(self, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        self._fragile.reach(f"scan {self._own}")
        yield from super().scan(batch_rows=batch_rows)

    def switch(self) -> None:
        self._fragile.reach(f"switch {self._own}")
        super().switch()

    def discard(self) -> None:
        self._fragile.discarded.append(self._own)
        super().discard()


def fragile_with(driver: Driver, **kinds: Any) -> Fragile:
    target = Fragile(**kinds)
    for name in ("docs", "more"):
        target.create(name, driver.schema(name))
    Driver(engine=target).upsert("docs", [Row(id=12345, payload={"precious": True})])
    return target


POINTS = [f"{step} {name}" for name in ("docs", "more") for step in ("stage", "write", "finish", "scan")]


@pytest.mark.parametrize("point", [*POINTS, "switch docs"])
@pytest.mark.parametrize("error", [UnavailableError("gone"), KeyboardInterrupt()])
def test_a_failure_at_any_step_before_the_switch_leaves_the_target_as_it_was(
    filled: Driver, point: str, error: BaseException
) -> None:
    target = fragile_with(filled)
    target.fails_at, target.error = point, error
    before = read_engine(target)

    with pytest.raises(type(error)):
        restored_by(filled, target, REPLACE)

    assert read_engine(target) == before
    assert sorted(target.discarded) == sorted(target.staged)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda batch: batch.slice(1), id="a record is lost"),
        pytest.param(lambda batch: _with(batch, "payload", b'{"n":"other"}'), id="a payload is another"),
        pytest.param(
            lambda batch: _with(batch, "key", b"\x10\x00\x00\x00\x00\x00\x00\x01\x00"), id="an id is another"
        ),
        pytest.param(lambda batch: _with(batch, "payload", None), id="a payload is lost"),
    ],
)
def test_a_target_that_holds_something_else_is_found_out_and_kept_as_it_was(
    filled: Driver, change: Callable[[pa.RecordBatch], pa.RecordBatch]
) -> None:
    target = fragile_with(filled, change=change)
    before = read_engine(target)

    with pytest.raises(VerificationError, match="record"):
        restored_by(filled, target, REPLACE)

    assert read_engine(target) == before


def _with(batch: pa.RecordBatch, name: str, value: bytes | None) -> pa.RecordBatch:
    """Change one field of a batch's first record."""
    place = batch.schema.get_field_index(name)
    values = [value, *batch.column(name).to_pylist()[1:]]
    return batch.set_column(place, batch.schema.field(place), pa.array(values, batch.column(name).type))


def every_object(driver: Driver) -> list[str]:
    snapshot = driver.catalog().find("latest")
    return sorted({layout.object_key(reference.digest) for reference in snapshot.objects()})


@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_a_damaged_object_is_found_before_the_target_is_touched(filled: Driver, harm: str) -> None:
    for key in every_object(filled):
        data = filled.store.get(key)
        if harm == "delete":
            filled.store.delete(key)
        else:
            filled.store.put(
                key, data[:-1] if harm == "cut" else data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
            )
        target = fragile_with(filled)

        with pytest.raises(IntegrityError, match=key.rsplit("/", 1)[-1]):
            restored_by(filled, target, REPLACE)

        assert target.staged == []
        filled.store.put(key, data)
    filled.assert_sound()


def test_damage_outside_of_what_a_restore_needs_does_not_stop_it(filled: Driver) -> None:
    snapshot = filled.catalog().find("latest")
    needed = {
        entry.name: {reference.digest for reference in entry.objects()} for entry in snapshot.collections
    }
    for digest in needed["more"] - needed["docs"]:
        filled.store.delete(layout.object_key(digest))
    target = MemoryEngine()

    restored_by(filled, target, options(("docs", "docs")))

    assert read_engine(target)["docs"] == filled.live()["docs"]


def commit_changed(driver: Driver, snapshot: Snapshot) -> None:
    with hold_writer_lease(
        driver.store, purpose="test", clock=driver.clock, random_bytes=driver.random_bytes
    ) as lease:
        driver.catalog().commit(snapshot, lease)


def test_records_that_are_not_what_the_snapshot_says_are_refused(filled: Driver) -> None:
    """The segments hold, but they are not those that the fingerprint was taken of."""
    first, latest = filled.catalog().find("latest~2"), filled.catalog().find("latest")
    mixed = [
        msgspec.structs.replace(entry, runs=old.runs)
        for entry, old in zip(latest.collections, first.collections, strict=True)
    ]
    forged = msgspec.structs.replace(latest, id="7" + "0" * 25, name="forged", collections=tuple(mixed))
    commit_changed(filled, forged)
    target = fragile_with(filled)
    before = read_engine(target)

    with pytest.raises(IntegrityError, match="has the fingerprint"):
        filled.restore("forged", target, REPLACE)

    assert read_engine(target) == before
    assert not filled.verify("forged").is_sound


def test_records_that_arrived_after_the_plan_was_made_are_not_replaced(filled: Driver) -> None:
    target = MemoryEngine()
    target.create("docs", SOME_VECTORS)
    plan = restore.plan(filled.catalog().find("latest"), target, options=RestoreOptions())
    Driver(engine=target).upsert("docs", [Row(id=1, payload={"new": True})])
    before = read_engine(target)

    with pytest.raises(ConflictError, match="docs"):
        restore.apply(plan, filled.open(), target, clock=filled.clock)

    assert read_engine(target) == before


def test_a_collection_that_appeared_after_the_plan_was_made_is_not_replaced(filled: Driver) -> None:
    target = MemoryEngine()
    plan = restore.plan(filled.catalog().find("latest"), target, options=RestoreOptions())
    other = Driver(engine=target)
    other.create("more", SOME_VECTORS, [Row(id=1)])
    before = read_engine(target)

    with pytest.raises(RecollectError, match="more"):
        restore.apply(plan, filled.open(), target, clock=filled.clock)

    assert read_engine(target) == before


# ---------------------------------------------------------------- engines with rules of their own


class Adapting(MemoryEngine):
    """A target that knows no absent payloads."""

    def as_held(self, records: pa.RecordBatch, schema: CollectionSchema) -> pa.RecordBatch:  # noqa: ARG002
        payloads = records.column("payload")
        if not payloads.null_count:
            return records
        place = records.schema.get_field_index("payload")
        return records.set_column(place, records.schema.field(place), payloads.fill_null(b"{}"))


def test_records_that_an_engine_holds_in_its_own_way_are_counted_and_proven(driver: Driver) -> None:
    driver.create(
        "c", SOME_VECTORS, [Row(id=1, payload=None), Row(id=2, payload={"a": 1}), Row(id=3, payload=None)]
    )
    driver.backup(BackupOptions())
    target = Adapting()

    report = restored_by(driver, target)

    [done] = report.collections
    assert (done.adapted_count, done.is_match) == (2, True)
    assert done.fingerprint != driver.catalog().find("latest").collections[0].fingerprint
    payloads = [fields["payload"] for fields in read_engine(target)["c"].values()]
    assert payloads == [b"{}", b'{"a":1}', b"{}"]


def test_an_engine_with_rules_that_do_not_apply_gets_the_snapshots_own_fingerprint(driver: Driver) -> None:
    driver.create("c", SOME_VECTORS, [Row(id=1), Row(id=2, payload={"a": 1})])
    driver.backup()

    [done] = restored_by(driver, Adapting()).collections

    assert done.adapted_count == 0
    assert done.fingerprint == driver.catalog().find("latest").collections[0].fingerprint
