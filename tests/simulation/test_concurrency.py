"""Several processes' worth of verbs in one repository at once lose nothing."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recollect.clock import Clock, ManualClock, SystemClock
from recollect.engines.memory import MemoryEngine
from recollect.errors import ConflictError, LeaseHeldError, NotFoundError
from recollect.operations import prune
from recollect.operations.backup import BackupOptions
from recollect.repository import layout
from recollect.repository.lease import FENCE_TTL_S, LEASE_TTL_S
from recollect.storage.base import ObjectStore
from recollect.storage.local import LocalStore
from recollect.storage.memory import MemoryStore
from recollect.testing.driver import Driver
from recollect.testing.gate import GatedStore
from recollect.testing.records import Row
from recollect.testing.strategies import SOME_VECTORS


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return MemoryStore() if request.param == "memory" else LocalStore(tmp_path / "repository")


def driver_on(store: ObjectStore, name: str, *, clock: Clock | None = None, seed: int = 1) -> Driver:
    """Return a driver with an engine of its own and ten records."""
    driver = Driver(store, engine=MemoryEngine(name), clock=clock or WallClock(), seed=seed)
    driver.create("c", SOME_VECTORS, [Row(id=each, payload={"of": name, "n": each}) for each in range(10)])
    return driver


class WallClock(SystemClock):
    """Real time, for threads that wait for each other; every wait is cut short, and the first one tells."""

    def __init__(self) -> None:
        self.waits = threading.Event()

    def sleep(self, seconds: float) -> None:
        if seconds > 1:  # a poll, not the driver's pause between two backups
            self.waits.set()
        super().sleep(min(seconds, 0.002))


def snapshot_keys(store: ObjectStore) -> list[str]:
    return [item.key for item in store.list(layout.SNAPSHOTS)]


def objects(store: ObjectStore) -> set[str]:
    return {item.key for item in store.list(layout.OBJECTS)}


# ---------------------------------------------------------------- all at once


@pytest.mark.parametrize("same_source", [True, False])
def test_backups_at_once_are_all_committed_and_restore(store: ObjectStore, same_source: bool) -> None:  # noqa: FBT001
    drivers = [driver_on(store, "one" if same_source else f"engine {seed}", seed=seed) for seed in range(4)]
    drivers[0].init()
    start = threading.Barrier(len(drivers))

    def back_up(driver: Driver) -> None:
        start.wait(30)
        for turn in range(3):
            driver.upsert("c", [Row(id=turn, payload={"seed": str(driver.engine.info()), "turn": turn})])
            report = driver.backup()
            driver.expected[report.snapshot.id] = driver.live()

    with ThreadPoolExecutor(len(drivers)) as threads:
        list(threads.map(back_up, drivers))

    assert len(snapshot_keys(store)) == 12
    for driver in drivers:
        others = {
            key: value for each in drivers for key, value in each.expected.items() if each is not driver
        }
        driver.expected = others | driver.expected
    drivers[0].assert_sound()
    assert not list(store.list(layout.LEASES))


def test_backups_prunes_forgets_and_tags_at_once_lose_nothing(store: ObjectStore) -> None:
    writers = [driver_on(store, f"engine {seed}", seed=seed) for seed in range(2)]
    writers[0].init()
    pruner = Driver(store, clock=WallClock(), seed=50)
    done = threading.Event()

    def write(driver: Driver) -> None:
        for turn in range(6):
            driver.upsert("c", [Row(id=100 + turn, payload={"turn": turn})])
            kept = driver.backup().snapshot.id
            driver.expected = {
                identity: state for identity, state in driver.expected.items() if identity == kept
            }
            driver.expected[kept] = driver.live()
            driver.catalog().tag(kept, add=[f"turn{turn}"])
            own = [each for each in driver.catalog().ids() if each in made[driver.engine.info().url]]
            for old in own:
                driver.forget(old)
            made[driver.engine.info().url] = {kept}

    made: dict[str, set[str]] = {driver.engine.info().url: set() for driver in writers}

    def prune_on() -> int:
        count = 0
        while not done.is_set():
            with contextlib.suppress(ConflictError, NotFoundError):  # a forget came in between
                pruner.prune()
                count += 1
        return count

    with ThreadPoolExecutor(3) as threads:
        pruning = threads.submit(prune_on)
        writing = [threads.submit(write, driver) for driver in writers]
        for each in writing:
            each.result()
        done.set()
        assert pruning.result() > 0

    assert len(snapshot_keys(store)) == 2
    judge = Driver(store, seed=99)
    judge.expected = writers[0].expected | writers[1].expected
    judge.prune()
    judge.assert_sound()


def test_two_prunes_at_once_delete_the_garbage_and_nothing_else(store: ObjectStore) -> None:
    driver = driver_on(store, "one")
    driver.init()
    driver.backup()
    driver.upsert("c", [Row(id=1, payload={"new": 1})])
    kept = driver.backup(BackupOptions(compare="nothing")).snapshot
    driver.forget(driver.catalog().ids()[0])
    needed = {layout.object_key(each.digest) for each in kept.objects()}
    pruners = [Driver(store, clock=WallClock(), seed=seed) for seed in (7, 8)]
    gate = GatedStore(store, lambda name, key: name == "delete" and key.startswith(layout.OBJECTS))

    with gate.held(lambda: pruners[0].prune(through=gate)) as first:
        pruners[1].prune()
    first.result()

    assert objects(store) == needed
    assert not list(store.list(layout.FENCES))
    driver.assert_sound()


# ---------------------------------------------------------------- one is held where it hurts


def test_a_backup_waits_while_a_prune_deletes(store: ObjectStore) -> None:
    patient = WallClock()
    driver = driver_on(store, "one", clock=patient)
    driver.init()
    driver.backup()
    garbage = objects(store)
    driver.forget("latest")
    pruner = Driver(store, clock=WallClock(), seed=7)
    gate = GatedStore(store, lambda name, key: name == "delete" and key.startswith(layout.OBJECTS))

    with ThreadPoolExecutor(1) as threads:
        with gate.held(lambda: pruner.prune(through=gate)) as pruning:
            backing_up = threads.submit(driver.backup)  # it needs exactly the objects that are being deleted
            assert patient.waits.wait(30)
            assert not backing_up.done()
            assert not list(store.list(layout.LEASES)), "who waits holds nothing that a prune would wait for"
            assert objects(store) == garbage
            assert snapshot_keys(store) == []
        pruning.result()
        backing_up.result()

    driver.assert_sound()


def test_a_backup_that_may_not_wait_is_refused_while_a_prune_deletes(store: ObjectStore) -> None:
    driver = driver_on(store, "one")
    driver.init()
    driver.backup()
    driver.forget("latest")
    pruner = Driver(store, clock=WallClock(), seed=7)
    gate = GatedStore(store, lambda name, key: name == "delete" and key.startswith(layout.OBJECTS))

    with gate.held(lambda: pruner.prune(through=gate)) as pruning:
        with pytest.raises(LeaseHeldError, match="a garbage collection holds"):
            driver.backup(BackupOptions(wait_s=0))
        assert snapshot_keys(store) == []
    pruning.result()

    driver.backup()
    driver.assert_sound()


@pytest.mark.parametrize("stopped_at", ["the first object", "the snapshot", "the end"])
def test_a_prune_waits_for_a_backup_that_has_stored_but_not_committed(
    store: ObjectStore, stopped_at: str
) -> None:
    driver = driver_on(store, "one")
    driver.init()
    points = {"the first object": layout.OBJECTS, "the snapshot": layout.SNAPSHOTS, "the end": layout.LEASES}
    operation = "delete" if stopped_at == "the end" else "put_if_absent"
    gate = GatedStore(store, lambda name, key: name == operation and key.startswith(points[stopped_at]))
    patient = WallClock()
    pruner = Driver(store, clock=patient, seed=7)

    with ThreadPoolExecutor(1) as threads:
        with gate.held(lambda: driver.backup(through=gate)) as backing_up:
            before = objects(store)
            pruning = threads.submit(pruner.prune)
            assert patient.waits.wait(30)
            assert not pruning.done()
            assert objects(store) == before
        report = backing_up.result()
        assert pruning.result().deleted_count == 0

    assert driver.catalog().ids() == [report.snapshot.id]
    driver.assert_sound()


def test_a_prune_that_may_not_wait_is_refused_and_deletes_nothing(store: ObjectStore) -> None:
    driver = driver_on(store, "one")
    driver.init()
    gate = GatedStore(store, lambda name, key: name == "put_if_absent" and key.startswith(layout.SNAPSHOTS))

    with gate.held(lambda: driver.backup(through=gate)) as backing_up:
        plan = prune.plan(driver.open())
        assert plan.garbage, "what the backup has stored is not listed yet"
        with pytest.raises(LeaseHeldError, match="another process holds"):
            prune.apply(plan, driver.open(), clock=SystemClock(), random_bytes=driver.random_bytes, wait_s=0)
    backing_up.result()

    driver.assert_sound()


# ---------------------------------------------------------------- paused for longer than anyone waits


@pytest.mark.parametrize("operation", ["put_if_absent", "size"])
def test_a_backup_that_was_paused_until_it_was_given_up_commits_nothing(
    store: ObjectStore, operation: str
) -> None:
    """Paused right before the snapshot, after or before it asked whether it still holds its lease."""
    driver = driver_on(store, "one")
    driver.init()
    kinds = {"put_if_absent": layout.SNAPSHOTS, "size": layout.LEASES}
    gate = GatedStore(store, lambda name, key: name == operation and key.startswith(kinds[operation]))
    later = ManualClock()
    pruner = Driver(store, clock=later, seed=7)

    with gate.held(lambda: driver.backup(through=gate)) as backing_up:
        assert objects(store)
        pruner.prune()
        assert later.monotonic() >= LEASE_TTL_S
        assert not objects(store)

    with pytest.raises(ConflictError, match="revoked"):
        backing_up.result()
    assert snapshot_keys(store) == []
    driver.backup()
    driver.assert_sound()


def test_a_backup_whose_lease_is_lost_while_its_snapshot_is_written_takes_it_back(store: ObjectStore) -> None:
    """The collector has marked before the snapshot came, and deletes after it: nobody may rely on it."""
    driver = driver_on(store, "one")
    driver.init()
    pruner = Driver(store, clock=ManualClock(), seed=7)
    before_commit = GatedStore(
        store, lambda name, key: name == "put_if_absent" and key.startswith(layout.SNAPSHOTS)
    )
    deleting = GatedStore(store, lambda name, key: name == "delete" and key.startswith(layout.OBJECTS))

    with before_commit.held(lambda: driver.backup(through=before_commit)) as backing_up:
        collecting = deleting.held(lambda: pruner.prune(through=deleting))
        pruning = collecting.__enter__()
    with pytest.raises(ConflictError, match="revoked"):
        backing_up.result()
    collecting.__exit__(None, None, None)
    pruning.result()

    assert snapshot_keys(store) == []
    driver.backup()
    driver.assert_sound()


def test_a_prune_that_was_paused_until_it_was_given_up_deletes_no_more(store: ObjectStore) -> None:
    """A backup has revoked the fence and relies on objects that the prune had on its list."""
    driver = driver_on(store, "one")
    driver.init()
    driver.create("d", SOME_VECTORS, [Row(id=each, payload={"text": "x" * each}) for each in range(20)])
    driver.backup()
    driver.forget("latest")
    later = ManualClock()
    copy = Driver(store, engine=driver.engine, clock=later, seed=9)
    pruner = Driver(store, clock=WallClock(), seed=7)
    asked = []

    def second_check(name: str, key: str) -> bool:
        if name == "size" and key.startswith(layout.FENCES):
            asked.append(key)
        return len(asked) == 2

    gate = GatedStore(store, second_check)
    with gate.held(lambda: pruner.prune(through=gate)) as pruning:
        report = copy.backup()
        assert later.monotonic() >= FENCE_TTL_S

    with pytest.raises(ConflictError, match="revoked"):
        pruning.result()
    assert copy.catalog().ids() == [report.snapshot.id]
    copy.assert_sound()
