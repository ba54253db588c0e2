from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.database import ADD, DEL, SET, Database, DatabaseOptions, Event, EventOptions
from recollect.engines.base import Source, Target
from recollect.engines.embedded import EmbeddedEngine, open_embedded_source, open_embedded_target
from recollect.errors import NotFoundError, UnsupportedError
from recollect.testing.engine_contract import EngineContract
from recollect.testing.engine_harness import EngineFeatures, EngineHarness
from recollect.values import batch as columns
from recollect.values.key import decode_keys
from recollect.values.schema import CollectionSchema


class Harness:
    """One database directory; it is opened by one engine at a time."""

    name = "docs"
    features = EngineFeatures(
        id_types=frozenset({"integer", "uuid", "string"}),
        datatypes=frozenset({"float32"}),
        vector_kinds=frozenset({"dense"}),
        absent_payload=True,
        aliases=False,
        metrics=frozenset({"cosine", "dot", "euclid"}),
        vector_count_max=1,
        absent_vectors=False,
    )

    def __init__(self, path: Path) -> None:
        self._database = Database.open(path, fsync="off")

    def open_source(self) -> Source:
        return Shared(self._database)

    def open_target(self) -> Target:
        return Shared(self._database)


class Shared(EmbeddedEngine):
    """Leaves the database open for the next engine."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, f"recollect://{database.path}")

    def close(self) -> None:
        """Keep it open."""


class TestEmbeddedDatabase(EngineContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> EngineHarness:
        return Harness(tmp_path / "db")


def test_everything_in_the_database_is_a_collection(tmp_path: Path) -> None:
    with Database.open(tmp_path) as db:
        db.vectors.set_many(["b", 1], np.eye(2))
        db.events.add_many("c", ["i", "j"], [1, 2])
        db.state.set("ns", "a", "k", {"v": 1})
        db.state.delete("ns", "a", "k")
    engine = open_embedded_source(str(tmp_path), "recollect:///x")

    with engine.hold() as view:
        found = {
            name: [
                key
                for batch in view.scan(name, batch_rows=2)
                for key in decode_keys(batch.column(columns.KEY))
            ]
            for name in view.collections()
        }
    engine.close()

    assert found == {
        "events": ['["context","c"]', '["counters"]', '["item","i"]', '["item","j"]'],
        "state": ['["ns","a","k",1]', '["ns","a","k",2]'],
        "vectors": [1, "b"],
    }


def test_changes_since_a_position_come_from_the_log(tmp_path: Path) -> None:
    with Database.open(tmp_path) as db:
        engine = Shared(db)
        db.vectors.set_many([1, 2, 3], np.eye(3))
        db.state.set("ns", "a", "k", 1)
        with engine.hold() as view:
            position = view.describe("vectors").position
            unchanged = view.changed_since("vectors", position)
            assert unchanged is not None
            assert list(unchanged) == []
        db.vectors.delete(2)
        db.vectors.set(9, [1, 1, 1])
        db.vectors.set_metadata(1, {"x": 1})
        db.state.set("ns", "a", "k", 2)

        with engine.hold() as view:
            changes = view.changed_since("vectors", position)
            assert changes is not None
            (batch,) = changes
            state = view.changed_since("state", position)
            assert state is not None
            (versions,) = state
            events = view.changed_since("events", position)
            assert events is not None
            assert list(events) == []
            assert view.changed_since("vectors", "another-database:1") is None
        assert decode_keys(batch.column(columns.KEY)) == [1, 2, 9]
        assert batch.column(columns.OP).to_pylist() == [columns.UPSERT, columns.DELETE, columns.UPSERT]
        assert decode_keys(versions.column(columns.KEY)) == ['["ns","a","k",2]']

        db.vectors.clear()
        with engine.hold() as view:
            assert view.changed_since("vectors", position) is None


@given(
    events=st.lists(
        st.tuples(
            st.sampled_from([ADD, SET, DEL]),
            st.sampled_from(["c", "d", "e"]),
            st.sampled_from("abcdefgh"),
            st.integers(-3, 9),
        ),
        max_size=40,
    ),
    cut=st.integers(0, 40),
    options=st.sampled_from(
        [EventOptions(ctx_buffer_size=3), EventOptions(ctx_buffer_size=3, negative_signals=True)]
    ),
)
@settings(max_examples=60, deadline=None)
def test_changes_of_events_over_the_old_records_give_the_new_ones(
    events: list[tuple[int, str, str, int]], cut: int, options: EventOptions
) -> None:
    with (
        tempfile.TemporaryDirectory() as path,
        Database.open(path, fsync="off", options=DatabaseOptions(events=options)) as db,
    ):
        engine = Shared(db)
        taken = [
            Event(kind, context, item, score, 1000 * number)
            for number, (kind, context, item, score) in enumerate(events)
        ]
        db.events.append([Event(ADD, "c", "z", 1, 0), *taken[:cut]])
        with engine.hold() as view:
            position = view.describe("events").position
            found = contents(view.scan("events", batch_rows=5))
            assert view.describe("events").record_count == len(found)
        db.state.set("ns", "a", "k", 1)
        if taken[cut:]:
            db.events.append(taken[cut:])

        with engine.hold() as view:
            changes = view.changed_since("events", position)
            assert changes is not None
            for batch in changes:
                for key, payload, op in zip(
                    batch.column(columns.KEY).to_pylist(),
                    batch.column(columns.PAYLOAD).to_pylist(),
                    batch.column(columns.OP).to_pylist(),
                    strict=True,
                ):
                    if op == columns.UPSERT:
                        found[key] = payload
                    else:
                        found.pop(key, None)
            assert found == contents(view.scan("events", batch_rows=5))


def contents(batches: Iterator[pa.RecordBatch]) -> dict[bytes, bytes]:
    return {
        key: payload
        for batch in batches
        for key, payload in zip(
            batch.column(columns.KEY).to_pylist(), batch.column(columns.PAYLOAD).to_pylist(), strict=True
        )
    }


def test_a_backup_reads_of_events_only_what_changed(tmp_path: Path) -> None:
    with Database.open(tmp_path, fsync="off") as db:
        engine = Shared(db)
        db.events.append([Event(ADD, f"c{n // 5}", f"i{n}", 10, n) for n in range(500)])
        with engine.hold() as view:
            position = view.describe("events").position
        db.events.add("c7", "new", 10, timestamp=1000)
        with engine.hold() as view:
            changes = view.changed_since("events", position)
            assert changes is not None
            keys = [key for batch in changes for key in decode_keys(batch.column(columns.KEY))]
        items = [f'["item","i{n}"]' for n in range(35, 40)]
        assert keys == sorted(['["context","c7"]', '["counters"]', *items, '["item","new"]'])

        db.events.decay()
        with engine.hold() as view:
            assert view.changed_since("events", position) is None  # every weight is another one


def test_a_hold_is_one_commit(tmp_path: Path) -> None:
    with Database.open(tmp_path) as db:
        db.vectors.set_many([1, 2], [[1, 0], [0, 1]], [{"n": 1}, {"n": 2}])
        with Shared(db).hold() as view:
            db.vectors.set(1, [9, 9])
            db.vectors.delete(2)
            db.vectors.set(3, [8, 8])
            (batch,) = view.scan("vectors", batch_rows=10)
        assert decode_keys(batch.column(columns.KEY)) == [1, 2]
        assert batch.column(columns.vector_column("")).to_pylist() == [[1, 0], [0, 1]]


def test_events_and_state_are_not_restored_one_by_one(tmp_path: Path) -> None:
    engine = open_embedded_target(str(tmp_path), "recollect:///x")
    with pytest.raises(UnsupportedError, match="not replaced by itself") as caught:
        engine.stage("state", CollectionSchema(), ())
    assert "recollect recover" in caught.value.next_step
    engine.close()
    with pytest.raises(NotFoundError, match="no database"):
        open_embedded_source(str(tmp_path / "none"), "recollect:///x")
