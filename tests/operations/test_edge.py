"""The verbs on Qdrant Edge shards: only changes are stored, and what is restored is what was there."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import numpy as np
import pytest

from recollect.engines.edge.source import EdgeSource
from recollect.engines.edge.target import EdgeTarget
from recollect.operations import backup, restore, verify
from recollect.operations.backup import BackupOptions, BackupReport
from recollect.operations.restore import RestoreOptions, RestoreReport
from recollect.repository import layout
from recollect.testing.driver import Driver, States
from recollect.testing.engine_samples import PAYLOADS
from recollect.testing.model import State, state_of
from recollect.values import batch as columns

edge: Any = pytest.importorskip("qdrant_edge", reason="the engine is not installed")

DIMENSION = 32


class Shard:
    """A shard directory, changed through the engine itself, and backed up into a driver's repository."""

    def __init__(self, driver: Driver, path: Path) -> None:
        self.driver = driver
        self.path = path
        self._ids = (f"token{number}" for number in itertools.count())

    def create(self, **vectors: Any) -> None:
        self.path.mkdir(parents=True)
        parameters = vectors or edge.EdgeVectorParams(size=DIMENSION, distance=edge.Distance.Dot)
        edge.EdgeShard.create(str(self.path), edge.EdgeConfig(vectors=parameters)).close()

    @contextmanager
    def opened(self) -> Iterator[Any]:
        shard = edge.EdgeShard.load(str(self.path))
        try:
            yield shard
        finally:
            shard.flush()
            shard.close()

    def upsert(self, *points: Any) -> None:
        with self.opened() as shard:
            shard.update(edge.UpdateOperation.upsert_points(list(points)))

    def do(self, operation: Any) -> None:
        with self.opened() as shard:
            shard.update(operation)

    def optimize(self) -> None:
        with self.opened() as shard:
            shard.optimize()

    @property
    def source(self) -> EdgeSource:
        return EdgeSource(self.path, "docs", lambda: next(self._ids))

    @property
    def target(self) -> EdgeTarget:
        return EdgeTarget(self.path, lambda: next(self._ids))

    def backup(self, compare: Literal["changes", "scan", "nothing"] = "changes") -> BackupReport:
        self.driver.clock.sleep(1)
        report = backup.run(
            self.source,
            self.driver.open(),
            options=BackupOptions(compare=compare),
            clock=self.driver.clock,
            random_bytes=self.driver.random_bytes,
        )
        self.driver.expected[report.snapshot.id] = self.states()
        return report

    def restore(self, selector: str, *, existing: Literal["refuse", "replace"] = "refuse") -> RestoreReport:
        repository, target = self.driver.open(), self.target
        snapshot = self.driver.catalog().find(selector)
        plan = restore.plan(snapshot, target, options=RestoreOptions(existing=existing))
        return restore.apply(plan, repository, target, clock=self.driver.clock)

    def states(self) -> States:
        with self.source.hold() as view:
            schema = view.describe("docs").schema
            return {"docs": state_of(view.scan("docs", batch_rows=columns.BATCH_ROWS), schema)}

    @property
    def state(self) -> State:
        return self.states()["docs"]


def point(number: int, *, turn: int = 0, payload: dict[str, Any] | None = None) -> Any:
    vector = np.random.default_rng([number, turn]).standard_normal(DIMENSION).astype(np.float32)
    return edge.Point(number, vector.tolist(), {"n": number} if payload is None else payload)


@pytest.fixture
def shard(driver: Driver, tmp_path: Path) -> Shard:
    made = Shard(driver, tmp_path / "shard")
    made.create()
    made.upsert(*[point(each) for each in range(300)])
    return made


COMPARE: list[Literal["changes", "scan"]] = ["changes", "scan"]


@pytest.mark.parametrize("compare", COMPARE)
def test_an_unchanged_shard_adds_one_snapshot(shard: Shard, compare: Literal["changes", "scan"]) -> None:
    shard.backup()
    before = set(shard.driver.stored_keys())

    report = shard.backup(compare)

    assert set(shard.driver.stored_keys()) - before == {layout.snapshot_key(report.snapshot.id)}
    shard.driver.assert_sound()


@pytest.mark.parametrize("compare", COMPARE)
def test_an_optimizer_run_that_changes_no_record_adds_nothing(
    shard: Shard, compare: Literal["changes", "scan"]
) -> None:
    shard.do(edge.UpdateOperation.delete_points(list(range(0, 300, 3))))
    shard.backup()
    files = {path: path.stat().st_mtime_ns for path in shard.path.rglob("*") if path.is_file()}
    before = set(shard.driver.stored_keys())
    shard.optimize()
    assert files != {path: path.stat().st_mtime_ns for path in shard.path.rglob("*") if path.is_file()}

    report = shard.backup(compare)

    assert set(shard.driver.stored_keys()) - before == {layout.snapshot_key(report.snapshot.id)}
    assert report.snapshot.collections[0].changes.total == 0
    shard.driver.assert_sound()


@pytest.mark.parametrize("compare", COMPARE)
def test_a_payload_update_stores_no_vector(shard: Shard, compare: Literal["changes", "scan"]) -> None:
    shard.backup()
    shard.do(edge.UpdateOperation.set_payload([1, 2, 3], {"seen": True}))

    report = shard.backup(compare)

    [entry] = report.snapshot.collections
    assert [segment.vectors for segment in entry.runs[-1]] == [{}]
    assert (entry.changes.added, entry.changes.changed, entry.changes.removed) == (0, 3, 0)
    shard.driver.assert_sound()


