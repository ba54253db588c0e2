from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.database import Condition, Database
from recollect.database.planner import plain_schema
from recollect.database.search import search_exact, similarity
from recollect.database.vectors import BLOCK_ROWS, DELETED, VectorTable
from recollect.errors import ConflictError, NotFoundError, RequestError


def test_a_record_comes_back_with_its_vector_and_metadata(db: Database) -> None:
    db.vectors.set("a", [1.0, 0.5, -2.0], {"title": "one", "tags": [1, None]})

    record = db.vectors.get("a")

    assert record is not None
    assert record.vector.dtype == np.float32
    assert record.vector.tolist() == [1.0, 0.5, -2.0]
    assert record.metadata == {"title": "one", "tags": [1, None]}
    assert record.commit_ts == db.commit_ts == 1
    assert len(db.vectors) == 1
    assert "a" in db.vectors
    assert db.vectors.get("b") is None


def test_ids_keep_their_type(db: Database) -> None:
    identity = UUID(int=7)
    db.vectors.set_many(["1", 1, identity], np.eye(3))

    assert db.vectors.ids() == [1, identity, "1"]
    assert [record.vector.tolist() for record in db.vectors.records()] == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_changing_the_callers_array_later_changes_nothing(db: Database) -> None:
    vector = np.ones(4, dtype=np.float32)
    with db.begin() as transaction:
        transaction.vectors.set("a", vector)
        vector[:] = 0

    record = db.vectors.get("a")
    assert record is not None
    assert record.vector.tolist() == [1, 1, 1, 1]


def test_a_bulk_write_is_one_commit_and_the_last_of_equal_ids_stands(db: Database) -> None:
    commit_ts = db.vectors.set_many(["a", "b", "a"], [[1, 0], [0, 1], [2, 2]], [{"n": 1}, None, {"n": 3}])

    assert commit_ts == 1
    assert len(db.vectors) == 2
    record = db.vectors.get("a")
    assert record is not None
    assert record.vector.tolist() == [2, 2]
    assert record.metadata == {"n": 3}


def test_vector_and_metadata_can_be_replaced_apart(db: Database) -> None:
    db.vectors.set("a", [1, 0], {"n": 1})

    db.vectors.set_vector("a", [0, 1])
    assert db.vectors.set_metadata("a", {"n": 2})
    assert not db.vectors.set_metadata("b", {"n": 2})

    record = db.vectors.get("a")
    assert record is not None
    assert (record.vector.tolist(), record.metadata) == ([0, 1], {"n": 2})
    assert "b" not in db.vectors


def test_delete_says_whether_there_was_one(db: Database) -> None:
    db.vectors.set_many([1, 2, 3], np.eye(3))

    assert db.vectors.delete(1)
    assert not db.vectors.delete(1)
    assert db.vectors.delete_many([2, 3, 4]) == 2
    assert len(db.vectors) == 0
    assert db.vectors.search([1, 0, 0], 5) == []


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([1.0, 2.0], "Vector dimension mismatch: expected 3, got 2"),
        ([1.0, float("nan"), 0.0], "NaN"),
        ([1.0, float("inf"), 0.0], "infinity"),
        ([], "dimensions"),
        ([[1.0, 2.0, 3.0]], "one row"),
        (["x", "y", "z"], "row of numbers"),
    ],
)
def test_a_bad_vector_is_refused_and_uses_up_no_commit(db: Database, vector: object, message: str) -> None:
    db.vectors.set("a", [1, 0, 0])

    with pytest.raises(RequestError, match=message):
        db.vectors.set("b", vector)  # type: ignore[arg-type]

    assert db.commit_ts == 1
    assert len(db.vectors) == 1


def test_metadata_that_json_cannot_carry_is_refused(db: Database) -> None:
    with pytest.raises(RequestError, match="NaN"):
        db.vectors.set("a", [1], {"x": float("nan")})
    with pytest.raises(RequestError, match="2 metadata for 1 ids"):
        db.vectors.set_many(["a"], [[1]], [None, None])
    with pytest.raises(RequestError, match="2 vectors for 1 ids"):
        db.vectors.set_many(["a"], [[1], [2]])
    assert db.commit_ts == 0


def test_search_orders_by_score_then_id(db: Database) -> None:
    db.vectors.set_many(["c", "b", "a", "z"], [[0, 2], [0, 1], [1, 0], [0, 0]])

    found = db.vectors.search([0, 5], 4)

    assert [(match.id, match.score) for match in found] == [("b", 1.0), ("c", 1.0), ("a", 0.0), ("z", 0.0)]
    assert [match.id for match in db.vectors.search([0, 5], 1, exclude="b")] == ["c"]


def test_search_filters_by_metadata(db: Database) -> None:
    db.vectors.set_many(
        [1, 2, 3, 4],
        [[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3]],
        [{"n": 1, "kind": "x"}, {"n": 2, "kind": "y"}, {"n": 3.5, "kind": "x", "ok": True}, None],
    )

    def ids(conditions: object) -> list[object]:
        return [match.id for match in db.vectors.search([1, 0], 10, conditions)]  # type: ignore[arg-type]

    assert ids({"kind": "x"}) == [1, 3]
    assert ids({"kind": "x", "n": 1}) == [1]
    assert ids([Condition("n", ">=", 2)]) == [2, 3]
    assert ids([Condition("n", "<", 2), Condition("kind", "=", "x")]) == [1]
    assert ids([Condition("kind", "!=", "x")]) == [2, 4]
    assert ids([Condition("kind", "in", ["y", "z"])]) == [2]
    assert ids({"ok": 1}) == []
    assert ids([Condition("kind", ">", 1)]) == []
    with pytest.raises(RequestError, match="not a filter operator"):
        ids([Condition("n", "~", 1)])  # type: ignore[arg-type]


