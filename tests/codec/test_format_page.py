"""The page of Python in docs/format.md reads what we write, with pyarrow, NumPy and zstandard alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recollect.codec.rows import rows_of_array
from recollect.codec.segment import encode_segment
from recollect.codec.vector_column import encode_vector_column
from recollect.testing.records import Row, build_records
from recollect.testing.strategies import EVERY_VECTOR
from recollect.values import batch as columns
from recollect.values.digest import digest_records
from recollect.values.schema import VectorSpec
from tests.codec.changes import changes_of
from tests.codec.columns import FAMILIES, SPECS, column

PAGE = Path(__file__).parents[2] / "docs" / "format.md"
IMPORTS = ["pathlib", "struct", "numpy", "pyarrow", "zstandard"]


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    assert re.findall(r"^(?:import|from) (\w+)", blocks[0], re.MULTILINE) == IMPORTS
    names: dict[str, Any] = {}
    exec(compile(blocks[0], str(PAGE), "exec"), names)  # noqa: S102  that the page runs is what is tested
    return names


def flat(rows: list[Any], spec: VectorSpec) -> list[bytes]:
    if spec.kind == "sparse":
        return [b"".join(row[0].tobytes() for row in rows), b"".join(row[1].tobytes() for row in rows)]
    return [b"".join(row.tobytes() for row in rows)]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_page_reads_every_vector_column(page: dict[str, Any], spec: VectorSpec, tmp_path: Path) -> None:
    for family in FAMILIES:
        values = column(spec, family, 900, seed=11)
        (tmp_path / "column").write_bytes(encode_vector_column(values, spec))
        expected = rows_of_array(values, spec)

        rows = page["read_vector_column"](tmp_path / "column")

        assert len(rows) == 900
        arrays = [expected.values] if expected.indices is None else [expected.indices, expected.values]
        assert flat(rows, spec) == [array.tobytes() for array in arrays]
        if expected.counts is not None:
            items = [len(row[0]) if spec.kind == "sparse" else len(row) for row in rows]
            assert items == expected.counts.tolist()


def test_the_page_reads_a_segment(page: dict[str, Any], tmp_path: Path) -> None:
    rows = [
        Row(
            id=number,
            payload={"n": number},
            vectors={"": [number, -0.0, 0.5], "many": [[1, 2]] * (number % 3), "words": {number: 0.25}},
        )
        for number in range(60)
    ]
    changes = changes_of(
        digest_records(build_records(EVERY_VECTOR, rows), EVERY_VECTOR), EVERY_VECTOR, seed=2
    )
    segment = encode_segment(changes, EVERY_VECTOR)
    (tmp_path / "index.parquet").write_bytes(segment.index)
    paths = {}
    for number, (name, data) in enumerate(segment.vectors.items()):
        paths[name] = tmp_path / str(number)
        paths[name].write_bytes(data)

    found = list(page["read_segment"](tmp_path / "index.parquet", paths))

    assert len(found) == 60
    for row, expected in zip(found, pa.Table.from_batches([changes]).to_pylist(), strict=True):
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            assert plain(row[name], name) == value, name
        assert (row[columns.OP] == columns.DELETE) == (expected[columns.OP] == columns.DELETE)


def plain(value: Any, name: str) -> Any:
    if value is None or not name.startswith(columns.VECTOR_PREFIX):
        return value
    if isinstance(value, tuple):
        return [{"index": int(index), "value": float(item)} for index, item in zip(*value, strict=True)]
    return np.asarray(value).tolist()
