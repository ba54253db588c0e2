"""The index that the database makes of a large collection by itself, over real embeddings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recollect.database import Condition, Database, DatabaseOptions, VectorOptions
from recollect.database.indexer import Indexer
from recollect.errors import UnavailableError
from recollect.testing.sample import load_sample

pytest.importorskip("usearch", reason="usearch is not installed")

SAMPLE = load_sample()
OPTIONS = DatabaseOptions(vectors=VectorOptions(hnsw_row_count_min=300))
OTHERS = np.random.default_rng(3).normal(size=(200, 384)).astype(np.float32)


def opened(path: Path) -> Database:
    return Database.open(path, fsync="off", options=OPTIONS)


def build(database: Database) -> None:
    """Let the database build what it needs; waits for its own thread if that has begun."""
    assert database._indexer is not None
    database._indexer.build_due()


def found(database: Database, query: np.ndarray, k: int) -> list[object]:
    return [match.id for match in database.vectors.search(query, k)]


def exact(database: Database, query: np.ndarray, k: int) -> list[object]:
    """Search without the index: a filter that all records meet is judged record by record."""
    hits = database.vectors.search(query, k, [Condition("none", "!=", 1)])
    return [match.id for match in hits]


def recall(database: Database, k: int = 10) -> float:
    queries = SAMPLE.vectors[::5] + OTHERS[0] * 0.002
    shares = [len({*found(database, query, k)} & {*exact(database, query, k)}) / k for query in queries]
    return float(np.mean(shares))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(tmp_path / "db") as database:
        database.vectors.set_many(SAMPLE.ids, SAMPLE.vectors, SAMPLE.payloads)
        build(database)
        yield database


def searches_of_the_graph(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the count asked for with every search of the present graph."""
    index = database.vectors.index
    assert index is not None
    asked: list[int] = []
    search = index.search

    def counted(query: np.ndarray, count: int) -> object:
        asked.append(count)
        return search(query, count)

    monkeypatch.setattr(index, "search", counted)
    return asked


def test_a_collection_below_the_size_is_searched_exactly(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as database:
        database.vectors.set_many(SAMPLE.ids[:299], SAMPLE.vectors[:299])
        build(database)
        assert database.vectors.index is None

        database.vectors.set(300, SAMPLE.vectors[299])
        build(database)
        assert database.vectors.index is not None


def test_a_search_goes_through_the_graph_and_one_with_a_filter_does_not(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = searches_of_the_graph(database, monkeypatch)

    assert found(database, SAMPLE.vectors[9], 1) == [10]
    assert len(asked) == 1
    topic = SAMPLE.payloads[9]["topic"]
    hits = database.vectors.search(SAMPLE.vectors[9], 20, {"topic": topic})
    assert len(asked) == 1
    similar = [
        number for number, payload in zip(SAMPLE.ids, SAMPLE.payloads, strict=True)
        if payload["topic"] == topic
    ]  # fmt: skip
    scores = SAMPLE.vectors.astype(np.float64) @ SAMPLE.vectors[9].astype(np.float64)
    scores /= np.linalg.norm(SAMPLE.vectors.astype(np.float64), axis=1)
    best = sorted(similar, key=lambda number: -scores[number - 1])[:20]
    assert [hit.id for hit in hits] == best


@pytest.mark.parametrize("k", [10, 100])
def test_recall_stays_after_updates_and_deletes(
    database: Database, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    assert recall(database, k) >= 0.95

    # No new index from here on: the old one has to cope.
    monkeypatch.setattr(Indexer, "note_commit", lambda _self: None)
    database.vectors.delete_many(SAMPLE.ids[::3])
    database.vectors.set_many(SAMPLE.ids[1:80:3], SAMPLE.vectors[300:381:3])
    database.vectors.set("new", SAMPLE.vectors[0])
    asked = searches_of_the_graph(database, monkeypatch)

    assert recall(database, k) >= 0.95
    assert asked
    assert min(asked) > max(k, 64), "dead rows of the graph are asked for on top"
    assert "new" in found(database, SAMPLE.vectors[0], 1)
    deleted = {*SAMPLE.ids[::3]}
    for number in range(0, 600, 7):
        assert not deleted & {*found(database, SAMPLE.vectors[number], 20)}


def test_after_a_tenth_of_the_rows_changed_the_index_is_built_anew(database: Database) -> None:
    first = database.vectors.index
    assert first is not None
    database.vectors.set_many(SAMPLE.ids[:60], SAMPLE.vectors[60:120])
    build(database)
    assert database.vectors.index is first

    database.vectors.set_many(SAMPLE.ids[60:70], SAMPLE.vectors[:10])
    build(database)
    second = database.vectors.index
    assert second is not None
    assert second is not first
    assert [path for path in first.path.parent.iterdir() if path.suffix == ".usearch"] == [second.path]
    assert recall(database) >= 0.95


def test_when_most_of_the_graph_is_gone_the_search_is_exact(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Indexer, "note_commit", lambda _self: None)
    asked = searches_of_the_graph(database, monkeypatch)
    database.vectors.delete_many(SAMPLE.ids[:330])

    assert recall(database) == 1.0
    assert asked == []


def test_every_opening_builds_its_own_index_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with opened(path) as database:
        database.vectors.set_many(SAMPLE.ids, SAMPLE.vectors)
        build(database)
        assert list((path / "index").iterdir())
    assert list((path / "index").iterdir()) == []
    (path / "index" / "9.usearch").write_bytes(b"left by a process that died")

    with opened(path) as database:
        assert not (path / "index" / "9.usearch").exists()
        build(database)
        assert database.vectors.index is not None
    with Database.open(path, read_only=True, options=OPTIONS) as database:
        assert found(database, SAMPLE.vectors[4], 1) == [5]
        assert database.vectors.index is None


def test_a_dropped_index_does_not_come_back_by_itself(database: Database) -> None:
    database.vectors.drop_index()
    database.vectors.set_many(SAMPLE.ids, SAMPLE.vectors)
    build(database)

    assert database.vectors.index is None


def test_an_index_that_cannot_be_written_leaves_the_search_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Indexer, "note_commit", lambda _self: None)
    with opened(tmp_path / "db") as database:
        (tmp_path / "db" / "index").write_text("not a directory")
        database.vectors.set_many(SAMPLE.ids, SAMPLE.vectors)
        with pytest.raises(UnavailableError, match="cannot write the index"):
            build(database)

        assert found(database, SAMPLE.vectors[4], 1) == [5]
        build(database)
        assert database.vectors.index is None


def test_a_program_that_ends_while_an_index_is_built_ends_well(tmp_path: Path) -> None:
    program = (
        "import sys, time, numpy as np\n"
        "from recollect.database import Database, DatabaseOptions, VectorOptions\n"
        "options = DatabaseOptions(vectors=VectorOptions(hnsw_row_count_min=1000))\n"
        "database = Database.open(sys.argv[1], fsync='off', options=options)\n"
        "rows = np.random.default_rng(1).normal(size=(20_000, 96)).astype(np.float32)\n"
        "database.vectors.set_many([*range(len(rows))], rows)\n"
        "time.sleep(0.3)\n"  # into the middle of the build, which takes a second
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "data")], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    with Database.open(tmp_path / "data") as again:
        assert len(again.vectors) == 20_000
