"""What a reader has begun to read stays until it ends, or it is told why it went."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest

from recollect.catalog.catalog import Catalog
from recollect.clock import SystemClock
from recollect.engines.memory import MemoryEngine
from recollect.errors import AccessError, ConflictError, IntegrityError, LeaseHeldError
from recollect.operations import prune, restore, verify
from recollect.operations.reading import unless_forgotten
from recollect.operations.restore import RestoreOptions
from recollect.operations.verify import Share, VerifyOptions
from recollect.repository import layout
from recollect.repository.lease import hold_fence, hold_reader_lease
from recollect.storage.base import ObjectStore
from recollect.storage.memory import MemoryStore
from recollect.testing.driver import Driver, read_engine
from recollect.testing.gate import GatedStore
from recollect.testing.records import Row
from recollect.testing.strategies import SOME_VECTORS


@pytest.fixture
def driver() -> Driver:
    """Return a driver with two snapshots that share no object."""
    made = Driver()
    made.init()
    for text in ("old", "new"):
        made.create("docs", SOME_VECTORS, [Row(id=text, payload={"of": text}, vectors={"": [1.0, 2.0]})])
        made.backup()
    return made


def sweep(driver: Driver) -> None:
    """Prune without waiting for anybody."""
    repository = driver.open()
    prune.apply(
        prune.plan(repository), repository, clock=SystemClock(), random_bytes=driver.random_bytes, wait_s=0
    )


def restoring(driver: Driver, store: ObjectStore, target: MemoryEngine) -> Callable[[], object]:
    """Return what restores the first snapshot as the command does."""
    identity = driver.catalog().ids()[0]

    def restore_it() -> object:
        repository = driver.open(store)
        with hold_reader_lease(
            repository.store, purpose="restore", clock=driver.clock, random_bytes=driver.random_bytes
        ):
            catalog = Catalog(repository)
            snapshot = catalog.find(identity)
            plan = restore.plan(snapshot, target, options=RestoreOptions())
            with unless_forgotten(catalog, snapshot):
                return restore.apply(plan, repository, target, clock=driver.clock)

    return restore_it


@pytest.mark.parametrize("operation", ["get", "get_range"])
def test_what_is_being_restored_is_not_pruned(driver: Driver, operation: str) -> None:
    first, second = driver.catalog().ids()
    target = MemoryEngine()
    gate = GatedStore(driver.store, lambda name, key: name == operation and key.startswith(layout.OBJECTS))

    with gate.held(restoring(driver, gate, target)) as restored:
        driver.forget(first)
        with pytest.raises(LeaseHeldError, match=r"another process holds .*: restore"):
            sweep(driver)
    restored.result()

    assert read_engine(target) == driver.expected[first]
    sweep(driver)
    assert driver.catalog().ids() == [second]
    assert not [key for key in driver.stored_keys() if key.startswith((layout.LEASES, layout.FENCES))]
    driver.assert_sound()


def test_a_reader_waits_for_no_fence(driver: Driver) -> None:
    target = MemoryEngine()
    with hold_fence(driver.store, purpose="prune", clock=driver.clock, random_bytes=driver.random_bytes):
        restoring(driver, driver.store, target)()

    assert read_engine(target) == driver.expected[driver.catalog().ids()[0]]


def test_a_prune_that_did_not_see_the_reader_gives_up_when_its_snapshot_vanishes(driver: Driver) -> None:
    """The reader comes after the last look at the leases, and `forget` after that."""
    first, _ = driver.catalog().ids()
    target = MemoryEngine()
    is_fenced = [False]

    def stops(name: str, key: str) -> bool:
        """Stop at the second reading of snapshots, behind the fence."""
        is_fenced[0] |= name == "list" and key == layout.LEASES
        return is_fenced[0] and name == "list" and key == layout.SNAPSHOTS

    gate = GatedStore(driver.store, stops)
    objects = GatedStore(driver.store, lambda _, key: key.startswith(layout.OBJECTS))
    with gate.held(lambda: driver.prune(through=gate)) as pruned:  # noqa: SIM117 -- one after the other
        with objects.held(restoring(driver, objects, target)) as restored:
            driver.forget(first)
    with pytest.raises(ConflictError, match="vanished"):
        pruned.result()
    restored.result()

    assert read_engine(target) == driver.expected[first]


class ReadOnlyStore(MemoryStore):
    """A store whose keys cannot be written any more, as for credentials without that right."""

    def put(self, key: str, data: bytes) -> None:  # noqa: ARG002
        raise AccessError(f"writing {key} is refused")


def read_only(driver: Driver) -> ReadOnlyStore:
    store = ReadOnlyStore(driver.store.url)
    for item in driver.store.list(""):
        store.put_if_absent(item.key, driver.store.get(item.key))
    return store


def test_without_the_right_to_write_a_restore_goes_on(driver: Driver) -> None:
    target = MemoryEngine()

    restoring(driver, read_only(driver), target)()

    assert read_engine(target) == driver.expected[driver.catalog().ids()[0]]


def forget_and_delete(driver: Driver, store: ObjectStore) -> None:
    """Do what `forget --prune` would do to the first snapshot, to whom no lease can be seen."""
    catalog = Catalog(driver.open(store))
    first, second = catalog.ids()
    kept = {reference.digest for reference in catalog.read(second).objects()}
    catalog.forget(first)
    for item in list(store.list(layout.OBJECTS)):
        if layout.object_digest(item.key) not in kept:
            store.delete(item.key)


def test_a_reader_without_a_lease_is_told_that_its_snapshot_was_forgotten(driver: Driver) -> None:
    store = read_only(driver)
    target = MemoryEngine()
    gate = GatedStore(store, lambda name, key: name == "get" and key.startswith(layout.OBJECTS))

    with gate.held(restoring(driver, gate, target)) as restored:
        forget_and_delete(driver, store)

    with pytest.raises(ConflictError, match=r"was forgotten .* while it was being read"):
        restored.result()
    assert read_engine(target) == {}


def test_damage_stays_damage(driver: Driver) -> None:
    catalog = driver.catalog()
    snapshot = catalog.find("latest")

    with pytest.raises(IntegrityError), unless_forgotten(catalog, snapshot), nullcontext():
        raise IntegrityError("a byte is not what was written")


@pytest.mark.parametrize("share", [None, Share()])
def test_a_verification_reports_no_damage_of_what_was_forgotten_meanwhile(
    driver: Driver, share: Share | None
) -> None:
    first = driver.catalog().ids()[0]
    gate = GatedStore(driver.store, lambda name, key: name == "list" and key == layout.OBJECTS)

    with gate.held(lambda: verify.run(driver.open(gate), options=VerifyOptions(share=share))) as verified:
        forget_and_delete(driver, driver.store)
    assert verified.result().is_sound

    assert first not in driver.catalog().ids()


def test_a_verification_of_one_snapshot_says_that_it_was_forgotten(driver: Driver) -> None:
    first = driver.catalog().ids()[0]
    gate = GatedStore(driver.store, lambda name, key: name == "list" and key == layout.OBJECTS)
    options = VerifyOptions(snapshot=first)

    with gate.held(lambda: verify.run(driver.open(gate), options=options)) as verified:
        forget_and_delete(driver, driver.store)

    with pytest.raises(ConflictError, match=f"{first} was forgotten"):
        verified.result()
