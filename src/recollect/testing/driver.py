"""A repository and an engine, driven through the verbs with manual time and seeded chance.

For tests and simulations: short to call, deterministic, and with a dictionary model of every
snapshot that was committed, so that "still restorable, bit for bit" is one call::

    driver = Driver()
    driver.create("docs", schema, rows)
    driver.backup()
    driver.assert_sound()
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import numpy as np

from recollect.catalog.catalog import Catalog
from recollect.clock import Clock, ManualClock
from recollect.engines.memory import MemoryEngine
from recollect.operations import backup, forget, prune, restore, verify
from recollect.operations.backup import BackupOptions, BackupReport
from recollect.operations.restore import RestoreOptions, RestoreReport
from recollect.operations.verify import Share, VerifyOptions, VerifyReport
from recollect.repository.garbage import SweepReport
from recollect.repository.repository import Repository, create_repository, open_repository
from recollect.segments.reader import RunsReader
from recollect.storage.base import ObjectStore
from recollect.storage.memory import MemoryStore
from recollect.testing.model import State, state_of
from recollect.testing.records import Row, build_records
from recollect.values import batch as columns
from recollect.values.key import RecordId, encode_keys
from recollect.values.schema import CollectionSchema
from recollect.values.snapshot import Snapshot
from recollect.values.ulid import RandomBytes

States = dict[str, State]
"""All collections of an engine or a snapshot, by name."""

DEFAULTS = BackupOptions()
EVERYTHING = RestoreOptions()


def seeded_bytes(seed: int) -> RandomBytes:
    """Return a source of random bytes that is the same for the same seed. One thread at a time."""
    return np.random.default_rng(seed).bytes


class Driver:
    """One engine, one store with a repository, and what every verb needs. One thread at a time.

    Every verb opens the repository anew, as a process of its own would, and takes another
    store than the usual one, a faulty one for example, as `through`.

    Attributes:
        expected: The collections of each snapshot that this driver saw committed, by id.
    """

    def __init__(
        self,
        store: ObjectStore | None = None,
        *,
        engine: MemoryEngine | None = None,
        clock: Clock | None = None,
        seed: int = 1,
    ) -> None:
        self.store: ObjectStore = MemoryStore() if store is None else store
        self.engine = MemoryEngine("driven") if engine is None else engine
        self.clock: Clock = ManualClock() if clock is None else clock
        self.random_bytes = seeded_bytes(seed)
        self.expected: dict[str, States] = {}

    def fork(self, *, seed: int = 2) -> Driver:
        """Return a driver of a copy of the store, as another process that comes later would see it.

        The engine is shared; the store must be a `MemoryStore`, and stays as it is.
        """
        copy = MemoryStore(self.store.url)
        for item in self.store.list(""):
            copy.put(item.key, self.store.get(item.key))
        clock = ManualClock(self.clock.now() + timedelta(minutes=1))
        forked = Driver(copy, engine=self.engine, clock=clock, seed=seed)
        forked.expected = dict(self.expected)
        return forked

    def init(self, *, through: ObjectStore | None = None) -> Repository:
        """Make the store a repository."""
        return create_repository(through or self.store, now=self.clock.now(), random_bytes=self.random_bytes)

    def open(self, through: ObjectStore | None = None) -> Repository:
        """Open the repository."""
        return open_repository(through or self.store)

    def catalog(self) -> Catalog:
        """Open the repository's catalog."""
        return Catalog(self.open())

    def stored_keys(self) -> list[str]:
        """List all keys of the store."""
        return [item.key for item in self.store.list("")]

    def create(self, name: str, schema: CollectionSchema, rows: Iterable[Row] = ()) -> None:
        """Create a collection of the engine, or replace it, with these records."""
        self.engine.create(name, schema)
        self.upsert(name, rows)

    def upsert(self, name: str, rows: Iterable[Row]) -> None:
        """Write records of the engine over those with the same ids."""
        schema = self.schema(name)
        self.engine.upsert(name, build_records(schema, rows))

    def delete(self, name: str, ids: Iterable[RecordId]) -> None:
        """Remove records of the engine."""
        self.engine.delete(name, encode_keys(list(ids)))

    def schema(self, name: str) -> CollectionSchema:
        """Return the schema of a collection of the engine."""
        with self.engine.hold() as view:
            return view.describe(name).schema

    def live(self) -> States:
        """Return what the engine holds now."""
        return read_engine(self.engine)

    def backup(
        self, options: BackupOptions = DEFAULTS, *, through: ObjectStore | None = None
    ) -> BackupReport:
        """Back the engine up; a second passes first, so that every snapshot has its own time."""
        self.clock.sleep(1)
        report = backup.run(
            self.engine,
            self.open(through),
            options=options,
            clock=self.clock,
            random_bytes=self.random_bytes,
        )
        live = self.live()
        self.expected[report.snapshot.id] = {
            entry.name: live[entry.name] for entry in report.snapshot.collections
        }
        return report

    def note_commits(self) -> list[str]:
        """Remember what snapshots of backups that did not return must hold, and return their ids.

        For a repository that nobody else writes to: they hold what the engine holds now.
        """
        live, catalog = self.live(), self.catalog()
        fresh = [identity for identity in catalog.ids() if identity not in self.expected]
        for identity in fresh:
            names = [entry.name for entry in catalog.read(identity).collections]
            self.expected[identity] = {name: live[name] for name in names}
        return fresh

    def forget(self, *selectors: str, through: ObjectStore | None = None) -> int:
        """Forget these snapshots."""
        catalog = Catalog(self.open(through))
        return forget.apply(forget.plan_selected(catalog, selectors), catalog)

    def prune(self, *, through: ObjectStore | None = None) -> SweepReport:
        """Delete what no snapshot needs."""
        repository = self.open(through)
        plan = prune.plan(repository)
        return prune.apply(plan, repository, clock=self.clock, random_bytes=self.random_bytes)

    def verify(self, selector: str = "", *, share: Share | None = Share()) -> VerifyReport:  # noqa: B008
        """Verify the repository or one snapshot, to the last record by default."""
        return verify.run(self.open(), options=VerifyOptions(snapshot=selector, share=share))

    def restore(
        self, selector: str, target: MemoryEngine, options: RestoreOptions = EVERYTHING
    ) -> RestoreReport:
        """Restore a snapshot into an engine."""
        repository = self.open()
        plan = restore.plan(Catalog(repository).find(selector), target, options=options)
        return restore.apply(plan, repository, target, clock=self.clock)

    def restored(self, selector: str) -> States:
        """Restore a snapshot into a fresh engine and return what that holds."""
        target = MemoryEngine()
        self.restore(selector, target)
        return read_engine(target)

    def stored(self, snapshot: Snapshot) -> States:
        """Read a snapshot's collections from its segments, without a restore."""
        repository = self.open()
        return {
            entry.name: state_of(RunsReader(repository, entry.schema, entry.runs).records(), entry.schema)
            for entry in snapshot.collections
        }

    def assert_sound(self) -> None:
        """Make sure that every snapshot in the catalog verifies to the last record and restores exactly."""
        assert self.verify().is_sound, self.verify().problems
        for identity in self.catalog().ids():
            report = self.verify(identity)
            assert report.is_sound, report
            assert self.restored(identity) == self.expected[identity], (
                f"{identity} restores as something else"
            )


def read_engine(engine: MemoryEngine) -> States:
    """Return what an engine holds now."""
    with engine.hold() as view:
        return {
            name: state_of(view.scan(name, batch_rows=columns.BATCH_ROWS), view.describe(name).schema)
            for name in view.collections()
        }
