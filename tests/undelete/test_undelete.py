"""Selected records come back into live collections of all engines that can be written into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from recollect.catalog.catalog import Catalog
from recollect.clock import ManualClock
from recollect.database.filter import Condition
from recollect.engines.base import Editable, Source, Target
from recollect.engines.edge.source import EdgeSource
from recollect.engines.edge.target import EdgeTarget
from recollect.engines.memory import MemoryEngine
from recollect.engines.qdrant.source import QdrantSource
from recollect.engines.qdrant.target import QdrantTarget
from recollect.errors import IntegrityError, NotFoundError, RequestError, VerificationError
from recollect.operations import backup, undelete
from recollect.repository.repository import Repository, create_repository
from recollect.storage.memory import MemoryStore
from recollect.testing.qdrant_server import QdrantServer
from recollect.testing.records import Row, build_records, fingerprint_of
from recollect.values import batch as columns
from recollect.values.key import encode_keys
from recollect.values.schema import CollectionSchema, VectorSpec
from recollect.values.snapshot import CollectionEntry
from recollect.values.ulid import new_ulid

CLOCK = ManualClock()
RANDOM = Random(7)
SCHEMA = CollectionSchema(
    vectors=(
        VectorSpec(name="s", kind="sparse"),
        VectorSpec(name="v", dimension=3, metric="dot"),
    )
)
NAME = "docs"
IDS: list[Any] = [*range(40), UUID(int=5), UUID(int=2**127)]


def no_secret(name: str) -> str | None:
    raise AssertionError(f"asked for the secret {name}")


def new_id() -> str:
    CLOCK.advance(1)
    return new_ulid(CLOCK.now(), RANDOM.randbytes)


def row(identity: Any, version: int = 0) -> Row:
    number = identity if isinstance(identity, int) else 1000
    payload = {"n": number, "city": "Berlin" if number % 2 else "Rome", "version": version, "big": 2**63 + 1}
    vectors: dict[str, Any] = {"v": [1.5, float(number), float(version)]}
    if number % 3 == 0:
        vectors["s"] = {1: 0.5, 77: float(number)}
    return Row(id=identity, payload=payload, vectors=vectors)


class Bench:
    """An engine with one collection of 42 records that is backed up, and then changed."""

    def __init__(self, source: Callable[[], Source], target: Callable[[], Any]) -> None:
        self._source, self._target = source, target
        self.repository: Repository = create_repository(
            MemoryStore(), now=CLOCK.now(), random_bytes=RANDOM.randbytes
        )

    def begin(self) -> CollectionEntry:
        target = self._target()
        staged = target.stage(NAME, SCHEMA, ())
        staged.write(build_records(SCHEMA, [row(each) for each in IDS]))
        staged.finish()
        staged.switch()
        staged.discard()
        target.close()
        source = self._source()
        options = backup.BackupOptions()
        backup.run(source, self.repository, options=options, clock=CLOCK, random_bytes=RANDOM.randbytes)
        source.close()
        return Catalog(self.repository).find("latest").collections[0]

    def replace_all(self, rows: list[Row]) -> None:
        target = self._target()
        staged = target.stage(NAME, SCHEMA, ())
        staged.write(build_records(SCHEMA, rows))
        staged.finish()
        staged.switch()
        staged.discard()
        target.close()

    def __call__(
        self, entry: CollectionEntry, verb: str = "apply", *, existing: Any = "keep", **selection: Any
    ) -> undelete.UndeleteReport:
        options = undelete.UndeleteOptions(
            target_name=NAME, selection=undelete.Selection(**selection), existing=existing
        )
        target: Target = self._target()
        run = undelete.plan if verb == "plan" else undelete.apply
        try:
            return run(self.repository, entry, target, options=options, clock=CLOCK)
        finally:
            target.close()

    @staticmethod
    def close(target: Any) -> None:
        target.close()

    def fingerprint(self) -> str:
        source = self._source()
        with source.hold() as view:
            found = fingerprint_of(SCHEMA, view.scan(NAME, batch_rows=100))
        source.close()
        return str(found)


def expected(rows: list[Row]) -> str:
    return str(fingerprint_of(SCHEMA, [build_records(SCHEMA, rows)]))


@pytest.fixture(params=["memory", "edge", "qdrant"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "memory":
        engine = MemoryEngine()
        yield Bench(lambda: engine, lambda: engine)
    elif request.param == "edge":
        path = tmp_path / "shard"
        yield Bench(lambda: EdgeSource(path, NAME, new_id), lambda: EdgeTarget(path, new_id))
    else:
        with QdrantServer(tmp_path / "server") as server:
            yield Bench(
                lambda: QdrantSource(server.url, secrets=no_secret, clock=CLOCK),
                lambda: QdrantTarget(server.url, secrets=no_secret, clock=CLOCK, new_id=new_id),
            )


def test_deleted_records_come_back_bit_for_bit_and_others_stay(bench: Bench) -> None:
    entry = bench.begin()
    left = [row(each, version=1) for each in IDS[10:]] + [row(500)]
    bench.replace_all(left)

    report = bench(entry, ids=(0, 3, 9))

    assert (report.restored_count, report.selected_count, report.absent_ids) == (3, 3, ())
    assert bench.fingerprint() == expected([*left, row(0), row(3), row(9)])


def test_records_with_other_content_are_kept_unless_they_shall_be_replaced(bench: Bench) -> None:
    entry = bench.begin()
    live = [row(each, version=1) for each in IDS[1:]]
    bench.replace_all(live)

    kept = bench(entry, ids=(0, 1, UUID(int=5)))
    replaced = bench(entry, existing="replace", ids=(0, 1, UUID(int=5)))

    assert (kept.restored_count, kept.kept_count, kept.replaced_count) == (1, 2, 0)
    assert (replaced.same_count, replaced.replaced_count) == (1, 2)
    unchanged = [row(each, version=1) for each in IDS[2:] if each != UUID(int=5)]
    assert bench.fingerprint() == expected([*unchanged, row(0), row(1), row(UUID(int=5))])


def test_a_plan_counts_and_changes_nothing(bench: Bench) -> None:
    entry = bench.begin()
    bench.replace_all([row(each, version=1) for each in IDS[2:]])
    before = bench.fingerprint()

    report = bench(entry, "plan", ids=(0, 1, 2))

    assert (report.restored_count, report.kept_count) == (2, 1)
    assert bench.fingerprint() == before


def test_a_filter_selects_by_payload(bench: Bench) -> None:
    entry = bench.begin()
    bench.replace_all([row(500)])
    conditions = (Condition("city", "=", "Berlin"), Condition("n", "<", 10))

    report = bench(entry, conditions=conditions)

    assert report.restored_count == 5
    assert bench.fingerprint() == expected([row(500), *(row(each) for each in (1, 3, 5, 7, 9))])


def test_ids_that_the_snapshot_does_not_have_are_named(bench: Bench) -> None:
    entry = bench.begin()

    report = bench(entry, ids=(1, 900))

    assert (report.same_count, report.absent_ids) == (1, (900,))
    with pytest.raises(NotFoundError, match="no record that was asked for"):
        bench(entry, ids=(900, 901))


def test_a_collection_of_other_vectors_is_refused(bench: Bench) -> None:
    entry = bench.begin()
    other = CollectionSchema(vectors=(VectorSpec(name="v", dimension=4, metric="dot"),))
    target = bench._target()
    staged = target.stage(NAME, other, ())
    staged.finish()
    staged.switch()
    staged.discard()
    target.close()

    with pytest.raises(RequestError, match="holds other vectors"):
        bench(entry, ids=(1,))


def test_a_collection_that_is_gone_is_not_made(bench: Bench) -> None:
    entry = bench.begin()
    options = undelete.UndeleteOptions(target_name="elsewhere", selection=undelete.Selection(ids=(1,)))
    target = bench._target()
    if isinstance(target, EdgeTarget):
        pytest.skip("a shard has one collection, whatever its name")

    with pytest.raises(NotFoundError, match="'elsewhere'"):
        undelete.apply(bench.repository, entry, target, options=options, clock=CLOCK)
    target.close()


def test_all_engines_that_hold_records_can_be_edited(bench: Bench) -> None:
    bench.begin()
    editable = bench._target()
    assert isinstance(editable, Editable)

    with editable.edit(NAME) as live:
        found = live.fetch(encode_keys([3, UUID(int=5), 77777, 1]))
        nothing = live.fetch(encode_keys([77777]))
    bench.close(editable)

    assert found.column(columns.KEY).to_pylist() == encode_keys([1, 3, UUID(int=5)]).to_pylist()
    assert nothing.num_rows == 0


class Forgetful(MemoryEngine):
    """Takes writes and loses them."""

    def upsert(self, name: str, records: pa.RecordBatch) -> None:
        super().upsert(name, records.slice(0, max(0, records.num_rows - 1)))


def test_a_record_that_was_written_and_is_not_there_is_told() -> None:
    bench = Bench(lambda: engine, lambda: engine)
    engine = MemoryEngine()
    entry = bench.begin()
    engine.delete(NAME, encode_keys([1, 2]))
    forgetful = Forgetful()
    forgetful.adopt(NAME, engine)
    options = undelete.UndeleteOptions(target_name=NAME, selection=undelete.Selection(ids=(1, 2)))

    with pytest.raises(VerificationError, match="record 2"):
        undelete.apply(bench.repository, entry, forgetful, options=options, clock=CLOCK)


@pytest.mark.parametrize("place", [20, 60, 100, 140])
def test_a_damaged_object_is_an_error_and_not_a_wrong_record(place: int) -> None:
    engine = MemoryEngine()
    bench = Bench(lambda: engine, lambda: engine)
    entry = bench.begin()
    engine.delete(NAME, encode_keys([1]))
    store = bench.repository.store
    reference = entry.runs[0][0].vectors["v"]
    key = f"objects/{reference.digest[:2]}/{reference.digest}"
    content = bytearray(store.get(key))
    content[place] ^= 1
    store.put(key, bytes(content))

    with pytest.raises(IntegrityError):
        bench(entry, ids=(1,))
