"""Export: one ordinary Parquet file, complete or not there, that others read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow.parquet as pq
import pytest

from recollect.errors import ConflictError, IntegrityError, NotFoundError
from recollect.operations import export
from recollect.operations.export import ExportReport
from recollect.repository import layout
from recollect.testing.driver import Driver
from recollect.testing.records import Row
from recollect.testing.strategies import EVERY_VECTOR, SOME_VECTORS
from recollect.values.schema import CollectionSchema, VectorSpec

ROWS = [
    Row(
        id=2**64 - 1,
        payload={"n": 2**63, "s": "a\0é", "x": None},
        vectors={
            "": [1.5, -0.0, 3e38],
            "bytes": [0, 1, 2, 255],
            "halves": [0.5, 65504.0],
            "many": [[1.0, 2.0], [3.0, 4.0]],
            "signed": [-128, 127],
            "words": {7: 0.5, 3: -1.25},
        },
    ),
    Row(id=0, payload={}),
    Row(id=5, payload=None, vectors={"many": [], "words": {}}),
]


def exported(driver: Driver, path: Path) -> ExportReport:
    [entry] = driver.catalog().find("latest").collections
    return export.run(driver.open(), entry, path)


@pytest.fixture
def file(driver: Driver, tmp_path: Path) -> Path:
    driver.create("c", EVERY_VECTOR, ROWS)
    driver.backup()
    report = exported(driver, tmp_path / "out.parquet")
    assert report.record_count == 3
    assert report.byte_size == (tmp_path / "out.parquet").stat().st_size
    return tmp_path / "out.parquet"


def test_pyarrow_reads_every_value_as_it_was(file: Path) -> None:
    table = pq.read_table(file)

    names = ["bytes", "halves", "many", "signed", "words"]
    assert table.column_names == ["id", "payload", "vector", *(f"vector_{name}" for name in names)]
    rows = {row["id"]: row for row in table.to_pylist()}
    assert list(rows) == [0, 5, 2**64 - 1]
    full = rows[2**64 - 1]
    assert full["payload"] == '{"n":9223372036854775808,"s":"a\\u0000é","x":null}'
    assert np.array(full["vector"], "<f4").tobytes() == np.array([1.5, -0.0, 3e38], "<f4").tobytes()
    assert full["vector_bytes"] == [0, 1, 2, 255]
    assert [float(each) for each in full["vector_halves"]] == [0.5, 65504.0]
    assert full["vector_many"] == [[1.0, 2.0], [3.0, 4.0]]
    assert full["vector_signed"] == [-128, 127]
    assert full["vector_words"] == [{"index": 3, "value": -1.25}, {"index": 7, "value": 0.5}]
    assert (rows[0]["payload"], rows[5]["payload"]) == ("{}", None)
    assert (rows[0]["vector_many"], rows[5]["vector_many"]) == (None, [])


def test_duckdb_reads_it(file: Path) -> None:
    selected = duckdb.sql(
        f"SELECT id, payload, vector, vector_bytes, vector_many, vector_words FROM '{file}' ORDER BY id DESC"  # noqa: S608
    )
    assert selected is not None
    found = selected.fetchall()

    assert found[0][0] == 2**64 - 1
    assert found[0][2][0] == 1.5
    assert list(found[0][3]) == [0, 1, 2, 255]
    assert [list(row) for row in found[0][4]] == [[1.0, 2.0], [3.0, 4.0]]
    assert found[0][5] == [{"index": 3, "value": -1.25}, {"index": 7, "value": 0.5}]
    assert [row[1] for row in found[1:]] == [None, "{}"]


def test_polars_reads_it(file: Path) -> None:
    frame = pl.read_parquet(file)

    assert frame["id"].to_list() == [0, 5, 2**64 - 1]
    assert frame["payload"].to_list()[:2] == ["{}", None]
    assert frame["vector"].to_list()[2][0] == 1.5
    assert frame["vector_many"].to_list()[2] == [[1.0, 2.0], [3.0, 4.0]]


def test_pandas_reads_it(file: Path) -> None:
    frame = pd.read_parquet(file).set_index("id")

    assert list(frame.index) == [0, 5, 2**64 - 1]
    assert frame["payload"][0] == "{}"
    assert frame["payload"].isna().tolist() == [False, True, False]
    assert frame["vector"][2**64 - 1][0] == 1.5
    assert [row.tolist() for row in frame["vector_many"][2**64 - 1]] == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([3, 1, 2], [1, 2, 3]),
        ([-5, 3], ["-5", "3"]),
        (["b", "a"], ["a", "b"]),
        ([2**64 - 1, "7"], ["18446744073709551615", "7"]),
        ([], []),
    ],
)
def test_ids_are_numbers_where_all_of_them_are(
    driver: Driver, tmp_path: Path, ids: list[Any], expected: list[Any]
) -> None:
    driver.create("c", SOME_VECTORS, [Row(id=each) for each in ids])
    driver.backup()

    exported(driver, tmp_path / "out.parquet")

    assert pq.read_table(tmp_path / "out.parquet").column("id").to_pylist() == expected


def test_it_holds_the_newest_state_of_many_runs(filled: Driver, tmp_path: Path) -> None:
    [docs] = [entry for entry in filled.catalog().find("latest").collections if entry.name == "docs"]
    assert len(docs.runs) > 1

    export.run(filled.open(), docs, tmp_path / "out.parquet")

    table = pq.read_table(tmp_path / "out.parquet")
    payloads = dict(zip(table.column("id").to_pylist(), table.column("payload").to_pylist(), strict=True))
    assert 7 not in payloads
    assert payloads[3] == '{"n":"changed"}'
    assert payloads[99] == "{}"
    assert len(payloads) == 30


def test_vector_names_never_collide(driver: Driver, tmp_path: Path) -> None:
    names = ["", "a", "vector", "vector_a", "_"]
    specs = tuple(VectorSpec(name=name, dimension=1, metric="dot") for name in sorted(names))
    driver.create("c", CollectionSchema(vectors=specs), [Row(id=1)])
    driver.backup()

    report = exported(driver, tmp_path / "out.parquet")

    assert len(set(report.columns)) == len(names) + 2


def test_an_existing_file_is_never_overwritten(file: Path, driver: Driver) -> None:
    before = file.read_bytes()

    with pytest.raises(ConflictError, match="exists"):
        exported(driver, file)

    assert file.read_bytes() == before


def test_a_failed_export_leaves_no_file(driver: Driver, tmp_path: Path) -> None:
    driver.create("c", EVERY_VECTOR, ROWS)
    driver.backup()
    [entry] = driver.catalog().find("latest").collections
    driver.store.delete(layout.object_key(entry.runs[0][0].vectors["many"].digest))

    with pytest.raises(IntegrityError):
        exported(driver, tmp_path / "out.parquet")

    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_reported(file: Path, driver: Driver) -> None:
    with pytest.raises(NotFoundError, match="no-such-directory"):
        exported(driver, file.parent / "no-such-directory" / "out.parquet")
