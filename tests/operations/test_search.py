"""Search in a snapshot: exactly what a brute force over the live records finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from recollect.errors import NotFoundError, RequestError, UnsupportedError
from recollect.operations import search
from recollect.operations.search import Neighbour
from recollect.testing.driver import Driver
from recollect.testing.records import Row
from recollect.testing.strategies import EVERY_VECTOR
from recollect.values import batch as columns
from recollect.values.schema import CollectionSchema, Metric, VectorSpec

METRICS: list[Metric] = ["cosine", "dot", "euclid", "manhattan"]
DATATYPES: list[Any] = ["float32", "float16", "uint8", "int8"]
Floats = npt.NDArray[np.float64]


def scores(matrix: Floats, query: Floats, metric: Metric) -> Floats:
    """Compute what each metric means, plainly and in double precision."""
    if metric == "euclid":
        return np.array([np.sqrt(sum((row - query) ** 2)) for row in matrix])
    if metric == "manhattan":
        return np.array([sum(abs(row - query)) for row in matrix])
    products: Floats = np.array([row @ query for row in matrix])
    if metric == "dot":
        return products
    lengths: Floats = np.array([np.linalg.norm(row) * np.linalg.norm(query) or 1.0 for row in matrix])
    return products / lengths


def filled_with(driver: Driver, spec: VectorSpec, matrix: npt.NDArray[Any], *, extra: list[Row]) -> None:
    rows = [Row(id=at, payload={"n": at}, vectors={spec.name: row.tolist()}) for at, row in enumerate(matrix)]
    driver.create("c", CollectionSchema(vectors=(spec,)), [*rows, *extra])
    driver.backup()


def found(driver: Driver, query: Any, **options: Any) -> list[Neighbour]:
    [entry] = driver.catalog().find("latest").collections
    return search.run(driver.open(), entry, np.array(query, dtype=np.float32), **options)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("k", [1, 10, 1000])
def test_it_finds_what_a_brute_force_finds(driver: Driver, metric: Metric, datatype: Any, k: int) -> None:
    spec = VectorSpec(name="v", datatype=datatype, dimension=16, metric=metric)
    random = np.random.default_rng(11)
    drawn = random.standard_normal((300, 16)) if "float" in datatype else random.integers(0, 100, (300, 16))
    matrix = drawn.astype(columns.numpy_datatype(spec))
    filled_with(driver, spec, matrix, extra=[Row(id="has no vector")])
    query = matrix[17].astype(np.float64) + 0.25

    neighbours = found(driver, query, vector="v", k=k)

    expected = scores(matrix.astype(np.float64), query, metric)
    nearest = np.sort(expected if metric in {"euclid", "manhattan"} else -expected)[:k]
    ranks = [each.score if metric in {"euclid", "manhattan"} else -each.score for each in neighbours]
    assert len(neighbours) == min(k, 300)
    np.testing.assert_allclose(ranks, nearest, rtol=1e-4, atol=1e-4)
    for each in neighbours:
        assert isinstance(each.record_id, int)
        assert each.score == pytest.approx(expected[each.record_id], rel=1e-4, abs=1e-4)
        assert each.payload == f'{{"n":{each.record_id}}}'


def test_equal_scores_come_in_key_order_across_batches(driver: Driver) -> None:
    spec = VectorSpec(name="", dimension=2, metric="dot")
    filled_with(driver, spec, np.ones((9000, 2), dtype=np.float32), extra=[])

    assert [each.record_id for each in found(driver, [1, 1], k=5)] == [0, 1, 2, 3, 4]


def test_an_excluded_record_does_not_find_itself(driver: Driver) -> None:
    spec = VectorSpec(name="", dimension=2, metric="euclid")
    filled_with(driver, spec, np.array([[0, 0], [1, 0], [5, 0]], dtype=np.float32), extra=[])

    assert [each.record_id for each in found(driver, [1, 0], k=3)] == [1, 0, 2]
    assert [each.record_id for each in found(driver, [1, 0], k=3, exclude=1)] == [0, 2]
    assert [each.record_id for each in found(driver, [1, 0], k=3, exclude="nobody")] == [1, 0, 2]


@pytest.mark.parametrize("metric", METRICS)
def test_records_whose_vectors_have_no_score_are_left_out(driver: Driver, metric: Metric) -> None:
    spec = VectorSpec(name="", dimension=2, metric=metric)
    nan, inf = float("nan"), float("inf")
    matrix = np.array([[nan, 0], [3, 4], [nan, nan], [1, 1], [inf, -inf], [2, 2]], dtype=np.float32)
    filled_with(driver, spec, matrix, extra=[])

    for k in (2, 3, 6):
        neighbours = found(driver, [1, 1], k=k)
        ids = {each.record_id for each in neighbours}
        assert not ids & {0, 2}
        assert len(neighbours) >= min(k, 3)
        assert all(np.isfinite(each.score) for each in neighbours[:3])


def test_a_zero_vector_is_no_error_under_cosine(driver: Driver) -> None:
    spec = VectorSpec(name="", dimension=2, metric="cosine")
    filled_with(driver, spec, np.array([[0, 0], [1, 0]], dtype=np.float32), extra=[])

    assert [(each.record_id, each.score) for each in found(driver, [2, 0])] == [(1, 1.0), (0, 0.0)]


def test_deleted_and_changed_records_are_seen_as_the_snapshot_has_them(driver: Driver) -> None:
    spec = VectorSpec(name="", dimension=2, metric="euclid")
    filled_with(driver, spec, np.array([[0, 0], [1, 0], [2, 0]], dtype=np.float32), extra=[])
    driver.delete("c", [0])
    driver.upsert("c", [Row(id=2, payload={"moved": True}, vectors={"": [0.5, 0.0]})])
    driver.backup()

    neighbours = found(driver, [0, 0])

    assert [(each.record_id, each.score) for each in neighbours] == [(2, 0.5), (1, 1.0)]
    assert neighbours[0].payload == '{"moved":true}'


@pytest.mark.parametrize(
    ("query", "options", "words"),
    [
        ([1, 2, 3], {}, "3 elements; vector '' has 2 dimensions"),
        ([[1, 2]], {}, "dimensions"),
        ([1, float("nan")], {}, "NaN"),
        ([1, float("inf")], {}, "infinity"),
        ([1, 2], {"k": 0}, "k must be"),
        ([1, 2], {"vector": "nothing"}, "no vector 'nothing'"),
    ],
)
def test_a_wrong_question_is_refused(driver: Driver, query: Any, options: dict[str, Any], words: str) -> None:
    filled_with(driver, VectorSpec(name="", dimension=2, metric="dot"), np.ones((3, 2)), extra=[])

    with pytest.raises(RequestError, match=words):
        found(driver, query, **options)


@pytest.mark.parametrize("name", ["many", "words"])
def test_sparse_and_multi_vectors_are_refused(driver: Driver, name: str) -> None:
    driver.create("c", EVERY_VECTOR, [Row(id=1)])
    driver.backup()

    with pytest.raises(UnsupportedError, match="dense"):
        found(driver, [1, 2], vector=name)


def test_the_only_vector_needs_no_name(driver: Driver) -> None:
    driver.create(
        "c",
        CollectionSchema(vectors=(VectorSpec(name="text", dimension=2, metric="dot"),)),
        [Row(id=each, vectors={"text": [1.0, float(each)]}) for each in range(3)],
    )
    driver.backup()
    [entry] = driver.catalog().find("latest").collections

    assert [one.record_id for one in found(driver, [0.0, 1.0])] == [2, 1, 0]
    assert search.vector_of(driver.open(), entry, 2).tolist() == [1.0, 2.0]


# ---------------------------------------------------------------- the vector of one record


def test_the_vector_of_every_record_is_found_in_whatever_run_it_stands(wide: Driver) -> None:
    wide.upsert("wide", [Row(id=5, vectors={"v": [5.0] * 64}), Row(id=10**9, vectors={"v": [9.0] * 64})])
    wide.upsert("wide", [Row(id=6, payload={"only": "payload"}, vectors={"v": [6.0] * 64})])
    wide.backup()
    wide.upsert("wide", [Row(id=6, payload={"again": 1}, vectors={"v": [6.0] * 64}), Row(id=8)])
    wide.delete("wide", [7])
    wide.backup()
    [entry] = wide.catalog().find("latest").collections
    assert len(entry.runs) == 3

    for record_id, value in ((5, 5.0), (6, 6.0), (10**9, 9.0)):
        assert search.vector_of(wide.open(), entry, record_id, "v").tolist() == [value] * 64
    with pytest.raises(NotFoundError, match="no record 7"):
        search.vector_of(wide.open(), entry, 7, "v")
    with pytest.raises(NotFoundError, match="no record nobody"):
        search.vector_of(wide.open(), entry, "nobody", "v")
    with pytest.raises(NotFoundError, match="has no vector"):
        search.vector_of(wide.open(), entry, 8, "v")
