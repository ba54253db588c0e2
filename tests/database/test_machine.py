"""Random histories against plain dicts: operations, checkpoints, crashes, reopenings, recoveries."""

from __future__ import annotations

import contextlib
import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from recollect.clock import ManualClock
from recollect.database import CheckpointOptions, Database, DatabaseOptions, EventOptions, LogOptions
from recollect.database.log.files import DiskFiles
from recollect.database.recovery import RecoveryTarget, data_directory_source, recover
from tests.database.faulty_files import Crash, FaultyFiles

OPTIONS = DatabaseOptions(
    log=LogOptions(segment_bytes_max=400),
    checkpoints=CheckpointOptions(commit_interval=0, keep_last=2, log_window_s=1e9),
    events=EventOptions(ctx_buffer_size=3, dedup_window_sec=0),
)

IDS = st.sampled_from(["a", "b", 1, 2])
KEYS = st.sampled_from(["k", "l", "m:n"])
AGENTS = st.sampled_from(["x", "y"])
NUMBERS = st.integers(-5, 5)


class Model:
    """What the database should hold: plain dicts and lists."""

    def __init__(self) -> None:
        self.vectors: dict[Any, tuple[list[float], Any]] = {}
        self.state: dict[tuple[str, str], list[Any]] = {}
        self.rings: dict[str, list[tuple[str, int]]] = {}
        self.weights: dict[tuple[str, str], float] = {}

    def add_event(self, context: str, item: str, score: int) -> None:
        ring = self.rings.setdefault(context, [])
        for other, value in ring:
            if other != item and value * score:
                for pair in ((item, other), (other, item)):
                    self.weights[pair] = self.weights.get(pair, 0.0) + value * score
        self.rings[context] = [*ring, (item, score)][-3:]


class Machine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="recollect-machine-"))
        self.path = self.root / "db"
        self.clock = ManualClock()
        self.model = Model()
        self.files = FaultyFiles()
        self.db = Database.open(self.path, options=OPTIONS, clock=self.clock, files=self.files, fsync="off")
        self.history = {0: copy.deepcopy(self.model), self.db.commit_ts: copy.deepcopy(self.model)}

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
            shutil.rmtree(self.root)

    def done(self) -> None:
        self.history[self.db.commit_ts] = copy.deepcopy(self.model)

    @rule(record_id=IDS, x=NUMBERS, y=NUMBERS, metadata=st.none() | st.just({"m": 1}))
    def set_vector(self, record_id: Any, x: int, y: int, metadata: Any) -> None:
        self.db.vectors.set(record_id, [x, y], metadata)
        self.model.vectors[record_id] = ([float(x), float(y)], metadata)
        self.done()

    @rule(record_id=IDS)
    def delete_vector(self, record_id: Any) -> None:
        assert self.db.vectors.delete(record_id) == (record_id in self.model.vectors)
        self.model.vectors.pop(record_id, None)
        self.done()

    @rule(agent=AGENTS, keys=st.lists(KEYS, min_size=1, max_size=3), value=NUMBERS, drop=st.booleans())
    def write_state(self, agent: str, keys: list[str], value: int, *, drop: bool) -> None:
        with self.db.begin() as transaction:
            for key in keys:
                transaction.write("ns", agent, key, value)
                self.model.state.setdefault((agent, key), []).append(value)
            if drop:
                transaction.delete("ns", agent, keys[0])
                self.model.state[agent, keys[0]].append(None)
        self.done()

    @rule(context=st.sampled_from(["c", "d"]), item=st.sampled_from(["i", "j", "k"]), score=st.integers(0, 4))
    def add_event(self, context: str, item: str, score: int) -> None:
        self.db.events.add(context, item, score, timestamp=1)
        self.model.add_event(context, item, score)
        self.done()

    @rule()
    def checkpoint(self) -> None:
        self.db.checkpoint()

    @rule()
    def reopen(self) -> None:
        self.db.close()
        self.open_again()

    @rule(kind=st.sampled_from(["crash", "torn"]), steps=st.integers(1, 4))
    def crash(self, kind: str, steps: int) -> None:
        """Die in the middle of a commit: it is there whole, or not at all."""
        self.files.kind, self.files.at = kind, self.files.count + steps
        before = self.db.commit_ts
        after = copy.deepcopy(self.model)
        for _ in range(steps):
            try:
                self.db.state.set("ns", "x", "k", 77)
                self.model.state.setdefault(("x", "k"), []).append(77)
                self.done()
                before = self.db.commit_ts
            except Crash:
                break
        after = copy.deepcopy(self.model)
        after.state.setdefault(("x", "k"), []).append(77)
        self.files.is_dead = True
        with contextlib.suppress(Crash):
            self.db.close()
        self.open_again()
        assert self.db.commit_ts in {before, before + 1}
        if self.db.commit_ts == before + 1:
            self.model = after
            self.done()

    @precondition(lambda self: len(self.history) > 2)
    @rule(data=st.data())
    def recover_elsewhere(self, data: st.DataObject) -> None:
        commit_ts = data.draw(st.sampled_from(sorted(self.history)))
        into = self.root / f"recovered-{commit_ts}"
        recover(
            data_directory_source(DiskFiles(), self.path),
            RecoveryTarget(commit_ts=commit_ts),
            into,
            files=DiskFiles(),
            clock=self.clock,
            random_bytes=np.random.default_rng(0).bytes,
        )
        with Database.open(into, read_only=True) as db:
            assert db.commit_ts == commit_ts
            check(db, self.history[commit_ts])
        shutil.rmtree(into)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        if hasattr(self, "db"):
            check(self.db, self.model)

    def open_again(self) -> None:
        self.files = FaultyFiles()
        self.db = Database.open(self.path, options=OPTIONS, clock=self.clock, files=self.files, fsync="off")


def check(db: Database, model: Model) -> None:
    """Compare everything."""
    found = {record.id: (record.vector.tolist(), record.metadata) for record in db.vectors.records()}
    assert found == model.vectors
    for (agent, key), versions in model.state.items():
        history = db.state.history("ns", agent, key)
        assert [version.value for version in history] == versions
        assert [version.version for version in history] == list(range(1, len(versions) + 1))
    for agent in ("x", "y"):
        live = sorted(
            key
            for (owner, key), versions in model.state.items()
            if owner == agent and versions[-1] is not None
        )
        assert db.state.list_keys("ns", agent) == live
    rings = {name: [(one.item, one.score) for one in db.events.events(name)] for name in db.events.contexts()}
    assert rings == model.rings
    for pair, weight in model.weights.items():
        assert db.events.weight(*pair) == weight


Machine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestMachine = Machine.TestCase
