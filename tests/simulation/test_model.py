"""Any sequence of changes, backups, crashes, forgets, prunes, tags and restores, against dictionaries."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from recollect.engines.memory import MemoryEngine
from recollect.operations.backup import BackupOptions
from recollect.operations.restore import RestoreOptions
from recollect.policy.compaction import CompactionLimits
from recollect.repository import layout
from recollect.testing.driver import Driver, States, read_engine
from recollect.testing.faults import Effect, Fault, FaultPlan, Moment, attempt
from recollect.testing.records import Row
from recollect.testing.strategies import SOME_VECTORS, histories

NAMES = st.sampled_from(["docs", "more"])
STATE = histories(max_states=1).map(lambda found: found[0])
COMPARE: Any = st.sampled_from(["changes", "scan", "nothing"])
TAGS = st.sampled_from(["a", "b", "c"])


class Repository(RuleBasedStateMachine):
    """The model: what every snapshot in the catalog must hold, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.tags: dict[str, set[str]] = {}

    @property
    def ids(self) -> list[str]:
        return sorted(self.tags)

    @initialize(rows=STATE)
    def begin(self, rows: list[Row]) -> None:
        self.driver.init()
        self.driver.create("docs", SOME_VECTORS, rows)

    # ------------------------------------------------------------ the source changes

    @rule(name=NAMES, rows=STATE)
    def replace_collection(self, name: str, rows: list[Row]) -> None:
        self.driver.create(name, SOME_VECTORS, rows)

    @rule(rows=STATE)
    def upsert(self, rows: list[Row]) -> None:
        self.driver.upsert("docs", rows)

    @rule(rows=STATE)
    def delete(self, rows: list[Row]) -> None:
        self.driver.delete("docs", [row.id for row in rows])

    @rule()
    def drop_collection(self) -> None:
        self.driver.engine.drop("more")

    # ------------------------------------------------------------ verbs

    @rule(compare=COMPARE, tags=st.frozensets(TAGS, max_size=2), runs_max=st.integers(2, 4))
    def back_up(
        self, compare: Literal["changes", "scan", "nothing"], tags: frozenset[str], runs_max: int
    ) -> None:
        limits = CompactionLimits(runs_max=runs_max, delta_share_max=9.0)
        options = BackupOptions(compare=compare, tags=tuple(tags), limits=limits)
        before = self.driver.stored_keys()

        report = self.driver.backup(options)

        added = set(self.driver.stored_keys()) - set(before)
        changed = sum(entry.changes.total for entry in report.snapshot.collections)
        if compare != "nothing" and not changed and all(entry.runs for entry in report.snapshot.collections):
            assert len([key for key in added if key.startswith(layout.SNAPSHOTS)]) == 1
        self.tags[report.snapshot.id] = set(tags)

    @rule(
        at=st.integers(1, 12),
        moment=st.sampled_from(["before", "after"]),
        effect=st.sampled_from(["fail", "crash"]),
    )
    def back_up_and_die(self, at: int, moment: Moment, effect: Effect) -> None:
        plan = FaultPlan(faults=(Fault(at=at, effect=effect, moment=moment),))
        attempt(lambda store: self.driver.backup(through=store), self.driver.store, plan)
        for identity in set(self.driver.catalog().ids()) - set(self.tags):
            self.tags[identity] = set()
        self.driver.note_commits()

    @precondition(lambda self: self.tags)
    @rule(data=st.data(), add=st.frozensets(TAGS), remove=st.frozensets(TAGS))
    def tag(self, data: st.DataObject, add: frozenset[str], remove: frozenset[str]) -> None:
        identity = data.draw(st.sampled_from(self.ids))
        self.driver.catalog().tag(identity, add=add, remove=remove)
        self.tags[identity] = (self.tags[identity] | add) - remove

    @precondition(lambda self: self.tags)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.ids), min_size=1, max_size=3, unique=True))
        assert self.driver.forget(*chosen) == len(chosen)
        for identity in chosen:
            del self.tags[identity]

    @rule()
    def prune(self) -> None:
        self.driver.prune()

        listed = {each.digest for snapshot in self.driver.catalog().list() for each in snapshot.objects()}
        objects = {item.key for item in self.driver.open().list_objects()}
        assert objects == {layout.object_key(digest) for digest in listed}
        assert not list(self.driver.store.list(layout.LEASES))

    @rule(at=st.integers(1, 8), effect=st.sampled_from(["fail", "crash"]))
    def prune_and_die(self, at: int, effect: Effect) -> None:
        plan = FaultPlan(faults=(Fault(at=at, effect=effect, moment="after"),))
        attempt(lambda store: self.driver.prune(through=store), self.driver.store, plan)

    # ------------------------------------------------------------ what must hold

    @precondition(lambda self: self.tags)
    @rule(data=st.data())
    def restore_one_into_the_live_engine(self, data: st.DataObject) -> None:
        identity = data.draw(st.sampled_from(self.ids))
        before = self.driver.live()
        self.driver.restore(identity, self.driver.engine, RestoreOptions(existing="replace"))
        assert self.driver.live() == {**before, **self.driver.expected[identity]}

    @precondition(lambda self: self.tags)
    @rule()
    def verify_everything(self) -> None:
        assert self.driver.verify().is_sound
        for identity in self.ids:
            assert self.driver.verify(identity).is_sound

    @invariant()
    def the_catalog_has_exactly_the_snapshots_of_the_model(self) -> None:
        if not self.driver.stored_keys():
            return
        listed = self.driver.catalog().list()
        assert {snapshot.id: set(snapshot.tags) for snapshot in listed} == self.tags

    @invariant()
    def the_newest_snapshot_restores_exactly(self) -> None:
        if self.tags:
            assert self.restored(self.ids[-1]) == self.driver.expected[self.ids[-1]]

    def teardown(self) -> None:
        if self.driver.stored_keys():
            self.driver.assert_sound()

    def restored(self, identity: str) -> States:
        target = MemoryEngine()
        self.driver.restore(identity, target)
        return read_engine(target)


class RepositoryAtLength(Repository):
    """The same for longer."""


TestRepository = Repository.TestCase
TestRepository.settings = settings(max_examples=12, stateful_step_count=20)

TestRepositoryAtLength = pytest.mark.slow(pytest.mark.timeout(900)(RepositoryAtLength.TestCase))
TestRepositoryAtLength.settings = settings(max_examples=150, stateful_step_count=40)
