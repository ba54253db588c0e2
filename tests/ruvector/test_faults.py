"""Whatever the store or the disk does, every listed snapshot restores, and nothing is half there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recollect.clock import ManualClock
from recollect.compat.ruvector import SnapshotManager
from recollect.compat.ruvector.files.index_file import GraphParameters, StoredGraph
from recollect.compat.ruvector.graph import GraphFile
from recollect.database import Database
from recollect.errors import (
    ConflictError,
    IntegrityError,
    RecollectError,
    StorageFullError,
    UnavailableError,
)
from recollect.storage.base import ObjectStore
from recollect.storage.local import LocalStore
from recollect.storage.memory import MemoryStore
from recollect.testing.damage import damaged, every_damage
from recollect.testing.faults import (
    OPERATIONS,
    Fault,
    FaultPlan,
    FaultyStore,
    SimulatedCrash,
    attempt,
    count_operations,
    fault_plans,
)
from tests.ruvector.samples import change, content, run

MakeManager = Callable[..., SnapshotManager]
Verb = Callable[[ObjectStore], Any]


class Scene:
    """A database with a history, and a store that holds a base and an increment of it."""

    def __init__(self, database: Database, make_manager: MakeManager) -> None:
        self.database = database
        self.make_manager = make_manager
        store = MemoryStore()
        manager = make_manager(store)
        self.states: dict[str, Any] = {}
        self.base = self.remember(run(manager.create_snapshot(database, "base")).id)
        change(database, 1, 5)
        self.inc = self.remember(run(manager.create_incremental_snapshot(database, "inc", self.base)).id)
        change(database, 2, 5)
        self._files = {entry.key: store.get(entry.key) for entry in store.list("")}

    def remember(self, snapshot_id: str) -> str:
        """Note what the snapshot was taken of."""
        self.states[snapshot_id] = content(self.database)
        return snapshot_id

    def store(self) -> MemoryStore:
        """Return a store as it was prepared."""
        store = MemoryStore()
        for key, data in self._files.items():
            store.put(key, data)
        return store

    def manager(self, store: ObjectStore) -> SnapshotManager:
        """Return a manager whose store operations come in one order."""
        return self.make_manager(store, max_concurrent_io=1)

    def check(self, store: ObjectStore, tmp_path: Path) -> list[str]:
        """Restore every listed snapshot; return their names, newest first."""
        manager = self.manager(store)
        listed = run(manager.list_snapshots())
        for number, snapshot in enumerate(listed):
            with run(manager.restore_snapshot(snapshot.id, tmp_path / f"check-{number}")) as restored:
                expected = self.states.get(snapshot.id, content(self.database))
                assert content(restored) == expected, snapshot.name
            _remove(tmp_path / f"check-{number}")
        return [snapshot.name for snapshot in listed]


def _remove(path: Path) -> None:
    for found in sorted(path.rglob("*"), reverse=True):
        found.rmdir() if found.is_dir() else found.unlink()
    path.rmdir()


@pytest.fixture
def scene(tmp_path: Path, make_manager: MakeManager, clock: ManualClock) -> Iterator[Scene]:
    generator = np.random.default_rng(2)
    with Database.open(tmp_path / "small", fsync="off") as database:
        rows = generator.normal(size=(40, 24)).astype(np.float32)
        database.vectors.set_many([f"id-{number}" for number in range(40)], rows, [{"n": 1}] * 40)
        scene = Scene(database, make_manager)
        clock.advance(1)  # what the tests create is newer
        yield scene


def _verbs(scene: Scene) -> dict[str, Verb]:
    manager = scene.manager
    return {
        "full": lambda store: run(manager(store).create_snapshot(scene.database, "new")),
        "incremental": lambda store: run(
            manager(store).create_incremental_snapshot(scene.database, "new", scene.inc)
        ),
        "delete": lambda store: run(manager(store).delete_snapshot(scene.inc)),
        "cleanup": lambda store: run(manager(store).cleanup_old_snapshots(0)),
    }


AFTERWARDS = {
    "full": {("inc", "base"), ("new", "inc", "base")},
    "incremental": {("inc", "base"), ("new", "inc", "base")},
    "delete": {("inc", "base"), ("base",)},
    "cleanup": {("inc", "base"), ("base",), ()},
}


@pytest.mark.parametrize("name", ["full", "incremental", "delete", "cleanup"])
def test_a_crash_or_failure_at_any_write_leaves_every_listed_snapshot_restorable(
    scene: Scene, name: str, tmp_path: Path
) -> None:
    verb = _verbs(scene)[name]
    count = count_operations(verb, scene.store())
    assert count >= 5
    seen = set()
    for plan in fault_plans(count, moments=("before", "during", "after")):
        if plan.faults[0].moment == "during" and plan.faults[0].effect == "fail":
            continue  # a store that tears a value and says so, and goes on, does not exist
        store = scene.store()
        attempt(verb, store, plan)

        names = tuple(scene.check(store, tmp_path))
        assert names in AFTERWARDS[name], plan
        seen.add(names)
    assert seen == AFTERWARDS[name]


@pytest.mark.parametrize("name", ["full", "incremental"])
def test_a_failure_at_any_read_or_write_leaves_nothing_behind(scene: Scene, name: str) -> None:
    verb = _verbs(scene)[name]
    count = count_operations(verb, scene.store(), counted=OPERATIONS)
    for plan in fault_plans(count, effects=("fail",), moments=("before",), counted=OPERATIONS):
        store = scene.store()
        before = {entry.key for entry in store.list("")}

        assert isinstance(attempt(verb, store, plan), UnavailableError), plan

        assert {entry.key for entry in store.list("")} == before, plan


def test_after_a_crash_the_next_run_works_and_debris_can_be_removed(scene: Scene, tmp_path: Path) -> None:
    verb = _verbs(scene)["full"]
    store = scene.store()
    assert isinstance(attempt(verb, store, FaultPlan(faults=(Fault(at=3, effect="crash"),))), SimulatedCrash)
    verb(store)

    gone = run(scene.manager(store).remove_unfinished())

    assert len(gone) == 1
    assert scene.check(store, tmp_path) == ["new", "inc", "base"]
    assert len({entry.key.split("/")[0] for entry in store.list("")}) == 3


@pytest.mark.parametrize("capacity", [0, 500, 4000, 6000])
def test_a_full_disk_is_reported_and_leaves_what_was_there(
    scene: Scene, tmp_path: Path, capacity: int
) -> None:
    store = scene.store()
    before = {entry.key for entry in store.list("")}
    faulty = FaultyStore(store, FaultPlan(capacity_bytes=capacity))

    with pytest.raises(StorageFullError):
        run(scene.make_manager(faulty).create_snapshot(scene.database, "new"))

    assert {entry.key for entry in store.list("")} == before
    assert scene.check(store, tmp_path) == ["inc", "base"]


def test_a_base_that_is_deleted_meanwhile_ends_the_increment_and_nothing_stays(
    scene: Scene, tmp_path: Path
) -> None:
    store = scene.store()

    class Deleting(FaultyStore):
        def put_if_absent(self, key: str, data: bytes) -> None:
            if key.endswith("metadata.json"):
                run(scene.manager(store).delete_snapshot(scene.inc))
            super().put_if_absent(key, data)

    with pytest.raises(ConflictError, match=scene.inc):
        run(scene.manager(Deleting(store)).create_incremental_snapshot(scene.database, "new", scene.inc))

    assert scene.check(store, tmp_path) == ["base"]


def test_a_dependant_that_is_committed_while_its_base_is_deleted_keeps_the_base(
    scene: Scene, tmp_path: Path
) -> None:
    store = scene.store()

    class Creating(FaultyStore):
        def delete(self, key: str) -> None:
            if not self.operations or all(one.name != "delete" for one in self.operations):
                run(scene.manager(store).create_incremental_snapshot(scene.database, "new", scene.inc))
            super().delete(key)

    with pytest.raises(ConflictError, match=scene.inc):
        run(scene.manager(Creating(store)).delete_snapshot(scene.inc))

    assert scene.check(store, tmp_path) == ["new", "inc", "base"]


def test_two_cleanups_at_once_do_not_get_in_each_others_way(scene: Scene, tmp_path: Path) -> None:
    store = scene.store()

    class Other(FaultyStore):
        def delete(self, key: str) -> None:
            if not any(one.name == "delete" for one in self.operations):
                assert run(scene.manager(store).cleanup_old_snapshots(0)) == 2
            super().delete(key)

    assert run(scene.manager(Other(store)).cleanup_old_snapshots(0)) <= 1
    assert scene.check(store, tmp_path) == []


def test_a_cleanup_leaves_a_snapshot_that_is_needed_since(scene: Scene, tmp_path: Path) -> None:
    store = scene.store()

    class Creating(FaultyStore):
        def delete(self, key: str) -> None:
            if not any(one.name == "delete" for one in self.operations):
                run(scene.manager(store).create_incremental_snapshot(scene.database, "new", scene.base))
            super().delete(key)

    assert run(scene.manager(Creating(store)).cleanup_old_snapshots(0)) == 1
    assert scene.check(store, tmp_path) == ["new", "base"]


def test_every_damage_to_any_file_is_found_and_restores_nothing(
    scene: Scene, tmp_path: Path, make_manager: MakeManager
) -> None:
    root = tmp_path / "local"
    for entry in (store := scene.store()).list(""):
        LocalStore(root).put(entry.key, store.get(entry.key))
    manager = make_manager(LocalStore(root), max_concurrent_io=1)
    tried = 0
    for damage in every_damage(root, offsets_per_file=6):
        with damaged(root, damage):
            tried += 1
            _expect_damage(manager, scene, tmp_path / "r", damage)
    assert tried > 80
    assert scene.check(LocalStore(root), tmp_path) == ["inc", "base"]


def _expect_damage(manager: SnapshotManager, scene: Scene, path: Path, damage: Any) -> None:
    owner = scene.base if scene.base in damage.path else scene.inc
    try:
        is_intact = run(manager.verify_snapshot(scene.inc))
    except RecollectError:
        is_intact = False  # not committed any more, or of another version
    assert not is_intact, damage
    if damage.path.endswith("metadata.json") and damage.kind != "delete":
        return  # JSON may stay JSON: its SHA-256 is verify's business, and the records are proven anyway
    if damage.path == f"snapshot-{scene.inc}/index.bin.gz" and damage.kind != "swap":
        return  # a restore does not need it: the graph is the base's
    with pytest.raises(RecollectError):
        run(manager.restore_snapshot(scene.inc, path)).close()
    assert not path.exists(), (damage, owner)
    assert not [*path.parent.glob(".r.*")], damage


def test_without_checksums_a_restore_still_finds_flipped_bytes(
    scene: Scene, tmp_path: Path, make_manager: MakeManager
) -> None:
    store = scene.store()
    key = f"snapshot-{scene.base}/vectors.bin.gz"
    data = bytearray(store.get(key))
    data[len(data) // 2] ^= 1
    store.put(key, bytes(data))

    with pytest.raises(IntegrityError, match=r"vectors\.bin\.gz"):
        run(make_manager(store, verify_checksum=False).restore_snapshot(scene.inc, tmp_path / "r"))


def test_a_store_that_fails_while_it_is_read_restores_nothing(scene: Scene, tmp_path: Path) -> None:
    def restore(store: ObjectStore) -> None:
        run(scene.manager(store).restore_snapshot(scene.inc, tmp_path / "r")).close()
        _remove(tmp_path / "r")

    count = count_operations(restore, scene.store(), counted=OPERATIONS)
    for plan in fault_plans(count, moments=("before",), counted=OPERATIONS):
        assert attempt(restore, scene.store(), plan) is not None, plan
        assert not (tmp_path / "r").exists()
        assert not [*tmp_path.glob(".r.*")]


def test_the_space_of_an_index_is_taken_before_it_is_filled(tmp_path: Path) -> None:
    """Filling a mapped file on a full disk would end the process by a signal."""
    parameters = GraphParameters(16, 128, 64)
    rows, beside = np.arange(1000, dtype=np.uint32), np.zeros((0, 384), dtype=np.float32)
    stored = StoredGraph(parameters, rows, beside, np.zeros(100, dtype=np.uint8))

    file = GraphFile(tmp_path / "index", stored, dimension=384)

    status = file.path.stat()
    assert 512 * status.st_blocks >= status.st_size == 8 + 1000 * 4 * 384 + 100