def changes() -> list[tuple[str, Callable[[Any], Any]]]:
    operation = edge.UpdateOperation
    return [
        ("upsert", lambda turn: operation.upsert_points([point(turn % 7, turn=turn), point(1000 + turn)])),
        ("delete", lambda turn: operation.delete_points([turn % 300, 1000 + turn - 1])),
        ("payload", lambda turn: operation.set_payload([turn % 50], {"turn": turn})),
        ("overwrite", lambda turn: operation.overwrite_payload([turn % 50], {"only": turn})),
        ("clear", lambda turn: operation.clear_payload([turn % 40])),
        ("same again", lambda _: operation.upsert_points([point(250)])),
        ("no vector", lambda turn: operation.delete_vectors([turn % 300], [""])),
    ]


def test_backups_by_version_see_every_kind_of_change(shard: Shard) -> None:
    """After each change, a backup by the engine's versions equals the shard as it is."""
    shard.backup()
    for turn, (name, make) in enumerate(itertools.islice(itertools.cycle(changes()), 21)):
        shard.do(make(turn))
        if turn % 5 == 4:
            shard.optimize()
        live = shard.state

        report = shard.backup()

        assert shard.driver.stored(report.snapshot)["docs"] == live, name
    shard.driver.assert_sound()


def test_a_shard_that_was_made_anew_is_not_taken_for_its_predecessor(shard: Shard) -> None:
    """The engine counts operations anew; a record may reach the version that it had before."""
    shard.do(edge.UpdateOperation.set_payload([5], {"n": 5, "final": True}))
    for turn in range(4):
        shard.do(edge.UpdateOperation.set_payload([6], {"turn": turn}))
    shard.do(edge.UpdateOperation.overwrite_payload([7], {"n": 7, "last": True}))
    shard.backup()
    numbers = versions_of(shard)
    state = shard.state
    points = points_of(shard)
    shutil.rmtree(shard.path)
    shard.create()
    shard.upsert(*points)
    assert shard.state == state
    shard.backup()
    while versions_of(shard)[7] < numbers[7]:
        shard.do(edge.UpdateOperation.set_payload([7], {"count": versions_of(shard)[7]}))
    assert versions_of(shard)[7] == numbers[7]

    report = shard.backup()

    assert report.snapshot.collections[0].changes.changed == 1
    shard.driver.assert_sound()


def versions_of(shard: Shard) -> dict[int, int]:
    with shard.opened() as opened:
        limit = opened.count(edge.CountRequest(exact=True))
        query = edge.Query.Nearest([1.0] * DIMENSION)
        found = opened.query(
            edge.QueryRequest(limit=limit, query=query, params=edge.SearchParams(exact=True))
        )
        return {each.id: each.version for each in found}


def points_of(shard: Shard) -> list[Any]:
    with shard.opened() as opened:
        records, _ = opened.scroll(edge.ScrollRequest(limit=10_000, with_payload=True, with_vector=True))
        return [edge.Point(each.id, each.vector, each.payload) for each in records]


def test_a_restored_shard_is_incremental_again_and_exact(shard: Shard) -> None:
    first = shard.backup()
    shard.do(edge.UpdateOperation.delete_points(list(range(100))))
    shard.backup()

    report = shard.restore(first.snapshot.id, existing="replace")

    [done] = report.collections
    assert done.fingerprint == first.snapshot.collections[0].fingerprint
    assert {"docs": shard.state} == shard.driver.expected[first.snapshot.id]
    for turn in range(12):
        shard.do(edge.UpdateOperation.set_payload([turn % 3], {"turn": turn}))
        shard.backup()
    shard.driver.assert_sound()


def test_a_copy_of_the_directory_that_was_put_back_is_noticed(shard: Shard, tmp_path: Path) -> None:
    shard.backup()
    shutil.copytree(shard.path, tmp_path / "copy")
    shard.do(edge.UpdateOperation.set_payload([5], {"lost": True}))
    shard.backup()
    shutil.rmtree(shard.path)
    shutil.copytree(tmp_path / "copy", shard.path)
    shard.do(edge.UpdateOperation.set_payload([6], {"kept": True}))

    shard.backup()

    shard.driver.assert_sound()


def test_every_id_and_payload_comes_back_through_a_real_engine(driver: Driver, tmp_path: Path) -> None:
    shard = Shard(driver, tmp_path / "shard")
    shard.create()
    ids = [0, 1, 2**53 + 1, 2**63, 2**64 - 1, UUID(int=0), UUID(int=2**128 - 1)]
    ids += [UUID(int=each) for each in range(7, 7 + len(PAYLOADS))]
    vector = [0.5] * DIMENSION
    payloads = [*PAYLOADS.values(), *[{"n": each} for each in range(7)]]
    shard.upsert(*[edge.Point(each, vector, payload) for each, payload in zip(ids, payloads, strict=True)])
    shard.upsert(edge.Point(99, {}, {"no": "vector"}))
    expected = shard.state
    shard.backup()

    other = Shard(driver, tmp_path / "restored")
    report = other.restore("latest")

    assert report.collections[0].is_match
    assert report.collections[0].adapted_count == 0
    assert other.state == expected
    assert len(expected) == len(ids) + 1


def test_verify_sees_each_difference_of_a_shard(shard: Shard) -> None:
    snapshot = shard.backup().snapshot
    assert verify.against(shard.driver.open(), snapshot, shard.source).is_sound
    shard.upsert(point(5, turn=1))

    report = verify.against(shard.driver.open(), snapshot, shard.source)

    assert [check.changes.changed for check in report.collections] == [1]