def test_a_query_of_another_dimension_is_refused(db: Database) -> None:
    db.vectors.set("a", [1, 0, 0])

    with pytest.raises(RequestError, match="Query vector dimension mismatch: expected 3, got 2"):
        db.vectors.search([1, 0], 1)
    with pytest.raises(RequestError, match="k must be positive"):
        db.vectors.search([1, 0, 0], 0)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclid"])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60), k=st.integers(1, 70))
def test_exact_search_agrees_with_the_definition(metric: str, seed: int, count: int, k: int) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.integers(-2, 3, size=(count, 3)).astype(np.float32)  # many equal rows and zero rows
    table = VectorTable(plain_schema(3, metric))  # type: ignore[arg-type]
    keys = [b"\x30%03d" % number for number in generator.permutation(count)]
    table.set_rows(keys, rows, [None] * count, 1)
    query = np.array([1, 2, 0], dtype=np.float32)

    found = search_exact(table.pin(), query, k=k, metric=metric, conditions=())  # type: ignore[arg-type]

    scores = similarity(rows, query, metric)  # type: ignore[arg-type]
    expected = sorted(zip(keys, scores, strict=True), key=lambda pair: (-pair[1], pair[0]))[:k]
    assert [(hit.key, hit.score) for hit in found] == expected


def test_a_view_keeps_its_rows_while_they_are_overwritten_and_deleted() -> None:
    table = VectorTable(plain_schema(2, "cosine"))
    table.set_rows([b"a", b"b"], np.eye(2, dtype=np.float32), [b"1", b"2"], 1)
    view = table.pin()
    slots = view.live_slots()

    for turn in range(10):
        table.set_rows([b"a"], np.full((1, 2), turn, dtype=np.float32), [b"x"], 2)
    table.delete([b"b"])
    table.set_rows([b"c", b"d"], np.full((2, 2), 9, dtype=np.float32), [None, None], 3)

    assert view.vectors(slots).tolist() == [[1, 0], [0, 1]]
    assert [view.metadata[slot] for slot in slots] == [b"1", b"2"]
    assert [view.keys[slot] for slot in slots] == [b"a", b"b"]


def test_freed_slots_are_used_again_once_nobody_looks() -> None:
    table = VectorTable(plain_schema(2, "cosine"))
    row = np.ones((1, 2), dtype=np.float32)
    for turn in range(3 * BLOCK_ROWS):
        table.set_rows([b"a"], row, [None], turn)

    view = table.pin()

    assert len(view.blocks) == 1
    assert len(view.live_slots()) == 1


def test_frozen_changes_are_those_since_the_last_settled_freeze() -> None:
    table = VectorTable(plain_schema(2, "cosine"))
    rows = np.eye(2, dtype=np.float32)
    table.set_rows([b"a", b"b"], rows, [None, None], 1)
    first = table.freeze()
    table.unpin()
    table.set_rows([b"c"], rows[:1], [None], 2)
    table.delete([b"a"])
    second = table.freeze()  # the first one failed, so its changes are in the second
    table.unpin()

    assert {key for key, _ in first.changes} == {b"a", b"b"}
    changes = dict(second.changes)
    assert changes.keys() == {b"a", b"b", b"c"}
    assert changes[b"a"] == DELETED

    table.settle(second.changes)
    table.set_metadata([b"c"], [b"{}"], 3)
    assert list(dict(table.freeze().changes)) == [b"c"]


def test_collections_are_created_switched_and_dropped(db: Database) -> None:
    db.vectors.set("a", [1, 0])
    staged = db.create_collection("staged", plain_schema(3, "dot"))
    staged.set("b", [1, 2, 3])

    db.switch_collection("staged", new_name="vectors")

    assert db.collections() == ["vectors"]
    assert db.vectors.ids() == ["b"]
    assert db.vectors.search([1, 0, 0], 1)[0].score == 1.0
    db.drop_collection("vectors")
    assert db.collections() == []
    with pytest.raises(NotFoundError, match="no vector collection 'vectors'"):
        db.drop_collection("vectors")
    with pytest.raises(RequestError, match="another store"):
        db.collection("state")
    db.create_collection("x", plain_schema(1, "dot"))
    with pytest.raises(ConflictError, match="already"):
        db.create_collection("x", plain_schema(1, "dot"))


def test_a_freed_database_is_closed_and_holds_nothing(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "db")
    database.vectors.set_many(list(range(5000)), np.ones((5000, 2), dtype=np.float32))

    database.free()

    assert len(database.vectors) == 0
    with Database.open(tmp_path / "db") as again:
        assert len(again.vectors) == 5000


def test_freeing_leaves_alone_what_somebody_reads(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "db")
    database.vectors.set_many(list(range(50)), np.ones((50, 2), dtype=np.float32))
    with database.vectors.hold() as held:
        database.free()
        assert held.batch(held.slots).vectors.sum() == 100
