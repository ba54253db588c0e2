"""The HNSW index: a mapped file that knows which rows it speaks of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recollect.database import Database, DatabaseOptions, VectorOptions
from recollect.errors import IntegrityError, RequestError

pytest.importorskip("usearch", reason="usearch is not installed")

_GENERATOR = np.random.default_rng(5)
_VECTORS = _GENERATOR.normal(size=(600, 16)).astype(np.float32)
_IDS = [f"id-{number}" for number in range(600)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(tmp_path / "db", fsync="off") as opened:
        opened.vectors.set_many(_IDS, _VECTORS)
        opened.vectors.build_index(tmp_path / "vectors.usearch")
        yield opened


def _found(database: Database, query: np.ndarray, k: int = 10) -> list[object]:
    return [match.id for match in database.vectors.search(query, k)]


def _recall(database: Database) -> float:
    queries = _VECTORS[:50] + 0.05
    approximate = [_found(database, query) for query in queries]
    index = database.vectors.index
    database.vectors.drop_index()
    exact = [_found(database, query) for query in queries]
    assert index is not None
    return float(
        np.mean([len({*one} & {*other}) / 10 for one, other in zip(approximate, exact, strict=True)])
    )


def test_a_search_by_the_graph_finds_nearly_all_of_what_an_exact_one_finds(database: Database) -> None:
    assert _recall(database) > 0.95


def test_a_row_that_was_written_after_the_index_is_found(database: Database) -> None:
    database.vectors.set("new", _VECTORS[3])

    assert set(_found(database, _VECTORS[3], 2)) == {"id-3", "new"}


def test_an_overwritten_row_is_found_where_it_is_now_and_not_where_it_was(database: Database) -> None:
    database.vectors.set("id-3", _VECTORS[77])

    assert _found(database, _VECTORS[3], 1) != ["id-3"]
    assert set(_found(database, _VECTORS[77], 2)) == {"id-3", "id-77"}


def test_a_deleted_row_is_not_found_also_when_its_slot_was_given_out_again(database: Database) -> None:
    database.vectors.delete("id-3")
    database.vectors.set("other", -_VECTORS[3])

    assert "other" not in _found(database, _VECTORS[3], 20)
    assert "id-3" not in _found(database, _VECTORS[3], 20)
    assert _found(database, -_VECTORS[3], 1) == ["other"]


def test_with_many_unknown_rows_or_a_filter_the_search_is_exact(database: Database) -> None:
    database.vectors.set_many(
        [f"b-{number}" for number in range(400)], _VECTORS[:400] + 0.001, [{"b": 1}] * 400
    )

    assert _found(database, _VECTORS[5], 2) == ["id-5", "b-5"]
    assert [match.id for match in database.vectors.search(_VECTORS[5], 1, {"b": 1})] == ["b-5"]


def test_all_metrics_find_the_row_itself_first(tmp_path: Path) -> None:
    unit = _VECTORS / np.linalg.norm(_VECTORS, axis=1, keepdims=True)
    for metric in ("cosine", "dot", "euclid"):
        options = DatabaseOptions(vectors=VectorOptions(metric=metric))
        with Database.open(tmp_path / metric, fsync="off", options=options) as opened:
            opened.vectors.set_many(_IDS, unit)
            opened.vectors.build_index(tmp_path / f"{metric}.usearch")
            opened.vectors.set("fresh", unit[1])
            assert _found(opened, unit[9], 1) == ["id-9"]
            assert set(_found(opened, unit[1], 2)) == {"fresh", "id-1"}


def test_a_damaged_index_file_is_refused_and_the_search_stays_as_it_was(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "broken").write_bytes(b"usearch?" * 40)

    with pytest.raises(IntegrityError, match="broken"):
        database.vectors.attach_index(tmp_path / "broken", [None] * 3)

    assert _found(database, _VECTORS[5], 1) == ["id-5"]


def test_a_collection_that_does_not_exist_cannot_have_an_index(tmp_path: Path) -> None:
    with (
        Database.open(tmp_path / "db", fsync="off") as opened,
        pytest.raises(RequestError, match="no collection"),
    ):
        opened.vectors.build_index(tmp_path / "file")


def test_a_held_collection_does_not_see_later_writes(database: Database) -> None:
    with database.vectors.hold() as held:
        database.vectors.clear()
        database.vectors.set_many(_IDS, -_VECTORS)

        batch = held.batch(held.slots)
        assert len(held) == 600
        assert {key: row.tobytes() for key, row in zip(batch.keys, batch.vectors, strict=True)} == {
            b"\x30" + name.encode(): row.tobytes() for name, row in zip(_IDS, _VECTORS, strict=True)
        }
